"""How far the metric of a study is off by chance, as far as the study itself shows it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median

import numpy as np

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
