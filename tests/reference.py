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


def final_distance(clock: Sequence[float], distances: Sequence[float]) -> float:
    """Return one layer's forecast: `s = -ln(1 - d)` carried on at its slope since half the clock.

    `clock` runs from just over 0 to at most 1, `distances` are below .999 and do not fall.
    """
    times = [0.0, *clock]
    turned = [0.0, *(-math.log(1.0 - distance) for distance in distances)]
    half = times[-1] / 2
    at_half = math.nan
    for index in range(1, len(times)):
        if times[index - 1] <= half < times[index]:
            part = (half - times[index - 1]) / (times[index] - times[index - 1])
            at_half = turned[index - 1] + part * (turned[index] - turned[index - 1])
    slope = (turned[-1] - at_half) / (times[-1] - half)
    return 1.0 - math.exp(-(turned[-1] + slope * (1.0 - times[-1])))


def rank(value: float, values: Sequence[float]) -> float:
    """Return the rank of `value` among `values`, itself included: 1 is smallest, ties averaged."""
    smaller = sum(other < value for other in values)
    equal = sum(other == value for other in values)
    return smaller + (equal + 1) / 2


def _norm(values: np.ndarray) -> float:
    return math.sqrt(float(np.sum(values * values)))
