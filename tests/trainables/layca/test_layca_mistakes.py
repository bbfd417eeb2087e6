"""What cannot be used with Layca is refused in one line."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD
from turned_net import net

from trainables import Layca, alpha_rates
from tuner.errors import InvalidInput


def base(**changes: object) -> SGD:
    return SGD(net().named_parameters(), **{"lr": 0.1, **changes})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Layca(net()), "base must be a torch optimizer other than Layca, got Sequential"),
        (lambda: Layca(Layca(base())), "base must be a torch optimizer other than Layca, got La"),
        (lambda: Layca(LBFGS(net().parameters())), "step without a closure, got LBFGS"),
        (lambda: Layca(base(), rate=0), "rate must be a number > 0, or None, got 0; 3**-3 suits"),
        (lambda: Layca(base(), rate=True), "rate must be a number > 0, or None, got True"),
        (lambda: Layca(base(), rate="fast"), "rate must be a number > 0, or None, got 'fast'"),
        (lambda: Layca(base(), rate=float("nan")), "rate must be a number > 0, or None, got nan"),
        (lambda: Layca(base(), others="ignore"), "others must be 'train' or 'freeze', got 'ignor"),
        (lambda: Layca(base(lr=0.0), rate=1), "a group's lr must be > 0 for a rate to go by, got"),
        (lambda: Layca(base(), layer_rates=[1]), "one number for each of the 2 layers, got 1; bi"),
        (lambda: Layca(base(), layer_rates=[1, -1]), "each be a number >= 0, got -1 for number 1"),
        (lambda: Layca(base(), layer_rates="0.5"), "layer_rates must be a sequence or a mapping"),
        (lambda: Layca(base(), layer_rates={"9.*": 1}), "pattern '9.*' matches no layer; known: 0"),
        (lambda: Layca(base(), layer_rates={"*": None}), "each be a number >= 0, got None for '*'"),
        (
            lambda: Layca(SGD(net().parameters(), lr=0.1), layer_rates={"*": 1}),
            "needs layers with names, got ['*'] and layers without names; give the base optimizer",
        ),
        (lambda: Layca(SGD([nn.Parameter(torch.ones(3))])), "two or more dimensions, got none; g"),
        (
            lambda: Layca(SGD([nn.Parameter(torch.ones(3, 3, dtype=torch.complex64))])),
            "a kernel must be real, one is complex; train it with another optimizer",
        ),
        (
            lambda: Layca(SGD(nn.LazyLinear(3).parameters())),
            "every parameter must have its shape, one has none yet; run one batch",
        ),
        (lambda: alpha_rates(1, 3), "alpha must be a number in (-1, 1), got 1; use 0 for the same"),
        (lambda: alpha_rates(-1.0, 3), "alpha must be a number in (-1, 1), got -1.0"),
        (lambda: alpha_rates(0.5, 0), "layers must be a whole number >= 1, got 0; count the kern"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_a_mistake_is_one_line_with_rule_value_and_remedy(make, says):
    with pytest.raises(InvalidInput) as raised:
        make()
    assert says in str(raised.value)
    assert ";" in str(raised.value)
    assert "\n" not in str(raised.value)
