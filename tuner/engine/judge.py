"""What is done with a report: it is recorded, and its trial goes on or stops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from tuner.engine.known import known_of
from tuner.engine.observer import Observer
from tuner.engine.reading import Report, read
from tuner.engine.waiting import WaitingRoom
from tuner.study.pruners import explain
from tuner.study.record import (
    AUDIT,
    REASON,
    has_report,
    report_rotation,
    report_test,
    reports_of,
)


@dataclass(frozen=True)
class Ending:
    """How a trial ends, and why; a complete one has no reason."""

    state: TrialState
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether a trial stops now, and how it then ends.

    Without an ending one that stops is to wait for its peers, or has run to its end.
    """

    stops: bool
    ending: Ending | None = None


_GOES_ON = Decision(False)
_STOPS = Decision(True)


class Judge:
    """Records the reports of trials, and decides on each what becomes of its trial.

    Args:
        study: whose trials they are; its pruner judges them.
        room: where they may come to wait.
        metric: the key of the report to optimise.
        max_epochs: epochs of a whole trial, >= 1.
        observer: told of every report.
    """

    def __init__(
        self,
        study: optuna.Study,
        room: WaitingRoom,
        *,
        metric: str,
        max_epochs: int,
        observer: Observer,
    ) -> None:
        self._study = study
        self._room = room
        self._metric = metric
        self._max_epochs = max_epochs
        self._observer = observer

    def judge(self, trial: optuna.Trial, result: Mapping[str, Any], more_to_come: bool) -> Decision:
        """Record a report and decide on its trial; `more_to_come` if new trials are to run yet.

        A report that the trial made before an interruption is not recorded again, and only the last
        such is judged again: the earlier ones were, and it went on.

        Raises:
            InvalidInput: the report cannot be used.
        """
        report = read(result, self._metric, self._max_epochs)
        if report.epoch > self._max_epochs:
            return _STOPS
        if report.value is not None and math.isnan(report.value):
            why = f"{self._metric} must be a number, got nan at epoch {report.epoch:g}"
            return Decision(True, Ending(TrialState.FAIL, why))
        self._observer.reported(trial.number, report.epoch, result)
        before = known_of(trial)
        if not has_report(before, report.epoch, report.value is not None):
            _record(trial, report)
        elif max(reports_of(before)) > report.epoch:
            return _GOES_ON
        return _STOPS if report.epoch == self._max_epochs else self._decide(trial, more_to_come)

    def _decide(self, trial: optuna.Trial, more_to_come: bool) -> Decision:
        """Decide on a trial at its last report."""
        verdict = self._room.verdict(trial)
        if verdict is None:
            return self._ask_the_pruner(trial)
        if verdict.wait:
            return _STOPS if self._room.keeps(trial.number, more_to_come) else _GOES_ON
        if verdict.audit and AUDIT not in known_of(trial).user_attrs:
            trial.set_user_attr(AUDIT, verdict.reason)
        return _pruned(verdict.reason) if verdict.prune else _GOES_ON

    def _ask_the_pruner(self, trial: optuna.Trial) -> Decision:
        """Decide as the study's pruner does, which may be any of Optuna's."""
        if not trial.should_prune():
            return _GOES_ON
        reason = known_of(trial).user_attrs.get(REASON)
        return _pruned(reason or explain(self._study, trial, self._metric, self._max_epochs))


def _pruned(reason: str) -> Decision:
    return Decision(True, Ending(TrialState.PRUNED, reason))


def _record(trial: optuna.Trial, report: Report) -> None:
    # The metric last: who finds it in the study finds its rotation and its test too.
    report_rotation(
        trial,
        report.epoch,
        report.distances,
        lr_progress=report.lr_progress,
        train_loss=report.train_loss,
        epoch_s=report.epoch_s,
    )
    report_test(trial, report.test)
    if report.value is not None:
        trial.report(report.value, int(report.epoch))
