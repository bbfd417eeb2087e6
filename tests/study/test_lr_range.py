"""Which learning rates a space searches with an optimizer."""

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution

from search_spaces import SPACES
from tuner.rate_finder.probes import LR_RANGES
from tuner.study.search_space import as_function, lr_range


def two(trial):
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "adamw"])
    if optimizer == "sgd":
        return {"optimizer": optimizer, "lr": trial.suggest_float("sgd_lr", 0.0, 2.0)}
    return {"optimizer": optimizer, "lr": 0.001, "decay": trial.suggest_float("decay_lr", 0.1, 1)}


def unnamed(trial):
    return {"lr": trial.suggest_float("lr", 0.01, 0.1, log=True)}


@pytest.mark.parametrize(
    ("space", "optimizer", "expected"),
    [
        # A range that begins at 0 has no lowest decade.
        (two, "sgd", (2e-4, 2.0)),
        (two, "adamw", None),
        (two, "adam", None),
        (unnamed, "sgd", (0.01, 0.1)),
        (unnamed, "adam", None),
        ({"optimizer": "adam", "lr": FloatDistribution(0.1, 0.1)}, "adam", None),
        (SPACES["mixed"], "layca", None),
    ],
)
def test_the_range_is_that_of_the_parameter_which_is_the_learning_rate(space, optimizer, expected):
    assert lr_range(as_function(space), optimizer) == expected


@pytest.mark.parametrize("optimizer", LR_RANGES)
def test_the_usual_ranges_are_those_of_the_included_spaces(optimizer):
    for space in (optimizer, "mixed"):
        assert lr_range(SPACES[space], optimizer) == LR_RANGES[optimizer]


def test_a_configuration_that_names_no_optimizer_is_for_the_usual_one():
    assert lr_range(unnamed, "adam", "adam") == (0.01, 0.1)
