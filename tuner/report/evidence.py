"""What a study has shown of its pruning and of rotation, and how noisy its metric is."""

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

# So many different shares that all are whole numbers over one count are not by chance.
_ENOUGH_SHARES = 8
_MOST_EXAMPLES = 100_000
# What single precision leaves of a share.
_ROUNDING = 1e-7
# Of the last reports; earlier ones still rise.
_LAST = 8
_FEWEST = 5


def noise_of(result: StudyResult, value: float) -> float:
    """Return about how far a metric near `value` is off by chance, in its units; NaN if unknown.

    The larger of two things, as far as they are known. One is the standard error of an accuracy,
    over as many examples as all its values are whole shares of. Trials are judged on the same
    examples, so that it says too much of their difference, and have seeds, of which it says
    nothing: two trials that differ by their seed alone were about so far apart (docs/log.md,
    2026-11-25). The other is how far the metric jumps from epoch to epoch at the end of complete
    trials.

    Args:
        result: the study.
        value: of the trial in question.
    """
    complete = [trial for trial in result.trials if trial.state == "complete"]
    known = [_of_examples(result, value), _of_epochs(complete)]
    return max((noise for noise in known if not math.isnan(noise)), default=math.nan)


def examples_of(values: Iterable[float]) -> int | None:
    """Return the least number of examples of which all values are whole shares.

    None where there are too few different ones to tell, or no such number up to 100,000.
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
    """The standard error of an accuracy; NaN for another metric."""
    if "acc" not in result.metric.lower() or not 0 <= value <= 1:
        return math.nan
    examples = examples_of(metric for trial in result.trials for metric in trial.curve.metric)
    if examples is None:
        return math.nan
    share = (value * examples + 1) / (examples + 2)  # where all were right, the next may not be
    return math.sqrt(share * (1 - share) / examples)


def _of_epochs(complete: Iterable[TrialResult]) -> float:
    """The jumps at the end of a run; NaN where no run is long enough."""
    # What is left of a smooth rise in second differences is noise, with 6 times its variance.
    ends = ([m for m in trial.curve.metric if math.isfinite(m)][-_LAST:] for trial in complete)
    jumps = [float(np.mean(np.diff(end, 2) ** 2)) / 6 for end in ends if len(end) >= _FEWEST]
    return math.sqrt(median(jumps)) if jumps else math.nan


@dataclass(frozen=True)
class Audits:
    """What pruning would have cost, by the trials trained to their end all the same.

    Attributes:
        trials: how many of the trials to be pruned were trained to the end, >= 1.
        best: the number of the best of them; value: its metric.
        gain: how far that is ahead of the best of all others, in units of the metric; negative if
            it is behind, as it is when pruning has cost nothing.
    """

    trials: int
    best: int
    value: float
    gain: float

    def line(self, metric: str) -> str:
        """Return it in words."""
        what = "would have won" if self.gain > 0 else "at best"
        where = f"{abs(self.gain):.4g} {'ahead of' if self.gain > 0 else 'behind'}"
        return (
            f"audited {self.trials} of the trials to be pruned to their end: {what} trial "
            f"{self.best} with {metric} {self.value:.4g}, {where} the best of the others"
        )


@dataclass(frozen=True)
class RotationWorth:
    """Whether rotation has ranked this study's own trials; see `tuner.rotation.halving`.

    `weight` and its standard `deviation` stand beside `metric_weight`, in the same unit.
    """

    says: Says
    weight: float
    deviation: float
    metric_weight: float

    def line(self, metric: str) -> str:
        """Return it in words."""
        return (
            f"rotation here: {self.says} (weight {self.weight:.2f} ± {self.deviation:.2f} beside "
            f"{self.metric_weight:.2f} for {metric})"
        )


def audits(result: StudyResult) -> Audits | None:
    """Return what the audited trials have shown; None without one, or without another to compare.

    A trial that was audited but has not come to its end shows nothing.
    """
    audited = [trial for trial in result.trials if trial.audit and trial.state == "complete"]
    others = [t.value for t in result.trials if t.state == "complete" and not t.audit]
    if not audited or not others:
        return None
    sign = 1 if result.mode == "max" else -1
    best = max(audited, key=lambda trial: sign * trial.value)
    gain = sign * best.value - max(sign * value for value in others)
    return Audits(len(audited), best.number, best.value, gain)


@dataclass(frozen=True)
class Compared:
    """What some trials of a study, set apart by a mark, have shown beside all others.

    Attributes:
        trials: how many there are, >= 1; ended: how many of them are not to run any more.
        best: the number of the best complete one, and `mark` what it tests or stands for; value:
            its metric. None, empty and NaN before one is complete.
        gain: how far it is ahead of the best of all others, in units of the metric; NaN if either
            is missing.
        noise: how far that is off by chance, see `noise_of`; NaN if unknown.
    """

    trials: int
    ended: int
    best: int | None = None
    mark: str = ""
    value: float = math.nan
    gain: float = math.nan
    noise: float = math.nan

    _head: ClassVar[str]
    _verdicts: ClassVar[tuple[str, str]] = ("", "")  # where it is ahead, and behind

    @classmethod
    def of(cls, result: StudyResult, mark_of: Callable[[TrialResult], str]) -> Self | None:
        """Return what the trials that have a mark have shown; None where there are none."""
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
        """Return it in words."""
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


class Advised(Compared):
    """What the trials that test advice have shown."""

    _head = "advised: {} trials have ended"
    _verdicts = (": it helped", ": it did not help")


class Started(Compared):
    """What the first trials have shown, which stood on a ladder of rotations."""

    _head = "started from rotation: {} first trials have ended"


def advised(result: StudyResult) -> Advised | None:
    """Return what trials that test advice have shown; None where there are none."""
    return Advised.of(result, lambda trial: trial.advice)


def started(result: StudyResult) -> Started | None:
    """Return what the first trials have shown; None where the sampler suggested all."""
    return Started.of(result, lambda trial: trial.start)


def rotation_worth(result: StudyResult) -> RotationWorth | None:
    """Return what rotation has been worth; None where no trial has reported any."""
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
    """Return what the first trials, audited ones, rotation and advised ones have shown, a line for
    each there is."""
    shown = (started(result), audits(result), rotation_worth(result), advised(result))
    return [known.line(result.metric) for known in shown if known is not None]
