"""The evidence in a study: the cost of pruning, the worth of rotation, the noise of the metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import ClassVar, Self

import numpy as np

from tuner.rotation import HalvingState, PruningConfig
from tuner.rotation.halving import METRIC, ROTATION, Says
from tuner.study.result import StudyResult, TrialResult

# If so many different values are whole shares of one count, that is no coincidence.
_ENOUGH_SHARES = 8
_MOST_EXAMPLES = 100_000
# The rounding error of a share in single precision.
_ROUNDING = 1e-7
# The noise between epochs is measured on the last reports, since earlier ones still rise.
_LAST = 8
_FEWEST = 5


def noise_of(result: StudyResult, value: float) -> float:
    """Return the approximate noise of a metric near `value`, in its units; NaN if unknown.

    It is the larger of two estimates, as far as they are known. The first is the standard error of
    an accuracy. The number of examples follows from the values, which are whole shares of it. All
    trials are evaluated on the same examples, so this overestimates the noise of a difference. It
    leaves out the noise of seeds. Two trials that differ only by their seed were about so far apart
    (docs/log.md, 2026-11-25). The second is the jump of the metric between the last epochs of
    complete trials.

    Args:
        result: the study.
        value: the metric of the trial in question.
    """
    complete = [trial for trial in result.trials if trial.state == "complete"]
    known = [_of_examples(result, value), _of_epochs(complete)]
    return max((noise for noise in known if not math.isnan(noise)), default=math.nan)


def examples_of(values: Iterable[float]) -> int | None:
    """Return the least number of examples of which all values are whole shares.

    None if there are too few different values, or no such number up to 100,000.
    """
    shares = {value for value in values if 0 < value < 1}
    counts = np.arange(1, _MOST_EXAMPLES + 1)
    if len(shares) < _ENOUGH_SHARES:
        return None
    for share in shares:
        hits = share * counts
        counts = counts[np.abs(hits - np.rint(hits)) <= _ROUNDING * counts]
    return int(counts[0]) if len(counts) else None


def _of_examples(result: StudyResult, value: float) -> float:
    """Return the standard error of an accuracy; NaN for another metric."""
    if "acc" not in result.metric.lower() or not 0 <= value <= 1:
        return math.nan
    examples = examples_of(metric for trial in result.trials for metric in trial.curve.metric)
    if examples is None:
        return math.nan
    share = (value * examples + 1) / (examples + 2)  # Laplace's rule: 100 % of few is no certainty
    return math.sqrt(share * (1 - share) / examples)


def _of_epochs(complete: Iterable[TrialResult]) -> float:
    """Return the median jump between the last epochs of a run; NaN if no run is long enough."""
    # Second differences remove a smooth rise. They have 6 times the variance of the noise.
    ends = ([m for m in trial.curve.metric if math.isfinite(m)][-_LAST:] for trial in complete)
    jumps = [float(np.mean(np.diff(end, 2) ** 2)) / 6 for end in ends if len(end) >= _FEWEST]
    return math.sqrt(median(jumps)) if jumps else math.nan


@dataclass(frozen=True)
class ControlTrials:
    """The cost of pruning, by control trials: pruned ones that were trained to their end.

    Attributes:
        trials: the number of control trials, >= 1.
        best: the number of the best one.
        value: its metric.
        gain: how much better it is than the best of all other trials, in units of the metric.
            Negative if it is worse; then pruning has cost nothing.
    """

    trials: int
    best: int
    value: float
    gain: float

    def line(self, metric: str) -> str:
        """Return it as one line of text."""
        what = "would have won" if self.gain > 0 else "at best"
        where = f"{abs(self.gain):.4g} {'ahead of' if self.gain > 0 else 'behind'}"
        return (
            f"audited {self.trials} of the trials to be pruned to their end: {what} trial "
            f"{self.best} with {metric} {self.value:.4g}, {where} the best of the others"
        )


@dataclass(frozen=True)
class RotationWorth:
    """How well rotation ranks the trials of a study; see `tuner.rotation.halving`.

    Attributes:
        says: the conclusion.
        weight: the learned weight of rotation.
        deviation: its standard deviation.
        metric_weight: the learned weight of the metric, in the same unit.
    """

    says: Says
    weight: float
    deviation: float
    metric_weight: float

    def line(self, metric: str) -> str:
        """Return it as one line of text."""
        return (
            f"rotation here: {self.says} (weight {self.weight:.2f} ± {self.deviation:.2f} beside "
            f"{self.metric_weight:.2f} for {metric})"
        )


def control_trials(result: StudyResult) -> ControlTrials | None:
    """Return the result of the complete control trials.

    None if there is none, or no other complete trial.
    """
    audited = [trial for trial in result.trials if trial.audit and trial.state == "complete"]
    others = [t.value for t in result.trials if t.state == "complete" and not t.audit]
    if not audited or not others:
        return None
    sign = 1 if result.mode == "max" else -1
    best = max(audited, key=lambda trial: sign * trial.value)
    gain = sign * best.value - max(sign * value for value in others)
    return ControlTrials(len(audited), best.number, best.value, gain)


@dataclass(frozen=True)
class GroupComparison:
    """The trials of a study that have a mark, compared with all others.

    Attributes:
        trials: the number of trials with a mark, >= 1.
        ended: the number of them that have ended.
        best: the number of the best complete one; None if none is complete.
        mark: the mark of the best one; empty if none is complete.
        value: the metric of the best one; NaN if none is complete.
        gain: how much better it is than the best of all others, in units of the metric; NaN if
            either is missing.
        noise: the noise of the metric, see `noise_of`; NaN if unknown.
    """

    trials: int
    ended: int
    best: int | None = None
    mark: str = ""
    value: float = math.nan
    gain: float = math.nan
    noise: float = math.nan

    _head: ClassVar[str]
    _verdicts: ClassVar[tuple[str, str]] = ("", "")  # for a better and a worse result

    @classmethod
    def of(cls, result: StudyResult, mark_of: Callable[[TrialResult], str]) -> Self | None:
        """Return the comparison of the trials with a mark; None if there are none."""
        trials = [trial for trial in result.trials if mark_of(trial)]
        if not trials:
            return None
        counts = len(trials), sum(trial.state != "running" for trial in trials)
        complete = [t for t in result.ranked if t.state == "complete" and math.isfinite(t.value)]
        own = next((trial for trial in complete if mark_of(trial)), None)
        if own is None:
            return cls(*counts)
        other = next((trial for trial in complete if not mark_of(trial)), None)
        sign = 1 if result.mode == "max" else -1
        gain = math.nan if other is None else sign * (own.value - other.value)
        noise = noise_of(result, own.value)
        return cls(*counts, own.number, mark_of(own), own.value, gain, noise)

    def line(self, metric: str) -> str:
        """Return it as one line of text."""
        head = self._head.format(f"{self.ended} of {self.trials}")
        if self.best is None:
            return head
        found = f"{head}; the best, trial {self.best} ({self.mark}), has {metric} {self.value:.4g}"
        if math.isnan(self.gain):
            return found
        where = f"{abs(self.gain):.4g} {'ahead of' if self.gain > 0 else 'behind'}"
        return f"{found}, {where} the best of the others{self._verdict}"

    @property
    def _verdict(self) -> str:
        if abs(self.gain) < self.noise:
            return f": within noise, which is about {self.noise:.2g}"
        ahead, behind = self._verdicts
        return ahead if self.gain > 0 else behind


class AdvisedTrials(GroupComparison):
    """The trials that test advice, compared with all others."""

    _head = "advised: {} trials have ended"
    _verdicts = (": it helped", ": it did not help")


class FirstTrials(GroupComparison):
    """The first trials, on a ladder of rotations, compared with all others."""

    _head = "started from rotation: {} first trials have ended"


def advised(result: StudyResult) -> AdvisedTrials | None:
    """Return the result of the trials that test advice; None if there are none."""
    return AdvisedTrials.of(result, lambda trial: trial.advice)


def started(result: StudyResult) -> FirstTrials | None:
    """Return the result of the first trials; None if the sampler suggested all trials."""
    return FirstTrials.of(result, lambda trial: trial.start)


def rotation_worth(result: StudyResult) -> RotationWorth | None:
    """Return how well rotation ranks the trials; None if no trial has reported rotation."""
    curves = {trial.number: trial.curve for trial in result.trials if trial.state != "failed"}
    if not any(curve.layers for curve in curves.values()):
        return None
    judged_by = PruningConfig(
        target=result.rotation_target, mode=result.mode, warmup_epochs=result.warmup_epochs
    )
    weights = HalvingState(judged_by, result.max_epochs).with_curves(curves).weights
    return RotationWorth(
        weights.rotation_is,
        float(weights.mean[ROTATION]),
        float(weights.deviation[ROTATION]),
        float(weights.mean[METRIC]),
    )


def evidence(result: StudyResult) -> list[str]:
    """Return the evidence on first trials, pruning, rotation and advice, one line for each."""
    found = (started(result), control_trials(result), rotation_worth(result), advised(result))
    return [known.line(result.metric) for known in found if known is not None]
