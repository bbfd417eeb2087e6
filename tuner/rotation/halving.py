"""HalvingState: how the trials of a study rank at each rung, and which of them may continue."""

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

FEATURES = ("metric", "train loss", "rotation", "remaining learning rate")
"""The features by which trials are compared at a rung, in the order of the columns."""

# A logistic variable has a standard deviation of pi / sqrt(3).
_UNIT = math.sqrt(3) / math.pi


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Rung:
    """The trials that have reached one epoch, by ascending number.

    Attributes:
        epoch: the epoch at which the trials are compared; a fraction within the first epoch.
        numbers: the trials' numbers, shape (n,).
        features: more is better, shape (n, 4), columns as in `FEATURES`. NaN is unknown, and minus
            infinity is the worst.
        scores: the trials' scores, from the standardised ranks of their features, shape (n,).
        ascending: the sorted scores, so that a place is found by bisection.
    """

    epoch: float
    numbers: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    features: Floats = field(default_factory=lambda: np.empty((0, len(FEATURES))))
    scores: Floats = field(default_factory=lambda: np.empty(0))
    ascending: Floats = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return len(self.numbers)

    def __contains__(self, number: int) -> bool:
        at = int(np.searchsorted(self.numbers, number))
        return at < len(self.numbers) and bool(self.numbers[at] == number)

    def holds(self, number: int, features: tuple[float, ...]) -> bool:
        """Whether the rung has this trial, with these features."""
        own = self.features[np.searchsorted(self.numbers, number)] if number in self else ()
        return np.array_equal(own, features, equal_nan=True)

    def features_of(self, number: int) -> tuple[float, float, float, float]:
        """Return the features of a trial that the rung has."""
        metric, loss, rotation, rate = self.features[np.searchsorted(self.numbers, number)].tolist()
        return metric, loss, rotation, rate

    def with_trial(self, number: int, features: tuple[float, ...]) -> Rung:
        """Return the rung with one more trial, without scores; a known trial is replaced."""
        return self.with_trials({number: features})

    def with_trials(self, features: Mapping[int, tuple[float, ...]]) -> Rung:
        """Return the rung with more trials, by number, without scores.

        Each call copies the whole rung, so add many trials in one call.
        """
        others = ~np.isin(self.numbers, list(features))
        numbers = np.concatenate([self.numbers[others], np.array(list(features), dtype=np.int64)])
        rows = np.concatenate(
            [self.features[others], np.array(list(features.values()), dtype=float)]
        )
        order = np.argsort(numbers)
        return Rung(self.epoch, numbers[order], rows[order])

    def without_trial(self, number: int) -> Rung:
        """Return the rung without a trial, and without scores."""
        others = self.numbers != number
        return Rung(self.epoch, self.numbers[others], self.features[others])

    def scored(self, weights: Floats) -> Rung:
        """Return the rung with its scores: the sum of `weights`, shape (4,), times `standardised`.

        A trial with the worst possible metric or loss comes last, whatever its other features.
        """
        scores = standardised(self.features) @ weights
        scores[np.isneginf(self.features).any(axis=1)] = -np.inf
        return replace(self, scores=scores, ascending=np.sort(scores))

    def place(self, number: int) -> int:
        """Return the place of a trial by score, from 1; equal scores share the better place."""
        own = self.scores[np.searchsorted(self.numbers, number)]
        return 1 + len(self) - int(np.searchsorted(self.ascending, own, side="right"))


def standardised(features: Floats) -> Floats:
    """Return every column's ranks as logistic scores with mean 0 and about unit deviation.

    Ranks make columns of any unit comparable and outliers harmless. Equal values share the mean
    of their ranks; the mean of the scores is then only about 0. An unknown value (NaN) takes 0,
    the middle.

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

# The prior mean of the weights: the effect of a unit of each standardised rank on the standardised
# metric at the end. On recorded families these values lost least on average (docs/log.md,
# 2026-11-23).
PRIOR = np.array([0.4, 0.2, 0.2, 0.4])
# The prior standard deviation of each weight.
_PRIOR_DEVIATION = 0.1
# The residual variance of a standardised rank. This is its whole variance, to be cautious: a trial
# counts at every rung, so its reports are not independent.
_NOISE = 1.0
# With fewer trials than this at both rungs, nothing is learned from them.
_ENOUGH = 4
# Standard errors of a one-sided test at 95 %.
_SURE = 1.64
METRIC, TRAIN_LOSS, ROTATION, TO_FALL = range(len(FEATURES))


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Weights:
    """The weights of `FEATURES`, as learned from a study's own trials.

    Attributes:
        mean: the weight of each feature, shape (4,).
        deviation: the standard deviation of each weight, shape (4,).
        trials: the number of comparisons of a trial at two rungs from which they were learned.
    """

    mean: Floats
    deviation: Floats
    trials: int

    @property
    def used(self) -> Floats:
        """The weights that rank trials; a negative weight counts as 0."""
        return np.maximum(self.mean, 0.0)

    @property
    def rotation_is(self) -> Says:
        """Whether rotation predicts the standing of this study's trials, without the prior.

        Rotation is informative if its weight is above zero by 1.64 standard errors (one-sided
        95 %). It is not informative if its weight is below the prior's by as much. Otherwise it is
        not known yet.
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
    """Learn how well the features at each rung predict a trial's standing at the next rung.

    This is Bayesian linear regression with a normal prior. With little evidence the weights stay
    near the prior.

    The inputs are the standardised ranks of the features. The outcome is the trial's standing at
    the next rung. Both are taken among the trials that reached both rungs.

    At the end of the run the standing is the metric. Before the end it is the metric and the train
    loss, with the weights of the prior. Before the end the gain from a falling learning rate cannot
    be measured. So the weight of that feature is learned at the end of the run only.

    Args:
        rungs: the rungs by ascending epoch; the last is the end of the run.
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

# A rung later than this share of the run saves little. Learning rates are still high there, so the
# metric is noisy (docs/log.md, 2026-11-23).
_LAST_RUNG = 1 / 3
# While new trials will be started, no trial is promoted before this many have been compared. An
# earlier promotion spends whole runs on the best of a few trials (docs/log.md, 2026-11-23).
_PATIENCE = 16
# A learning rate this many times its mean will fall by the end. A higher ratio does not predict a
# better trial [measured: docs/log.md, 2026-11-23].
_FALLS = 1.5
# A rate below this share of its mean, early in the run, will still rise.
_RISING = 0.95
# Rates are compared up to this many digits. Equal schedules differ by less: the share is in single
# precision, or is summed over batches of another size. Ranks would exaggerate such a difference.
_RATE_DIGITS = 3
# The rounding error of a share times a count.
_ROUNDING = 1e-9
# The rounding error of epochs that are sums of fractions (ten times 0.1).
EPOCH_ROUNDING = 1e-6


@dataclass(frozen=True)
class PruningConfig:
    """The settings by which the trials of a study are compared and pruned.

    Attributes:
        target: the distances that the layers should reach.
        mode: whether a larger ("max") or smaller ("min") metric is better.
        metric_name: the metric's name in reasons.
        warmup_epochs: the first rung, > 0. Below 1 it lies within the first epoch, and compares
            the trials that report there by train loss and rotation.
        early_keep: share of the trials that continue from a rung within the first epoch, in (0, 1].
        keep: share of the trials that continue from the first rung at a whole epoch, in (0, 1]. At
            twice the epochs the share is half, and so on, so every doubling costs the same.
        audit: share of the pruned trials that become control trials, in [0, 1). A control trial
            is trained to its end, to measure the cost of pruning.
        seed: seed of the draw of the control trials, >= 0.

    Raises:
        InvalidInput: a value is outside its range.

    Example:
        >>> config = PruningConfig(mode="min", metric_name="val_loss")
        >>> config.rungs(max_epochs=20)
        (0.25, 1.0, 2.0, 4.0)
        >>> [config.share(rung) for rung in (0.25, 1.0, 2.0, 4.0)]
        [0.35, 0.25, 0.125, 0.0625]
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
        """Return the share of all trials that continues from a rung, in (0, 1]."""
        return self.early_keep if rung < 1 else self.keep * max(self.warmup_epochs, 1.0) / rung


@dataclass(frozen=True, eq=False)  # its rungs are equal only to themselves
class HalvingState:
    """All trials of a study as they stood at each rung; an update returns a new state.

    The same reports make the same state, in any order.

    Attributes:
        config: the settings of the comparison.
        max_epochs: epochs of a whole trial, >= 1.
        rungs: the rungs by ascending epoch; the last is the end of the run.
        weights: the weights of the features, learned from the study's own trials.
        diverged: the numbers of the trials whose train loss is no longer finite.

    Example:
        >>> state = HalvingState(PruningConfig(), max_epochs=20)
        >>> for number, metric in enumerate((0.6, 0.8, 0.7)):
        ...     curve = RotationCurve(("conv",), 20).append(1, {"conv": 0.2}, metric=metric)
        ...     state = state.with_report(number, curve)
        >>> rung = state.rung_of(curve)
        >>> rung.epoch, [rung.place(number) for number in range(3)]
        (1.0, [3, 1, 2])
    """

    config: PruningConfig
    max_epochs: int
    rungs: tuple[Rung, ...] = ()
    weights: Weights = field(default_factory=lambda: learn(()))
    diverged: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not self.rungs:
            epochs = (*self.config.rungs(self.max_epochs), float(self.max_epochs))
            object.__setattr__(self, "rungs", tuple(Rung(epoch) for epoch in epochs))

    def with_report(self, number: int, curve: RotationCurve) -> HalvingState:
        """Return the state with a trial's last report; the same state if it is at no rung.

        The first report at or after a rung counts for that rung. So trials with batches of any
        size, and trials that report rarely, can be compared.

        Args:
            number: number of the trial.
            curve: all its reports; only the last one is read.
        """
        if not len(curve):
            return self
        last = len(curve) - 1
        diverged = {number} if has_diverged(curve, last) else set()
        return self._with(self._entries(number, curve, last), diverged)

    def with_curves(self, curves: Mapping[int, RotationCurve]) -> HalvingState:
        """Return the state with all reports of these trials, by number."""
        reports = [
            (number, curve, report)
            for number, curve in curves.items()
            for report in range(len(curve))
        ]
        return self._with(
            [entry for each in reports for entry in self._entries(*each)],
            {number for number, curve, report in reports if has_diverged(curve, report)},
        )

    def without_trial(self, number: int) -> HalvingState:
        """Return the state without a trial; the same state if it does not know the trial."""
        if number not in self.diverged and not any(number in rung for rung in self.rungs):
            return self
        state = replace(self, diverged=self.diverged - {number})
        return state._scored([rung.without_trial(number) for rung in self.rungs])

    def _entries(self, number: int, curve: RotationCurve, report: int) -> list[Entry]:
        """Return the rungs at which one report of a trial counts, with its features there."""
        before = curve.epochs[report - 1] if report else 0.0
        at = [
            (index, rung)
            for index, rung in enumerate(self.rungs)
            if _reaches(curve.epochs[report], rung) and not _reaches(before, rung)
        ]
        if not at:
            return []
        features = self._features(curve, report)
        # A learning rate alone does not rank a trial.
        if all(math.isnan(feature) for feature in features[:TO_FALL]):
            return []
        # A report within an epoch has no metric, so it cannot be compared at a whole epoch.
        whole = not math.isnan(curve.metric[report])
        return [(index, number, features) for index, rung in at if whole or rung.epoch < 1]

    def _with(self, entries: list[Entry], diverged: Collection[int]) -> HalvingState:
        """Return the state with more entries, and with trials that have diverged.

        A diverged trial is last at every rung that it has reached, so the next trial gets its
        place there.
        """
        known = self.diverged.union(diverged)
        for number in known - self.diverged:
            entries += [
                (index, number, rung.features_of(number))
                for index, rung in enumerate(self.rungs)
                if number in rung
            ]
        new: dict[int, dict[int, Features]] = {}
        for index, number, found in entries:
            # The rotation of a diverged trial must neither set a pace nor count as evidence.
            features = (found[METRIC], -math.inf, math.nan, math.nan) if number in known else found
            if not self.rungs[index].holds(number, features):
                new.setdefault(index, {})[number] = features
        state = self if known == self.diverged else replace(self, diverged=known)
        if not new:
            return state
        rungs = list(self.rungs)
        for index, features_of in new.items():
            rungs[index] = rungs[index].with_trials(features_of)
        return state._scored(rungs)

    def _scored(self, rungs: Sequence[Rung]) -> HalvingState:
        """Return the state of these rungs, with the weights that are learned from them."""
        weights = learn(rungs)
        return replace(
            self, rungs=tuple(rung.scored(weights.used) for rung in rungs), weights=weights
        )

    def rung_of(self, curve: RotationCurve) -> Rung | None:
        """Return the last rung that a trial has reached, except the end of the run.

        It is None before the first rung.
        """
        at = [rung for rung in self.rungs[:-1] if len(curve) and _reaches(curve.epochs[-1], rung)]
        return at[-1] if at else None

    def is_at_rung(self, curve: RotationCurve) -> bool:
        """Whether a trial's last report is its first at or after a rung."""
        rung = self.rung_of(curve)
        return rung is not None and (len(curve) < 2 or not _reaches(curve.epochs[-2], rung))

    def promotion_quota(self, rung: Rung, more_to_come: bool) -> int:
        """Return how many of the trials compared so far may continue from a rung.

        Args:
            rung: one of `rungs`.
            more_to_come: whether new trials will be started.
        """
        share = self.config.share(rung.epoch) * self.started
        if more_to_come:
            return math.floor(share + _ROUNDING) if self.started >= _PATIENCE else 0
        return max(1, math.ceil(share - _ROUNDING))

    def next_promotable(self, paused: Collection[int], more_to_come: bool) -> int | None:
        """Return the number of the paused trial that should continue; None if none may.

        A trial may continue from a rung if `promotion_quota` admits its present place there. The
        weights are learned while trials run, so places change. Over time more trials than the quota
        may pass a rung. Trials that passed on an earlier ranking do not use up the quota. Counting
        them against later, better trials lost more than it saved (docs/log.md, 2026-11-23).

        While new trials will be started, the trial at the highest rung continues first. So the
        sampler sees some final results early. After that the lowest rung comes first: no
        trial takes a place at a later rung before all its rivals have been compared. Of the trials
        at one rung the best continues first.

        Args:
            paused: numbers of the trials to choose from.
            more_to_come: whether new trials will be started.
        """
        at: dict[int, list[int]] = {}
        for number in paused:
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
        """The number of trials that have been compared at any rung."""
        return max(len(rung) for rung in self.rungs)

    def _features(self, curve: RotationCurve, report: int) -> Features:
        """Return the features of a report: see `Rung.features`."""
        target = self.config.target
        metric = curve.metric[report] if self.config.mode == "max" else -curve.metric[report]
        reached = target.reached(curve.distances[report], curve.layers)
        # More rotation than the target is not better.
        turned = min(reached, target.distance) if not math.isnan(reached) else math.nan
        return metric, -curve.train_loss[report], turned, _still_to_fall(curve, report)


def _still_to_fall(curve: RotationCurve, report: int) -> float:
    """Return the learning rate at a report over its mean in the whole run, at most `_FALLS`.

    A trial whose rate will fall is better than its metric shows: the noise of a high rate
    disappears at the end. The result is NaN if the rate is unknown. It is also NaN if the rate has
    been below its mean so far, because it must then rise.
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

    NaN also means an unknown loss, so it counts only after a known loss.

    Args:
        curve: the reports of the trial.
        report: index of the report, >= 0.
    """
    loss = curve.train_loss[report]
    known_before = any(not math.isnan(earlier) for earlier in curve.train_loss[:report])
    return math.isinf(loss) or (math.isnan(loss) and known_before)


def _reaches(epoch: float, rung: Rung) -> bool:
    return epoch >= rung.epoch - EPOCH_ROUNDING
