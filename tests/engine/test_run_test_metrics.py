"""Metrics on the test split reach the study, and never a pruner's decision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from curve_trials import report_at, space
from optuna.pruners import BasePruner

from tuner import RotationPruner
from tuner.engine.trial_manager import TrialManager
from tuner.study.load import read_result
from tuner.study.result import StudyResult
from tuner.study.schema import curve_of

EPOCHS = 3


class Watching(BasePruner):
    """Keeps the curves that it is asked about, as text, and whether a rotation pruner prunes."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []
        self._judge = RotationPruner(max_epochs=EPOCHS, warmup_epochs=1)

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        self.seen.append((repr(curve_of(trial, EPOCHS)), self._judge.prune(study, trial)))
        return False


def run(*tests: dict[str, Any]) -> tuple[StudyResult, Watching]:
    """Run one trial that reports these besides its metric, epoch by epoch."""
    study = optuna.create_study(direction="maximize", pruner=(pruner := Watching()))
    manager = TrialManager(study, space, metric="score", num_trials=1, max_epochs=EPOCHS)
    suggestion = manager.ask()
    config = {**suggestion.config, "max_epochs": EPOCHS}
    for epoch, test in enumerate(tests, start=1):
        report = {**report_at(epoch, config), **test}
        manager.report(suggestion.number, report)
    manager.finish(suggestion.number, report)
    assert manager.fatal is None
    return read_result(study, None), pruner


def test_those_of_the_last_report_are_kept():
    result, _ = run({}, {}, {"test_accuracy": 0.75, "test_loss": 1.5})
    assert result.trials[0].test == {"test_accuracy": 0.75, "test_loss": 1.5}
    assert result.trials[0].state == "complete"


def test_the_last_value_wins_where_every_epoch_reports_them():
    result, _ = run(*({"test_accuracy": value} for value in (0.25, 0.5, 0.375)))
    assert result.trials[0].test == {"test_accuracy": 0.375}


@pytest.mark.parametrize("value", [1, np.float32(0.5), np.int64(3), math.inf, math.nan])
def test_any_number_is_kept_as_a_float(value):
    result, _ = run({}, {}, {"test_loss": value})
    assert repr(result.trials[0].test) == f"{{'test_loss': {float(value)}}}"


@pytest.mark.parametrize("value", ["good", None, True, [0.5], {"top1": 0.5}])
def test_what_is_not_a_number_is_left_out(value):
    result, _ = run({}, {}, {"test_loss": value, "test_accuracy": 0.5, "best_test_loss": 1.0})
    assert result.trials[0].test == {"test_accuracy": 0.5}


def test_a_pruner_is_given_the_same_curve_whatever_the_test_metrics():
    tests = [{"test_accuracy": 123.25, "test_loss": 456.5, "test_score": 789.125}] * EPOCHS
    without, with_tests = run(*[{}] * EPOCHS), run(*tests)
    assert with_tests[1].seen == without[1].seen
    assert len(with_tests[1].seen) == EPOCHS - 1
    assert not any(text in repr(with_tests[1].seen) for text in ("123.25", "456.5", "789.125"))
    assert (without[0].trials[0].test, with_tests[0].trials[0].test) == ({}, tests[0])
