"""What can be given to Layca: the rules, and which parameters are kernels."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from tuner.errors import InvalidInput

OTHERS = ("train", "freeze")


def check(base: Any, rate: Any, others: Any, wrapper: type[Optimizer]) -> None:
    """Raise `InvalidInput` for the first argument of `wrapper`, a Layca, that breaks its rule."""
    if not isinstance(base, Optimizer) or isinstance(base, wrapper):
        raise InvalidInput(
            f"base must be a torch optimizer other than Layca, got {type(base).__name__}; "
            "use Layca(torch.optim.SGD(model.parameters(), lr=0.1))"
        )
    closure = inspect.signature(base.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise InvalidInput(
            f"base must step without a closure, got {type(base).__name__}, which needs one; "
            "use an optimizer such as SGD or Adam"
        )
    if rate is not None and (
        not isinstance(rate, Real) or isinstance(rate, bool) or not 0 < float(rate) < math.inf
    ):
        raise InvalidInput(
            f"rate must be a number > 0, or None, got {rate!r}; 3**-3 suits SGD, 3**-5 Adam"
        )
    if others not in OTHERS:
        raise InvalidInput(
            f"others must be 'train' or 'freeze', got {others!r}; leave it out for 'train'"
        )


def kernels_of(group: Mapping[str, Any]) -> list[tuple[Tensor, str | None]]:
    """Return a group's parameters of two or more dimensions, each with its name or None.

    Raises `InvalidInput` for a parameter that has no shape yet, or a complex kernel.
    """
    names: Sequence[str | None] = group.get("param_names") or [None] * len(group["params"])
    found = []
    for parameter, name in zip(group["params"], names, strict=True):
        if is_lazy(parameter):
            raise InvalidInput(
                f"every parameter must have its shape, {name or 'one'} has none yet; "
                "run one batch through the model first"
            )
        if parameter.requires_grad and parameter.ndim >= 2:
            if parameter.is_complex():
                raise InvalidInput(
                    f"a kernel must be real, {name or 'one'} is complex; "
                    "train it with an optimizer of its own"
                )
            found.append((parameter, name))
    return found
