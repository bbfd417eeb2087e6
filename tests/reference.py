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


def layca(
    weight: np.ndarray, step: np.ndarray, rho: float, norm: float | None = None
) -> np.ndarray:
    """Return a layer after one step of Layca (arXiv:1806.01603, algorithm 1).

    `step` is what the base optimizer would take away from `weight`; `norm` is the one to have
    afterwards, by default the layer's own. A step of zero leaves the layer as it is.
    """
    w = np.asarray(weight, dtype=np.float64).ravel()
    s = np.asarray(step, dtype=np.float64).ravel()
    if _norm(s) == 0:
        return w.reshape(np.shape(weight))
    s = s - np.sum(s * w) / _norm(w) ** 2 * w
    s = s * _norm(w) / _norm(s)
    turned = w - rho * s
    turned *= (_norm(w) if norm is None else norm) / _norm(turned)
    return turned.reshape(np.shape(weight))


def turn(weight: np.ndarray, before: np.ndarray) -> float:
    """Return the angle in radians between two arrays, also where it is tiny; in [0, pi]."""
    now = np.asarray(weight, dtype=np.float64).ravel()
    then = np.asarray(before, dtype=np.float64).ravel()
    now, then = now / _norm(now), then / _norm(then)
    return 2 * math.atan2(_norm(now - then), _norm(now + then))


def rank(value: float, values: Sequence[float]) -> float:
    """Return the rank of `value` among `values`, itself included: 1 is smallest, ties averaged."""
    smaller = sum(other < value for other in values)
    equal = sum(other == value for other in values)
    return smaller + (equal + 1) / 2


def _norm(values: np.ndarray) -> float:
    return math.sqrt(float(np.sum(values * values)))


def way_under_rotation(rates: np.ndarray, momentum: float, signal: float, memory: float) -> float:
    """Return s = 1/2 sum_ij rho_i rho_j c_ij of `tuner.rotation.rate`, from all pairs of steps."""
    turned, steps = np.cumsum(rates), np.arange(len(rates))
    share = signal / (signal + (1 - signal) * (1 - momentum) / (1 + momentum))
    signalled = np.exp(-np.abs(turned[:, None] - turned) / memory)
    noise = momentum ** np.abs(steps[:, None] - steps)
    return float(rates @ (share * signalled + (1 - share) * noise) @ rates) / 2
