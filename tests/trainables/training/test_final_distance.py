"""The rate that a trial gets for a final distance, and the distance that it then reaches."""

from __future__ import annotations

import pytest
from smallest_net import Smallest

from trainables import DigitsMlp
from trainables.training.config import read_settings
from trainables.training.schedules import lr_factors
from tuner.errors import InvalidInput
from tuner.rotation.rate import RateRelation


@pytest.mark.parametrize(
    ("optimizer", "settings", "momentum"),
    [
        ("layca", {"momentum": 0.0}, 0.0),
        ("layca", {}, 0.9),
        ("layca-adam", {"beta1": 0.8}, 0.8),
        ("layca-rmsprop", {}, 0.0),
        ("layca-adagrad", {}, 0.0),
    ],
)
def test_a_trial_starts_at_the_rate_for_its_own_length_schedule_and_momentum(
    optimizer, settings, momentum
):
    config = {"max_epochs": 2, "batch_size": 20, "schedule": "cosine", **settings}
    trial = Smallest(config={**config, "optimizer": optimizer, "final_distance": 0.6})
    trial.train()
    initial = trial.training_state.initial_lrs
    assert initial == [RateRelation(momentum).rate_for(0.6, lr_factors("cosine", 10))]


@pytest.mark.parametrize("optimizer", ["layca", "layca-adam"])
@pytest.mark.parametrize("distance", [0.3, 0.6, 0.95])
def test_a_real_run_turns_its_hidden_layer_about_so_far(optimizer, distance):
    config = {"optimizer": optimizer, "max_epochs": 20, "schedule": "cosine", "batch_size": 64}
    trial = DigitsMlp(config={**config, "final_distance": distance})
    report = {}
    while not report.get("done"):
        report = trial.train()
    hidden = [value for name, value in report.items() if name.startswith("rotation/hidden")]
    # Off by .03 on average over six networks and lengths, .17 at the most (docs/log.md).
    assert sum(hidden) / len(hidden) == pytest.approx(distance, abs=0.17)


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
