"""How far an optimizer's first steps go while the gradient stays the same."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from trainables.training.optimizers import build_optimizer
from tuner.rate_finder.probes import update_magnitudes

STEPS = np.arange(1, 21)


def built(optimizer: str, **config) -> torch.optim.Optimizer:
    model = nn.Linear(3, 2)
    return build_optimizer(model.named_parameters(), {"optimizer": optimizer, "lr": 0.3, **config})


@pytest.mark.parametrize(
    ("optimizer", "config", "lengths"),
    [
        ("sgd", {"momentum": 0.0}, np.ones(20)),
        ("sgd", {"momentum": 0.9, "weight_decay": 0.1}, 10 * (1 - 0.9**STEPS)),
        ("sgd", {"momentum": 0.9, "nesterov": True}, 10 * (1 - 0.9 ** (STEPS + 1))),
        ("adam", {}, np.ones(20)),
        ("adamw", {"beta1": 0.5, "weight_decay": 0.1}, np.ones(20)),
        ("rmsprop", {"beta2": 0.99}, 1 / np.sqrt(1 - 0.99**STEPS)),
    ],
)
def test_they_are_those_of_the_optimizers_own_formula(optimizer, config, lengths):
    assert update_magnitudes(built(optimizer, **config), 20) == pytest.approx(lengths, rel=1e-5)


def test_many_steps_are_as_long_as_the_last_that_were_tried():
    lengths = update_magnitudes(built("sgd", momentum=0.9), 5000)
    assert lengths.shape == (5000,)
    assert lengths[-1] == pytest.approx(10)


def test_the_optimizer_stays_as_it_is():
    optimizer = built("adam")
    before = copy.deepcopy(optimizer.state_dict())
    weights = [weight.clone() for group in optimizer.param_groups for weight in group["params"]]
    update_magnitudes(optimizer, 5)
    assert optimizer.state_dict() == before
    after = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert all(torch.equal(*pair) for pair in zip(weights, after, strict=True))
