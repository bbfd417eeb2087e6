"""Rung: the trials that have reached one epoch, and how they compare there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

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
        merits: more is better, shape (n, 4), columns as in `FEATURES`: NaN where unknown, and
            minus infinity for the worst there is.
        scores: of the trials, from the standardised ranks of their merits, shape (n,).
        ascending: the scores, sorted, so that finding a place does not take the longer the more
            trials there are.
        known: which of `FEATURES` are known of any trial.
    """

    epoch: float
    numbers: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    merits: Floats = field(default_factory=lambda: np.empty((0, len(FEATURES))))
    scores: Floats = field(default_factory=lambda: np.empty(0))
    ascending: Floats = field(default_factory=lambda: np.empty(0))
    known: tuple[bool, ...] = (False,) * len(FEATURES)

    def __len__(self) -> int:
        return len(self.numbers)

    def __contains__(self, number: int) -> bool:
        at = int(np.searchsorted(self.numbers, number))
        return at < len(self.numbers) and bool(self.numbers[at] == number)

    def holds(self, number: int, merits: tuple[float, ...]) -> bool:
        """Whether the rung has this trial, with these merits."""
        own = self.merits[np.searchsorted(self.numbers, number)] if number in self else ()
        return np.array_equal(own, merits, equal_nan=True)

    def with_trial(self, number: int, merits: tuple[float, ...]) -> Rung:
        """Return the rung with one more trial, not scored yet; a trial it has is replaced."""
        return self.with_trials({number: merits})

    def with_trials(self, merits: Mapping[int, tuple[float, ...]]) -> Rung:
        """Return the rung with more trials, by number; in one step, since each copies them all."""
        others = ~np.isin(self.numbers, list(merits))
        numbers = np.concatenate([self.numbers[others], np.array(list(merits), dtype=np.int64)])
        rows = np.concatenate([self.merits[others], np.array(list(merits.values()), dtype=float)])
        order = np.argsort(numbers)
        return Rung(self.epoch, numbers[order], rows[order])

    def scored(self, weights: Floats) -> Rung:
        """Return the rung with its scores: the sum of `weights`, shape (4,), times `standardised`.

        A trial with the worst possible metric or loss comes last, whatever else is known of it.
        """
        scores = standardised(self.merits) @ weights
        scores[np.isneginf(self.merits).any(axis=1)] = -np.inf
        known = tuple(bool(column.any()) for column in ~np.isnan(self.merits).T)
        return replace(self, scores=scores, ascending=np.sort(scores), known=known)

    def place(self, number: int) -> int:
        """Return the place of a trial by score: 1 is best, and equals share the better place."""
        own = self.scores[np.searchsorted(self.numbers, number)]
        return 1 + len(self) - int(np.searchsorted(self.ascending, own, side="right"))


def standardised(merits: Floats) -> Floats:
    """Return every column's ranks as logistic scores with mean 0 and about unit deviation.

    Ranks make columns of any unit comparable and outliers harmless. Equal values share the mean
    of their ranks (then the mean is only about 0); what is unknown (NaN) takes 0, the middle.

    Args:
        merits: shape (n, columns).
    """
    scores = np.zeros_like(merits)
    for column, values in enumerate(merits.T):
        known = ~np.isnan(values)
        count = int(known.sum())
        if count > 1:
            _, place, equals = np.unique(values[known], return_inverse=True, return_counts=True)
            share = (np.cumsum(equals) - equals / 2) / count
            scores[known, column] = (_UNIT * np.log(share / (1 - share)))[place]
    return scores
