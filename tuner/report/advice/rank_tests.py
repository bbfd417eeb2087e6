"""One-sided rank tests for a handful of trials, at 95 %."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SURE = 1.64  # standard errors
_NOTHING = 1e-9  # of a rank's variance


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation, in [-1, 1]; 0 where one of them does not vary."""
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
    """Return Spearman's partial correlation of two where the third is alike, in [-1, 1]; 0 where
    the third tells one of them in full."""
    both, of_first = correlation(first, second), correlation(first, third)
    of_second = correlation(second, third)
    rest = (1 - of_first**2) * (1 - of_second**2)
    if rest < _NOTHING:
        return 0.0
    return min(max((both - of_first * of_second) / math.sqrt(rest), -1.0), 1.0)


def is_positive(rho: float, count: int) -> bool:
    """Whether a rank correlation over `count` pairs is above 0 by more than chance."""
    return count > 2 and rho > _SURE / math.sqrt(count - 1)


def are_lower(some: Sequence[float], others: Sequence[float]) -> bool:
    """Whether some values rank below the others by more than chance (rank sum)."""
    n, m = len(some), len(others)
    if n < 3 or m < 3:
        return False
    ranked = _ranks([*some, *others])
    expected = n * (n + m + 1) / 2
    # Ties make the spread smaller than this: the test is then cautious.
    deviation = math.sqrt(n * m * (n + m + 1) / 12)
    return bool(ranked[:n].sum() < expected - _SURE * deviation)


def chance_of(successes: int, trials: int, each: float) -> float:
    """Return the probability of at least so many successes, of a chance `each` in [0, 1]."""
    return sum(
        math.comb(trials, k) * each**k * (1 - each) ** (trials - k)
        for k in range(successes, trials + 1)
    )


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle: NDArray[np.float64] = ends - (counts - 1) / 2
    return middle[inverse]
