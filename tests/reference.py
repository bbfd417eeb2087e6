"""Slow truth: what the fast code must agree with, in plain NumPy float64 and plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def cosine_distance(weight: np.ndarray, initial: np.ndarray) -> float:
    """Return `1 - <w, w0> / (|w| |w0|)` of two arrays of equal shape, flattened; in [0, 2]."""
    now = np.asarray(weight, dtype=np.float64).ravel()
    then = np.asarray(initial, dtype=np.float64).ravel()
    return 1.0 - float(np.sum(now * then)) / (_norm(now) * _norm(then))


def norm_ratio(weight: np.ndarray, initial: np.ndarray) -> float:
    """Return `|w| / |w0|`."""
    now = np.asarray(weight, dtype=np.float64).ravel()
    then = np.asarray(initial, dtype=np.float64).ravel()
    return _norm(now) / _norm(then)


def rank(value: float, values: Sequence[float]) -> float:
    """Return the rank of `value` among `values`, itself included: 1 is smallest, ties averaged."""
    smaller = sum(other < value for other in values)
    equal = sum(other == value for other in values)
    return smaller + (equal + 1) / 2


def _norm(values: np.ndarray) -> float:
    return math.sqrt(float(np.sum(values * values)))
