"""The rate that Layca gets for a final distance, and the distance that it then reaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from smallest_net import Smallest

from tests.reference import turn
from trainables import Layca
from trainables.schedules import lr_factors, rate_for_distance
from trainables.settings import read_settings
from tuner.errors import InvalidInput

STEPS = 400


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
@pytest.mark.parametrize("distance", [0.05, 0.5, 0.95])
def test_steps_in_independent_directions_turn_a_layer_so_far(schedule, distance):
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(300, 300, generator=generator))
    initial = weight.detach().clone().numpy()
    factors = lr_factors(schedule, STEPS)
    rate = rate_for_distance(distance, factors)
    optimizer = Layca(torch.optim.SGD([weight], lr=1.0), rate=rate)
    for factor in factors:
        weight.grad = torch.randn(300, 300, generator=generator)
        optimizer.param_groups[0]["lr"] = float(factor)
        optimizer.step()
    reached = 1 - np.cos(turn(weight.detach().numpy(), initial))
    assert reached == pytest.approx(distance, abs=0.02)


def test_a_trial_starts_at_the_rate_for_its_own_length_and_schedule():
    config = {"max_epochs": 2, "batch_size": 20, "schedule": "cosine"}
    trial = Smallest(config={**config, "optimizer": "layca", "final_distance": 0.6})
    trial.train()
    initial = trial._started().initial_lrs
    assert initial == [rate_for_distance(0.6, lr_factors("cosine", 10))]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"final_distance": 1.0},
            r"final_distance must be a number in \(0, 1\), or None for the lr, got 1.0",
        ),
        (
            {"final_distance": 0},
            r"final_distance must be a number in \(0, 1\), or None for the lr, got 0",
        ),
        ({"final_distance": 0.5, "optimizer": "adam"}, "must come with .*, got adam; use layca"),
        ({"final_distance": 0.5}, "must come with .*, got sgd; use layca"),
        ({"final_distance": 0.5, "optimizer": "layca", "lr": 0.1}, r"got both \(0.5 and 0.1\)"),
    ],
)
def test_a_distance_that_cannot_be_is_one_line(config, said):
    with pytest.raises(InvalidInput, match=said):
        read_settings(config)
