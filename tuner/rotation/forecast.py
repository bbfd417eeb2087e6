"""Forecast how far each layer will have turned when the run ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuner.rotation.curve import RotationCurve

Floats = NDArray[np.float64]
Clock = Literal["lr", "epochs"]

# Mean absolute error of the forecast, by share of the epochs done [measured on 20-epoch runs of
# small networks; 50 % with the clock was .01 to .02, of which the larger]. Known exactly at the
# end. Without the clock nothing was measured after 30 %, and the line goes straight to the end.
_MEAN_ERROR: dict[Clock, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "lr": ((0.1, 0.2, 0.3, 0.5, 1.0), (0.11, 0.06, 0.04, 0.02, 0.0)),
    "epochs": ((0.1, 0.2, 0.3, 1.0), (0.19, 0.13, 0.09, 0.0)),
}
# Half-width of a 90 % interval in mean absolute errors [measured on the same runs]; it is 2.06 for
# a normal distribution and 2.3 for the heavier-tailed Laplace distribution.
_MEAN_ERRORS_IN_90_PERCENT = 2.3
# Unrelated directions in n dimensions have a cosine of about n^-1/2, which is .001 for a million
# weights: beyond this a layer has arrived, and its slope is noise [derived].
_ARRIVED = 0.999


@dataclass(frozen=True)
class Forecast:
    """Each layer's cosine distance at the end of the run, with a 90 % interval, all in [0, 2].

    NaN in all three for a layer that was not measured since the clock started. `clock` is what the
    curve was extrapolated along: the learning rate, or the epochs where that is unknown.
    """

    layers: tuple[str, ...]
    low: tuple[float, ...]
    mid: tuple[float, ...]
    high: tuple[float, ...]
    clock: Clock


def forecast(curve: RotationCurve) -> Forecast | None:
    """Return the forecast of every layer's final rotation, or None if no layer was measured yet.

    The start (no time spent, no distance) counts as a point, so one report is enough. With
    `s = -ln(1 - d)` against the clock, s goes on as it went over the second half of the clock
    seen: `d_end = 1 - (1 - d_now) exp(-slope * clock_left)` [derived: s is linear in the learning
    rate spent under steady rotation]. For the slope, distances over .999 count as .999, and a layer
    that is turning back is taken to stay where it is. A layer past a quarter turn is drawn back
    towards 1, where directions at random meet.

    The learning rate is the clock when every report carries `lr_progress` and some was spent. A
    layer missing from the last report is forecast from its own last one. At the last epoch the
    forecast is the measurement, and the interval has no width.
    """
    if not curve.epochs:
        return None
    distances = np.array(curve.distances, dtype=np.float64).reshape(len(curve), len(curve.layers))
    known = np.isfinite(distances)
    if not known.any():
        return None
    clock, clock_name = _clock(curve)
    share = np.array(curve.epochs) / curve.max_epochs
    mid = np.full(len(curve.layers), np.nan)
    half_width = np.full(len(curve.layers), np.nan)
    for columns, rows in _same_history(known):
        last = rows[-1]
        left = 0.0 if share[last] >= 1 else 1.0 - clock[last]
        mid[columns] = _extrapolate(clock[rows], distances[np.ix_(rows, columns)], left)
        half_width[columns] = _half_width(float(share[last]), clock_name)
    return Forecast(
        layers=curve.layers,
        low=_in_range(mid - half_width),
        mid=_in_range(mid),
        high=_in_range(mid + half_width),
        clock=clock_name,
    )


def _clock(curve: RotationCurve) -> tuple[Floats, Clock]:
    spent = np.array(curve.lr_progress)
    if np.isfinite(spent).all() and spent[-1] > 0:
        return spent, "lr"
    return np.array(curve.epochs) / curve.max_epochs, "epochs"


def _same_history(known: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield layers together with the reports that measured them, all layers of a pattern at once.

    `known` has shape (reports, layers); layers without any report are left out.
    """
    patterns: dict[bytes, list[int]] = {}
    for layer, reports in enumerate(known.T):
        patterns.setdefault(reports.tobytes(), []).append(layer)
    for layers in patterns.values():
        reports = np.flatnonzero(known[:, layers[0]])
        if reports.size:
            yield np.array(layers), reports


def _extrapolate(clock: Floats, distances: Floats, left: float) -> Floats:
    """Return the final distances; `clock` has shape (reports,), `distances` (reports, layers)."""
    now: Floats = distances[-1]
    if left == 0:
        return now
    # A clock still at zero (a warmup that starts at rate 0) says nothing about the slope.
    if clock[-1] == 0:
        return np.full_like(now, np.nan)
    times = np.concatenate([[0.0], clock])
    turned = np.vstack([np.zeros_like(now), -np.log1p(-np.minimum(distances, _ARRIVED))])
    half = times[-1] / 2
    after = int(np.searchsorted(times, half, side="right"))
    weight = (half - times[after - 1]) / (times[after] - times[after - 1])
    turned_at_half = (1 - weight) * turned[after - 1] + weight * turned[after]
    # Near a quarter turn a fall in d is mostly noise, which the logarithm blows up: carried on, it
    # would send a layer that has arrived back to 0.
    slope = np.maximum((turned[-1] - turned_at_half) / (times[-1] - half), 0.0)
    final: Floats = 1 - (1 - now) * np.exp(-slope * left)
    return final


def _half_width(share: float, clock: Clock) -> float:
    """Return the half-width of the 90 % interval after `share` in (0, 1] of the epochs."""
    shares, errors = _MEAN_ERROR[clock]
    # Before the first measurement: a slope's error grows as what it was seen over shrinks
    # [derived].
    early = max(1.0, shares[0] / share)
    mean_error = early * float(np.interp(share, shares, errors))
    return _MEAN_ERRORS_IN_90_PERCENT * mean_error


def _in_range(values: Floats) -> tuple[float, ...]:
    return tuple(np.clip(values, 0.0, 2.0).tolist())
