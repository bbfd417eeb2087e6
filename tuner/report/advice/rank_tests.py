"""One-sided rank tests at 95 %, for samples as small as the trials of a study."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SURE = 1.64  # standard errors
_NOTHING = 1e-9  # share of a rank's variance


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation, in [-1, 1]; 0 if one of the samples is constant.

    Example:
        >>> round(correlation([1, 2, 3], [10, 20, 15]), 2)
        0.5
    """
    if len(first) < 2:
        return 0.0
    ranks = np.stack([_ranks(first), _ranks(second)])
    spread = ranks.std(axis=1)
    if not spread.all():
        return 0.0
    centred = (ranks - ranks.mean(axis=1, keepdims=True)) / spread[:, None]
    return float((centred[0] * centred[1]).mean())


def correlation_given(
    first: Sequence[float], second: Sequence[float], third: Sequence[float]
) -> float:
    """Return Spearman's partial correlation of two samples, given a third, in [-1, 1].

    0 if the third sample determines one of the two.
    """
    both, of_first = correlation(first, second), correlation(first, third)
    of_second = correlation(second, third)
    rest = (1 - of_first**2) * (1 - of_second**2)
    if rest < _NOTHING:
        return 0.0
    return min(max((both - of_first * of_second) / math.sqrt(rest), -1.0), 1.0)


def is_positive(rho: float, count: int) -> bool:
    """Return whether a rank correlation over `count` pairs is significantly above 0."""
    return count > 2 and rho > _SURE / math.sqrt(count - 1)


def are_lower(some: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether some values are significantly lower than others, by the rank sum test."""
    n, m = len(some), len(others)
    if n < 3 or m < 3:
        return False
    ranked = _ranks([*some, *others])
    expected = n * (n + m + 1) / 2
    # With ties the true deviation is smaller, so the test is conservative.
    deviation = math.sqrt(n * m * (n + m + 1) / 12)
    return bool(ranked[:n].sum() < expected - _SURE * deviation)


def chance_of(successes: int, trials: int, each: float) -> float:
    """Return the probability of at least `successes` in `trials`, with probability `each`."""
    return sum(
        math.comb(trials, k) * each**k * (1 - each) ** (trials - k)
        for k in range(successes, trials + 1)
    )


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the ranks, from 1. Equal values get the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle: NDArray[np.float64] = ends - (counts - 1) / 2
    return middle[inverse]
