"""Evidence from a study: the cost of pruning, the use of rotation, the noise of the metric."""

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

# With this many different values, a common count of examples is not a coincidence.
_ENOUGH_SHARES = 8
_MOST_EXAMPLES = 100_000
# The rounding error of a share in single precision.
_ROUNDING = 1e-7
# The noise between epochs is measured on the last reports: earlier reports still rise.
_LAST = 8
_FEWEST = 5


def noise_of(result: StudyResult, value: float) -> float:
    """Return the approximate noise of a metric near `value`, in its units; NaN if unknown.

    It is the larger of two estimates; a single known estimate is used alone.

    The first estimate is the standard error of an accuracy. Each accuracy is a count of hits over
    the number of examples, so the values determine this number. All trials are evaluated on the
    same examples, so the estimate is too large for a difference between trials. It does not include
    the noise of seeds. Two trials that differ only by their seed differed by about this much
    (docs/log.md, 2026-11-25).

    The second estimate is the jump of the metric between the last epochs of complete trials.

    Args:
        result: the study.
        value: the metric of the trial in question.
    """
    complete = [trial for trial in result.trials if trial.state == "complete"]
    known = [_of_examples(result, value), _of_epochs(complete)]
    return max((noise for noise in known if not math.isnan(noise)), default=math.nan)


def examples_of(values: Iterable[float]) -> int | None:
    """Return the smallest number n of examples for which every value is k/n with a whole k.

    None with fewer than 8 different values, or if no n up to 100,000 fits.

    Example:
        >>> examples_of(hits / 360 for hits in range(300, 312))
        360
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
    # Laplace's rule: a share of 100 % in few examples is still uncertain.
    share = (value * examples + 1) / (examples + 2)
    return math.sqrt(share * (1 - share) / examples)


def _of_epochs(complete: Iterable[TrialResult]) -> float:
    """Return the median jump between the last epochs of a run; NaN if no run is long enough."""
    # Second differences remove a smooth rise. They have 6 times the variance of the noise.
    ends = ([m for m in trial.curve.metric if math.isfinite(m)][-_LAST:] for trial in complete)
    jumps = [float(np.mean(np.diff(end, 2) ** 2)) / 6 for end in ends if len(end) >= _FEWEST]
    return math.sqrt(median(jumps)) if jumps else math.nan


def _compared(gain: float) -> str:
    """Return how a trial compares with the best of the other trials, in words."""
    if gain == 0:
        return "as good as the best of the others"
    return f"{abs(gain):.4g} {'better' if gain > 0 else 'worse'} than the best of the others"


_CONCLUSIONS: dict[Says, str] = {
    "informative": "rotation ranks the trials of this study",
    "not informative": "rotation does not rank the trials of this study",
    "not known yet": "it is not known yet whether rotation ranks the trials of this study",
}


@dataclass(frozen=True)
class ControlTrials:
    """The cost of pruning, measured by control trials.

    A control trial trains to its end although it would be pruned.

    Attributes:
        trials: the number of control trials, >= 1.
        best: the number of the best control trial.
        value: the metric of the best control trial.
        gain: how much better it is than the best of all other trials, in units of the metric.
            If it is negative, pruning has cost nothing.
    """

    trials: int
    best: int
    value: float
    gain: float

    def line(self, metric: str) -> str:
        """Return it as one line of text."""
        would = "it would" if self.trials == 1 else "they would"
        return (
            f"control trials: {self.trials} trained to the end although {would} be pruned; the "
            f"best, trial {self.best}, has {metric} {self.value:.4g}, {_compared(self.gain)}"
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
            f"{self.words} (weight {self.weight:.2f} ± {self.deviation:.2f}; {metric} has "
            f"{self.metric_weight:.2f})"
        )

    @property
    def words(self) -> str:
        """The conclusion as a sentence without its full stop."""
        return _CONCLUSIONS[self.says]


def control_trials(result: StudyResult) -> ControlTrials | None:
    """Return the result of the complete control trials.

    None without a complete control trial, or without another complete trial.
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
    """The trials of a study with a mark, compared with all other trials.

    Attributes:
        trials: the number of trials with a mark, >= 1.
        ended: how many of these trials have ended.
        best: the number of the best complete trial with a mark; None if none is complete.
        mark: the mark of this best trial; empty if none is complete.
        value: the metric of this best trial; NaN if none is complete.
        gain: how much better it is than the best of all other trials, in units of the metric; NaN
            if one of the two is missing.
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
        """Return the comparison; None if no trial has a mark.

        Args:
            result: the study.
            mark_of: returns the mark of a trial, or an empty text.
        """
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
        return f"{found}, {_compared(self.gain)}{self._verdict}"

    @property
    def _verdict(self) -> str:
        if abs(self.gain) < self.noise:
            return f": less than the noise, which is about {self.noise:.2g}"
        ahead, behind = self._verdicts
        return ahead if self.gain > 0 else behind


class AdvisedTrials(GroupComparison):
    """The trials that test advice, compared with all other trials."""

    _head = "trials that test advice: {} have ended"
    _verdicts = (": the advice helped", ": the advice did not help")


class FirstTrials(GroupComparison):
    """The first trials, on a ladder of rotations, compared with all other trials."""

    _head = "first trials, on a ladder of rotations: {} have ended"


def advised(result: StudyResult) -> AdvisedTrials | None:
    """Return the result of the trials that test advice; None without such trials."""
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
