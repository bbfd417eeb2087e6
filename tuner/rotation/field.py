"""Field: how the trials of one study stood at each rung, and who may go on from there."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from tuner.errors import InvalidInput
from tuner.rotation.curve import Mode, RotationCurve
from tuner.rotation.rung import Rung
from tuner.rotation.target import RotationTarget
from tuner.rotation.weights import TO_FALL, Weights, learn

Merits = tuple[float, float, float, float]
Entry = tuple[int, int, Merits]  # index of a rung, number of a trial, its merits there

# A rung later than this share of the run saves little and decides while learning rates are still
# high and the metric noisy (docs/log.md, 2026-11-23).
_LAST_RUNG = 1 / 3
# No trial passes a rung, while new ones are to come, before so many have been compared: promoting
# among the first few spends whole runs on the best of a handful (docs/log.md, 2026-11-23).
_PATIENCE = 16
# A learning rate is taken to fall by the end if it is so far above its mean: more says nothing
# more of how good the trial is [measured: docs/log.md, 2026-11-23].
_FALLS = 1.5
# Below this share of its mean a rate early in the run is still to rise.
_RISING = 0.95
# Equal schedules have equal rates up to this many digits: a share of a run in single precision,
# or summed over batches of another size, is off by less, and ranks would make much of it.
_RATE_DIGITS = 3
# Shares times counts are whole up to this.
_ROUNDING = 1e-9
# Epochs reported as sums of fractions (ten times 0.1) are whole up to this.
EPOCH_ROUNDING = 1e-6


@dataclass(frozen=True)
class Criteria:
    """What the trials of a study are judged by.

    Attributes:
        target: what the layers should reach.
        mode: whether a larger ("max") or smaller ("min") metric is better.
        metric_name: what reasons call the metric.
        warmup_epochs: the first rung, > 0; below 1 it is within the first epoch, for trials that
            report there, and by train loss and rotation.
        early_keep: share of the trials that go on from a rung within the first epoch, in (0, 1].
        keep: share that goes on from the first whole epoch of comparison, in (0, 1]; half of it
            from twice as many epochs, and so on, so that every doubling costs the same.
        audit: share of the pruned trials that are trained to the end all the same, to measure what
            pruning costs, in [0, 1).
        seed: of the draw of these, >= 0.

    Raises:
        InvalidInput: a value is outside its range.
    """

    target: RotationTarget = field(default_factory=RotationTarget)
    mode: Mode = "max"
    metric_name: str = "metric"
    warmup_epochs: float = 0.25
    early_keep: float = 0.35
    keep: float = 0.25
    audit: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max"):
            raise InvalidInput(
                f"mode must be 'min' or 'max', got {self.mode!r}; use 'max' for accuracy"
            )
        if not self.warmup_epochs > 0:
            raise InvalidInput(
                f"warmup_epochs must be > 0, got {self.warmup_epochs}; "
                "use 0.25 to compare from a quarter of the first epoch"
            )
        for name in ("early_keep", "keep"):
            if not 0 < getattr(self, name) <= 1:
                raise InvalidInput(
                    f"{name} must be in (0, 1], got {getattr(self, name)}; leave it out for "
                    f"{getattr(Criteria, name)}"
                )
        if not 0 <= self.audit < 1:
            raise InvalidInput(
                f"audit must be in [0, 1), got {self.audit}; use 0 to audit no pruned trial"
            )
        if not self.seed >= 0:
            raise InvalidInput(f"seed must be >= 0, got {self.seed}; use 0 if any will do")

    def rungs(self, max_epochs: int) -> tuple[float, ...]:
        """Return the epochs at which trials of a run of `max_epochs` are compared, ascending."""
        rungs = [self.warmup_epochs]
        if self.warmup_epochs < 1:
            rungs.append(1.0)
        while 2 * rungs[-1] <= _LAST_RUNG * max_epochs:
            rungs.append(2 * rungs[-1])
        return tuple(rung for rung in rungs if rung < max_epochs)

    def share(self, rung: float) -> float:
        """Return the share of all trials that goes on from a rung, in (0, 1]."""
        return self.early_keep if rung < 1 else self.keep * max(self.warmup_epochs, 1.0) / rung


@dataclass(frozen=True, eq=False)  # its rungs are equal only to themselves
class Field:
    """All trials of a study as they stood at each rung; an update returns a new field.

    The same reports make the same field, in whatever order they come.
    """

    criteria: Criteria
    max_epochs: int
    rungs: tuple[Rung, ...] = ()
    weights: Weights = field(default_factory=lambda: learn(()))

    def __post_init__(self) -> None:
        if not self.rungs:
            epochs = (*self.criteria.rungs(self.max_epochs), float(self.max_epochs))
            object.__setattr__(self, "rungs", tuple(Rung(epoch) for epoch in epochs))

    def with_report(self, number: int, curve: RotationCurve) -> Field:
        """Return the field that knows a trial's last report; itself if that is at no rung.

        A report counts for every rung that it is the first one at or after, so that batches of
        any size, and trials that report less often, can be compared.
        """
        return self._with(self._entries(number, curve, len(curve) - 1)) if len(curve) else self

    def with_curves(self, curves: Mapping[int, RotationCurve]) -> Field:
        """Return the field that knows all reports of these trials, by number."""
        return self._with(
            [
                entry
                for number, curve in curves.items()
                for report in range(len(curve))
                for entry in self._entries(number, curve, report)
            ]
        )

    def _entries(self, number: int, curve: RotationCurve, report: int) -> list[Entry]:
        """The rungs at which one report of a trial counts, and how; one that is empty, nowhere."""
        before = curve.epochs[report - 1] if report else 0.0
        at = [
            (index, rung)
            for index, rung in enumerate(self.rungs)
            if _reaches(curve.epochs[report], rung) and not _reaches(before, rung)
        ]
        if not at:
            return []
        merits = self._merits(curve, report)
        # A schedule alone says nothing of the trial.
        if all(math.isnan(merit) for merit in merits[:TO_FALL]):
            return []
        # Within an epoch there is no metric: such a report says nothing of whole epochs.
        whole = not math.isnan(curve.metric[report])
        return [(index, number, merits) for index, rung in at if whole or rung.epoch < 1]

    def _with(self, entries: list[Entry]) -> Field:
        new: dict[int, dict[int, Merits]] = {}
        for index, number, merits in entries:
            if not self.rungs[index].holds(number, merits):
                new.setdefault(index, {})[number] = merits
        if not new:
            return self
        rungs = list(self.rungs)
        for index, merits_of in new.items():
            rungs[index] = rungs[index].with_trials(merits_of)
        weights = learn(rungs)
        return replace(
            self, rungs=tuple(rung.scored(weights.used) for rung in rungs), weights=weights
        )

    def rung_of(self, curve: RotationCurve) -> Rung | None:
        """Return the last rung that a trial has passed, short of its end; None before the first."""
        at = [rung for rung in self.rungs[:-1] if len(curve) and _reaches(curve.epochs[-1], rung)]
        return at[-1] if at else None

    def is_at_rung(self, curve: RotationCurve) -> bool:
        """Whether a trial's last report is the one by which it is compared at a rung."""
        rung = self.rung_of(curve)
        return rung is not None and (len(curve) < 2 or not _reaches(curve.epochs[-2], rung))

    def allowed(self, rung: Rung, more_to_come: bool) -> int:
        """Return how many trials may go on from a rung, of all that have been compared so far."""
        share = self.criteria.share(rung.epoch) * self.started
        if more_to_come:
            return math.floor(share + _ROUNDING) if self.started >= _PATIENCE else 0
        return max(1, math.ceil(share - _ROUNDING))

    def next_up(self, waiting: Collection[int], more_to_come: bool) -> int | None:
        """Return which of the waiting trials should go on; None if none of them may.

        A trial may go on from a rung if it is among the best that `allowed` admits there, as they
        are ranked now. What ranks them is learnt as they run, so more may come to pass a rung in
        turn: holding the places of those who went on on an earlier ranking against the better ones
        that came later lost more than it saved (docs/log.md, 2026-11-23).

        While there are new trials that could be started instead (`more_to_come`), the furthest goes
        first, so that new ones are suggested knowing how some ended. After that the least far goes
        first: no place at a later rung is taken before all have been compared that might take it.
        Of those at the same rung it is the best.
        """
        at: dict[int, list[int]] = {}
        for number in waiting:
            index = max((i for i, rung in enumerate(self.rungs) if number in rung), default=None)
            if index is not None:
                at.setdefault(index, []).append(number)
        for index in sorted(at, reverse=more_to_come):
            rung = self.rungs[index]
            place, best = min((rung.place(number), number) for number in at[index])
            if place <= self.allowed(rung, more_to_come):
                return best
        return None

    @cached_property
    def started(self) -> int:
        """How many trials have been compared at all."""
        return max(len(rung) for rung in self.rungs)

    def _merits(self, curve: RotationCurve, report: int) -> Merits:
        """What a report is worth, more being better: see `Rung.merits`."""
        target = self.criteria.target
        metric = curve.metric[report] if self.criteria.mode == "max" else -curve.metric[report]
        if has_diverged(curve, report):
            # How far it has turned says nothing, and must neither set a pace nor count as evidence.
            return metric, -math.inf, math.nan, math.nan
        reached = target.reached(curve.distances[report], curve.layers)
        # Rotation beyond the target earns nothing more.
        turned = min(reached, target.distance) if not math.isnan(reached) else math.nan
        return metric, -curve.train_loss[report], turned, _still_to_fall(curve, report)


def _still_to_fall(curve: RotationCurve, report: int) -> float:
    """Return the learning rate at a report over its mean in the whole run, at most `_FALLS`.

    A trial whose rate will fall is better than its metric: the noise of a high rate goes away at
    the end. NaN where the rate is unknown, or is and has been below its mean and so must rise.
    """
    since = curve.epochs[report - 1] if report else 0.0
    spent_before = curve.lr_progress[report - 1] if report else 0.0
    spent = curve.lr_progress[report]
    rate = (spent - spent_before) / (curve.epochs[report] - since) * curve.max_epochs
    if rate < _RISING and spent * curve.max_epochs < curve.epochs[report]:
        return math.nan
    return min(round(rate, _RATE_DIGITS), _FALLS)


def has_diverged(curve: RotationCurve, report: int) -> bool:
    """Whether the train loss is no longer finite at a report.

    NaN stands for an unknown loss too, so it counts only once a loss has been reported.
    """
    loss = curve.train_loss[report]
    known_before = any(not math.isnan(earlier) for earlier in curve.train_loss[:report])
    return math.isinf(loss) or (math.isnan(loss) and known_before)


def _reaches(epoch: float, rung: Rung) -> bool:
    return epoch >= rung.epoch - EPOCH_ROUNDING
