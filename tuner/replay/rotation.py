"""This project's own scheduler in the replay: the very `decide` that live trials are judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tuner.replay.policy import NEW, Action, Policy
from tuner.rotation import Criteria, Field, RotationCurve, decide


class RotationPolicy(Policy):
    """Judges every report by `decide`, and lets trials wait for their peers as a job does.

    Args:
        pausing: whether trials wait and go on later, as in a job; without, they are pruned where
            they would wait, as in plain Optuna.
        metric: whether the metric and the train loss are looked at; without, by rotation alone.
    """

    def __init__(
        self, max_epochs: int, criteria: Criteria, *, pausing: bool = True, metric: bool = True
    ) -> None:
        self.field = Field(criteria, max_epochs)
        self._pausing = pausing
        self._metric = metric
        self._more_to_come = True
        self._curves: dict[int, RotationCurve] = {}
        self._paused: set[int] = set()
        self._audited: set[int] = set()

    def report(self, number: int, curve: RotationCurve) -> Action:
        if not self._metric:
            curve = _by_rotation_alone(curve)
        self.field = self.field.with_report(number, curve)
        self._curves[number] = curve
        may_wait = self._pausing and number not in self._audited
        verdict = decide(number, curve, self.field, may_wait=may_wait)
        if verdict.audit:
            self._audited.add(number)
        if verdict.wait and self._next_up((*self._paused, number)) != number:
            self._paused.add(number)
            return Action.PAUSE
        return Action.STOP if verdict.prune else Action.GO_ON

    def choose(self, paused: Sequence[int], new: bool) -> int | None:
        self._more_to_come = new
        chosen = self._next_up(paused)
        if chosen is None and not new:
            chosen = next((number for number in paused if self._is_audited(number)), None)
        if chosen is not None:
            self._paused.discard(chosen)
            return chosen
        return NEW if new else None

    def _next_up(self, waiting: Sequence[int]) -> int | None:
        return self.field.next_up(waiting, self._more_to_come)

    def _is_audited(self, number: int) -> bool:
        audit = decide(number, self._curves[number], self.field, closing=True).audit
        if audit:
            self._audited.add(number)
        return audit


def _by_rotation_alone(curve: RotationCurve) -> RotationCurve:
    # Every metric the same: a metric that is missing would mean a report within an epoch.
    return replace(
        curve,
        metric=tuple(metric * 0 for metric in curve.metric),
        train_loss=tuple(float("nan") for _ in curve.train_loss),
    )
