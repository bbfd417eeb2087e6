"""HalvingState: how the trials of a study compare at each rung, and which of them continue."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuner.errors import InvalidInput
from tuner.rotation.curve import Mode, RotationCurve
from tuner.rotation.target import RotationTarget

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEATURES = ("metric", "train loss", "rotation", "learning rate still to fall")
"""What trials are compared by at a rung, in this order."""

# A logistic variable has a standard deviation of pi / sqrt(3).
_UNIT = math.sqrt(3) / math.pi


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Rung:
    """The trials at one epoch, by ascending number.

    Attributes:
        epoch: at which they are compared; a fraction within the first epoch.
        numbers: of the trials, shape (n,).
        features: more is better, shape (n, 4), columns as in `FEATURES`: NaN where unknown, and
            minus infinity for the worst there is.
        scores: of the trials, from the standardised ranks of their features, shape (n,).
        ascending: the scores, sorted, so that finding a place does not take the longer the more
            trials there are.
        known: which of `FEATURES` are known of any trial.
    """

    epoch: float
    numbers: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    features: Floats = field(default_factory=lambda: np.empty((0, len(FEATURES))))
    scores: Floats = field(default_factory=lambda: np.empty(0))
    ascending: Floats = field(default_factory=lambda: np.empty(0))
    known: tuple[bool, ...] = (False,) * len(FEATURES)

    def __len__(self) -> int:
        return len(self.numbers)

    def __contains__(self, number: int) -> bool:
        at = int(np.searchsorted(self.numbers, number))
        return at < len(self.numbers) and bool(self.numbers[at] == number)

    def holds(self, number: int, features: tuple[float, ...]) -> bool:
        """Whether the rung has this trial, with these features."""
        own = self.features[np.searchsorted(self.numbers, number)] if number in self else ()
        return np.array_equal(own, features, equal_nan=True)

    def with_trial(self, number: int, features: tuple[float, ...]) -> Rung:
        """Return the rung with one more trial, not scored yet; a trial it has is replaced."""
        return self.with_trials({number: features})

    def with_trials(self, features: Mapping[int, tuple[float, ...]]) -> Rung:
        """Return the rung with more trials, by number; in one step, since each copies them all."""
        others = ~np.isin(self.numbers, list(features))
        numbers = np.concatenate([self.numbers[others], np.array(list(features), dtype=np.int64)])
        rows = np.concatenate(
            [self.features[others], np.array(list(features.values()), dtype=float)]
        )
        order = np.argsort(numbers)
        return Rung(self.epoch, numbers[order], rows[order])

    def scored(self, weights: Floats) -> Rung:
        """Return the rung with its scores: the sum of `weights`, shape (4,), times `standardised`.

        A trial with the worst possible metric or loss comes last, whatever else is known of it.
        """
        scores = standardised(self.features) @ weights
        scores[np.isneginf(self.features).any(axis=1)] = -np.inf
        known = tuple(bool(column.any()) for column in ~np.isnan(self.features).T)
        return replace(self, scores=scores, ascending=np.sort(scores), known=known)

    def place(self, number: int) -> int:
        """Return the place of a trial by score: 1 is best, and equals share the better place."""
        own = self.scores[np.searchsorted(self.numbers, number)]
        return 1 + len(self) - int(np.searchsorted(self.ascending, own, side="right"))


def standardised(features: Floats) -> Floats:
    """Return every column's ranks as logistic scores with mean 0 and about unit deviation.

    Ranks make columns of any unit comparable and outliers harmless. Equal values share the mean
    of their ranks (then the mean is only about 0); what is unknown (NaN) takes 0, the middle.

    Args:
        features: shape (n, columns).
    """
    scores = np.zeros_like(features)
    for column, values in enumerate(features.T):
        known = ~np.isnan(values)
        count = int(known.sum())
        if count > 1:
            _, place, equals = np.unique(values[known], return_inverse=True, return_counts=True)
            share = (np.cumsum(equals) - equals / 2) / count
            scores[known, column] = (_UNIT * np.log(share / (1 - share)))[place]
    return scores


Says = Literal["informative", "not informative", "not known yet"]

# What a unit of each standardised rank is worth before anything is known, in units of the
# standardised metric at the end: on recorded families these lost least on average (docs/log.md,
# 2026-11-23).
PRIOR = np.array([0.4, 0.2, 0.2, 0.4])
# How sure that is, as a standard deviation of each.
_PRIOR_DEVIATION = 0.1
# Residual variance of a standardised rank, cautiously all of it: the same trial counts again at
# every rung, so its reports are not independent.
_NOISE = 1.0
# Fewer trials than this at both rungs say nothing.
_ENOUGH = 4
# Standard errors of a one-sided test at 95 %.
_SURE = 1.64
METRIC, TRAIN_LOSS, ROTATION, TO_FALL = range(len(FEATURES))


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Weights:
    """The worth of each of `FEATURES`, with its standard deviation, shape (4,) each.

    `trials` is how many comparisons of a trial at two rungs they were learnt from.
    """

    mean: Floats
    deviation: Floats
    trials: int

    @property
    def used(self) -> Floats:
        """The weights to rank by: what would count against a trial for being better counts 0."""
        return np.maximum(self.mean, 0.0)

    @property
    def rotation_is(self) -> Says:
        """Whether rotation has ranked this study's own trials: their evidence without the prior.

        Informative if its worth is above zero, not informative if it is below the prior's, each by
        1.64 standard errors (one-sided 95 %); otherwise it is not known yet.
        """
        before = 1 / _PRIOR_DEVIATION**2
        gained = float(1 / self.deviation[ROTATION] ** 2 - before)
        if self.trials < 2 * _ENOUGH or gained <= 0:
            return "not known yet"
        shown = float(self.mean[ROTATION] * (before + gained) - PRIOR[ROTATION] * before) / gained
        margin = _SURE / gained**0.5
        if shown > margin:
            return "informative"
        return "not informative" if shown + margin < PRIOR[ROTATION] else "not known yet"


def learn(rungs: Sequence[Rung]) -> Weights:
    """Learn what the features at each rung told of the next, over all of `rungs`.

    Bayesian linear regression of how well a trial stood at the next rung on the standardised ranks
    of its features, both among the trials that are at both, with a normal prior: little evidence
    stays near the prior. How well it stood is its metric at the end of the run, and short of that
    its metric and train loss as the prior weighs them. That is no measure of what a falling
    learning rate will still bring, so only ends teach what that is worth.

    Args:
        rungs: ascending; the last is the end of the run.
    """
    precision = np.eye(len(FEATURES)) / _PRIOR_DEVIATION**2
    evidence = precision @ PRIOR
    trials = 0
    reached = [rung for rung in rungs if len(rung) >= _ENOUGH]
    for earlier, later in pairwise(reached):
        both, rows, later_rows = np.intersect1d(
            earlier.numbers, later.numbers, assume_unique=True, return_indices=True
        )
        if len(both) < _ENOUGH:
            continue
        inputs = standardised(earlier.features[rows])
        stood = standardised(later.features[later_rows])
        if later is rungs[-1]:
            outcome = stood[:, METRIC]
        else:
            stood = stood[:, : TRAIN_LOSS + 1] @ PRIOR[: TRAIN_LOSS + 1]
            outcome = standardised(stood[:, None])[:, 0]
            inputs[:, TO_FALL] = 0.0
        precision = precision + inputs.T @ inputs / _NOISE
        evidence = evidence + inputs.T @ outcome / _NOISE
        trials += len(both)
    covariance = np.linalg.inv(precision)
    return Weights(covariance @ evidence, np.sqrt(np.diag(covariance)), trials)


Features = tuple[float, float, float, float]
Entry = tuple[int, int, Features]  # index of a rung, number of a trial, its features there

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
class PruningConfig:
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
                    f"{getattr(PruningConfig, name)}"
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
class HalvingState:
    """All trials of a study as they stood at each rung; an update returns a new field.

    The same reports make the same field, in whatever order they come.
    """

    criteria: PruningConfig
    max_epochs: int
    rungs: tuple[Rung, ...] = ()
    weights: Weights = field(default_factory=lambda: learn(()))

    def __post_init__(self) -> None:
        if not self.rungs:
            epochs = (*self.criteria.rungs(self.max_epochs), float(self.max_epochs))
            object.__setattr__(self, "rungs", tuple(Rung(epoch) for epoch in epochs))

    def with_report(self, number: int, curve: RotationCurve) -> HalvingState:
        """Return the field that knows a trial's last report; itself if that is at no rung.

        A report counts for every rung that it is the first one at or after, so that batches of
        any size, and trials that report less often, can be compared.
        """
        return self._with(self._entries(number, curve, len(curve) - 1)) if len(curve) else self

    def with_curves(self, curves: Mapping[int, RotationCurve]) -> HalvingState:
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
        features = self._features(curve, report)
        # A schedule alone says nothing of the trial.
        if all(math.isnan(feature) for feature in features[:TO_FALL]):
            return []
        # Within an epoch there is no metric: such a report says nothing of whole epochs.
        whole = not math.isnan(curve.metric[report])
        return [(index, number, features) for index, rung in at if whole or rung.epoch < 1]

    def _with(self, entries: list[Entry]) -> HalvingState:
        new: dict[int, dict[int, Features]] = {}
        for index, number, features in entries:
            if not self.rungs[index].holds(number, features):
                new.setdefault(index, {})[number] = features
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

    def promotion_quota(self, rung: Rung, more_to_come: bool) -> int:
        """Return how many trials may go on from a rung, of all that have been compared so far."""
        share = self.criteria.share(rung.epoch) * self.started
        if more_to_come:
            return math.floor(share + _ROUNDING) if self.started >= _PATIENCE else 0
        return max(1, math.ceil(share - _ROUNDING))

    def next_promotable(self, waiting: Collection[int], more_to_come: bool) -> int | None:
        """Return which of the waiting trials should go on; None if none of them may.

        A trial may go on from a rung if it is among the best that `promotion_quota` admits
        there, as they are ranked now. What ranks them is learnt as they run, so more may come to
        pass a rung in turn: holding the places of those who went on on an earlier ranking
        against the better ones
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
            if place <= self.promotion_quota(rung, more_to_come):
                return best
        return None

    @cached_property
    def started(self) -> int:
        """How many trials have been compared at all."""
        return max(len(rung) for rung in self.rungs)

    def _features(self, curve: RotationCurve, report: int) -> Features:
        """What a report is worth, more being better: see `Rung.features`."""
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
