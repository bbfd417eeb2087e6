"""Forecast each layer's rotation at the end of the run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuner.rotation.curve import RotationCurve

Floats = NDArray[np.float64]
Clock = Literal["lr", "epochs"]


class Model(NamedTuple):
    """The constants of one clock, each of shape (3, 1): for the low end, the middle, the high end.

    The constants were fitted to recorded runs of small networks: the middle by its absolute error,
    the ends as quantiles. docs/forecast.md has their accuracy on other runs [measured].
    """

    saturation: Floats
    drift: Floats
    drift_turned: Floats
    drift_ahead: Floats
    drift_unseen: Floats
    rate_falls: Floats
    rate_rises: Floats


def _ends(low: float, mid: float, high: float) -> Floats:
    return np.array([[low], [mid], [high]])


MODELS: dict[Clock, Model] = {
    "lr": Model(
        saturation=_ends(0.543, 0.22, 0.046),
        drift=_ends(0, 0, 0.051),
        drift_turned=_ends(-0.188, 0, 0),
        drift_ahead=_ends(0, 0, 0.084),
        drift_unseen=_ends(-0.049, 0, 0.408),
        rate_falls=_ends(0.5, 0.2, 0),
        rate_rises=_ends(0, 0, 0.2),
    ),
    # The rate may fall at any time, so at the low end the layers hardly turn any further.
    "epochs": Model(
        saturation=_ends(64, 0.7, 0.05),
        drift=_ends(0, 0, -0.078),
        drift_turned=_ends(0, 0, 0),
        drift_ahead=_ends(0, 0, 0.075),
        drift_unseen=_ends(0.171, 0, 1.14),
        rate_falls=_ends(0, 0, 0),
        rate_rises=_ends(0, 0, 0),
    ),
}
# The first number widens the interval on each side. The second number widens it further near a
# quarter turn, where a layer moves at random [measured on the same runs].
_WANDER, _WANDER_ARRIVED = 0.001, 0.06
# An exponent that exceeds 1 by no more than this counts as 1.
NEGLIGIBLE = 1e-6
# The low end depends on s only up to this value [measured].
_TURNED = 2.0
# Bounds of the log of the growth of s: the lower one in units of the log of the clock's growth,
# the upper one far above all measurements.
_LOG_SHRINK, _LOG_GROWTH = 0.25, 50.0


class Seen(NamedTuple):
    """The input of the forecast for layers with the same history.

    Attributes:
        turned: s at the last report, shape (layers,).
        exponent: the exponent of s as a power of the clock, in [0, 4], shape (layers,).
        certainty: the share of a doubling of the clock over which the exponent was measured, in
            [0, 1].
        speeding: the rise of the exponent in units of an exponential's rise, in [0, 1], shape
            (layers,).
        ahead: the clock at the end over the clock now, > 1. Both count from the first motion of
            the layers.
        log_rate: log of the mean rate until the end over the rate between the last two reports.
        notes: remarks on the forecast of all these layers.
    """

    turned: Floats
    exponent: Floats
    certainty: float
    speeding: Floats
    ahead: float
    log_rate: float
    notes: tuple[str, ...]


def extrapolate(seen: Seen, now: Floats, left: float, model: Model) -> Floats:
    """Return the low end, the middle and the high end of the final distances, shape (3, layers).

    Args:
        seen: the history of the layers.
        now: cosine distances at the last report, shape (layers,).
        left: the share of the clock that remains, in (0, 1).
        model: the constants of the clock.
    """
    ahead = math.log(seen.ahead)
    x = seen.exponent * ahead
    drift = (
        model.drift
        + model.drift_turned * np.sqrt(np.minimum(seen.turned, _TURNED))
        + model.drift_ahead * ahead
        + model.drift_unseen * (1 - seen.certainty)
    )
    log_growth = x / (1 + model.saturation * x) + drift * ahead
    if seen.speeding.any():
        rate = exponential_rate(seen.exponent)
        at_end = np.minimum(rate * seen.ahead, _LOG_GROWTH)
        beyond_power = np.log(np.expm1(at_end) / np.expm1(rate)) - x
        log_growth[2] += seen.speeding * np.maximum(beyond_power, 0)
    log_growth = log_growth.clip(-_LOG_SHRINK * ahead, _LOG_GROWTH)
    by_rate = np.exp(
        model.rate_falls * min(seen.log_rate, 0.0) + model.rate_rises * max(seen.log_rate, 0.0)
    )
    final = 1 - (1 - now) * np.exp(-seen.turned * np.expm1(log_growth) * by_rate)
    wander = (_WANDER + _WANDER_ARRIVED * np.minimum(now, 1) ** 3) * left**0.25
    ends: Floats = np.stack([final.min(axis=0) - wander, final[1], final.max(axis=0) + wander])
    return ends


def exponential_rate(exponent: Floats) -> Floats:
    """Return k, for which `s = e^(k clock / now) - 1` has this exponent over the last doubling."""
    rate: Floats = 2 * np.log(np.maximum(np.exp2(exponent) - 1, 1 + NEGLIGIBLE))
    return rate


# Unrelated directions in n dimensions have a cosine of about n^-1/2, which is .001 for a million
# weights. Above this distance the growth of a layer is noise [derived].
_ARRIVED = 0.999
# A layer with at most this distance has not moved: sums in single precision have errors of this
# size [derived].
_STILL = 1e-7
# At most this share of the learning rate counts as none: single precision resolves no less.
_STARTED = 1e-9
# Motion in one direction has an exponent of 2, and motion that speeds up has more. A sudden start
# can give any exponent.
_STEEPEST = 4.0
# One report does not determine the exponent; 1 is a steady random walk.
_UNSEEN_EXPONENT = 1.0
# A bound of the log of the ratio of rates, far above all measurements.
_LOG_RATES = 5.0
_LOG_2 = math.log(2)

# A smaller rise of the exponent above 1 may be noise, and hardly changes the interval.
_WORTH_A_WORD = 0.03
_NOT_MEASURED = "not measured since the clock started: not forecastable"
_STILL_WHILE_OTHERS_MOVE = (
    "has not moved yet while others have: frozen, or its rate is still zero; not forecastable"
)
_NOTHING_MOVES = "nothing has moved yet: anything can follow"
_SPEEDING = "speeds up, as under weight decay: the interval reaches higher"
_SCHEDULE_UNKNOWN = "schedule unknown: extrapolated over epochs"


@dataclass(frozen=True)
class Forecast:
    """The forecast of each layer's cosine distance at the end of the run, with a 90 % interval.

    Distances are in [0, 2], one per layer. `low`, `mid` and `high` are all NaN for a layer that
    cannot be forecast. At the last epoch all three are the measurement.

    Attributes:
        layers: names of the layers, in model order.
        low: the lower end of each layer's interval.
        mid: the forecast of each layer.
        high: the upper end of each layer's interval.
        clock: the axis of the extrapolation: "lr", the share of the learning rate spent, or
            "epochs" where that share is unknown.
        notes: one remark per layer: what is special about its forecast, or why it has none. Empty
            text for an ordinary forecast.

    Example:
        >>> Forecast(("conv",), low=(0.35,), mid=(0.59,), high=(0.85,), clock="epochs").mid
        (0.59,)
    """

    layers: tuple[str, ...]
    low: tuple[float, ...]
    mid: tuple[float, ...]
    high: tuple[float, ...]
    clock: Clock
    notes: tuple[str, ...] = ()


class _History(NamedTuple):
    """Layers that were measured at the same reports and first moved at the same report.

    Attributes:
        layers: the indices of the layers.
        reports: the indices of the reports since the first motion, or of all reports if the layers
            have not moved.
        origin: the index of the last report before the first motion; -1 for the start of the run.
        moving: whether the layers have moved.
    """

    layers: NDArray[np.intp]
    reports: NDArray[np.intp]
    origin: int
    moving: bool


def forecast(curve: RotationCurve) -> Forecast | None:
    """Return the forecast of every layer's final rotation, or None if no layer was measured yet.

    With d a layer's cosine distance, `s = -ln(1 - d)` grows as a power of the clock. The growth
    slows down with time. Let p be the exponent over the last doubling of the clock, and
    `x = p ln(end / now)`. Then the middle is `s_end = s_now exp(x / (1 + c x))`. The ends of the
    interval have other constants (docs/forecast.md).

    One report is enough: p is then 1, and the interval is wide. A layer that turns back has a p of
    0. The forecast of a layer beyond a quarter turn tends to 1, the distance of random directions.

    The clock is the share of the learning rate spent. If a report has no `lr_progress`, or none is
    spent yet, the clock is the share of the epochs.

    - A layer that did not move at first is forecast from its first motion.
    - A layer that has not moved while other layers have is not forecast.
    - A layer that was not measured since the clock started is not forecast.
    - A layer that is missing from the last report is forecast from its own last report.
    - At the last epoch, or once all of the learning rate is spent, the forecast is the measurement.
      The interval then has no width.

    Args:
        curve: the reports of one trial.

    Example:
        >>> curve = RotationCurve(layers=("conv",), max_epochs=20)
        >>> for epoch, distance in ((1, 0.1), (2, 0.2), (4, 0.35)):
        ...     curve = curve.append(epoch, {"conv": distance})
        >>> final = forecast(curve)
        >>> print(f"{final.mid[0]:.2f}, 90 % interval {final.low[0]:.2f} to {final.high[0]:.2f}")
        0.59, 90 % interval 0.35 to 0.85
    """
    if not curve.epochs:
        return None
    distances = np.array(curve.distances, dtype=np.float64).reshape(len(curve), len(curve.layers))
    known = ~np.isnan(distances)
    if not known.any():
        return None
    clock, clock_name = _clock(curve)
    share = np.array(curve.epochs) / curve.max_epochs
    moved = distances > _STILL  # false where unknown
    everywhere = _SCHEDULE_UNKNOWN if clock_name == "epochs" else ""
    bounds = np.full((3, len(curve.layers)), np.nan)
    notes = np.full(len(curve.layers), _NOT_MEASURED, dtype=object)
    for history in _histories(known & (clock > _STARTED)[:, None], moved):
        layers, last = history.layers, history.reports[-1]
        now: Floats = distances[last, layers]
        if share[last] >= 1 or clock[last] >= 1:
            bounds[:, layers], notes[layers] = now, ""
        elif history.moving:
            seen = _look(clock, share, distances, history)
            bounds[:, layers] = extrapolate(seen, now, 1 - clock[last], MODELS[clock_name])
            notes[layers] = _sentence(*seen.notes, everywhere)
            notes[layers[seen.speeding * (seen.exponent - 1) > _WORTH_A_WORD]] = _sentence(
                *seen.notes, _SPEEDING, everywhere
            )
        elif moved.any():
            notes[layers] = _STILL_WHILE_OTHERS_MOVE
        else:
            bounds[:, layers] = np.stack([now, now, np.ones_like(now)])
            notes[layers] = _sentence(_NOTHING_MOVES, everywhere)
    low, mid, high = (tuple(ends) for ends in bounds.clip(0.0, 2.0).tolist())
    return Forecast(curve.layers, low, mid, high, clock_name, tuple(notes))


def _clock(curve: RotationCurve) -> tuple[Floats, Clock]:
    spent = np.array(curve.lr_progress)
    if spent[-1] > _STARTED and not np.isnan(spent).any():
        return spent, "lr"
    return np.array(curve.epochs) / curve.max_epochs, "epochs"


def _histories(measured: NDArray[np.bool_], moved: NDArray[np.bool_]) -> Iterator[_History]:
    """Yield the histories of the layers that were measured since the clock started.

    Args:
        measured: whether each layer was measured, shape (reports, layers).
        moved: whether each layer had moved, shape (reports, layers).
    """
    moving = measured & moved
    if moving.all():  # by far the most common case
        yield _History(np.arange(measured.shape[1]), np.arange(len(measured)), -1, True)
        return
    first = np.where(moving.any(axis=0), moving.argmax(axis=0), -1)
    groups: dict[tuple[int, bytes], list[int]] = {}
    for layer, (start, column) in enumerate(zip(first.tolist(), measured.T, strict=True)):
        groups.setdefault((start, column.tobytes()), []).append(layer)
    for (start, _), layers in groups.items():
        reports = np.flatnonzero(measured[:, layers[0]])
        if reports.size:
            before = reports[reports < start]
            origin = int(before[-1]) if before.size else -1
            yield _History(np.array(layers), reports[reports >= start], origin, start >= 0)


def _look(clock: Floats, share: Floats, distances: Floats, history: _History) -> Seen:
    layers, reports, origin, _ = history
    # A layer that moved while no learning rate was spent has no clock of its own.
    if origin >= 0 and clock[reports[0]] - clock[origin] <= _STARTED:
        origin = -1
    start, start_share = (float(clock[origin]), float(share[origin])) if origin >= 0 else (0.0, 0.0)
    times = clock[reports] - start
    now = float(times[-1])

    def log_turned(report: int) -> Floats:
        logs: Floats = np.log(_turned(distances[reports[report], layers]))
        return logs

    def log_turned_at(time: float) -> Floats:
        before = int(np.searchsorted(times, time, side="right")) - 1
        earlier, later = math.log(times[before]), math.log(times[before + 1])
        part = (math.log(time) - earlier) / (later - earlier)
        return (1 - part) * log_turned(before) + part * log_turned(before + 1)

    exponent = np.full(layers.size, _UNSEEN_EXPONENT)
    speeding = np.zeros(layers.size)
    certainty = 1.0
    if times[0] <= now / 2:
        at_half = log_turned_at(now / 2)
        exponent = _exponent(log_turned(-1) - at_half, _LOG_2)
        if times[0] <= now / 4:
            speeding = _speeding(exponent, _exponent(at_half - log_turned_at(now / 4), _LOG_2))
    else:
        seen = math.log(now / times[0])
        certainty = seen / _LOG_2
        if seen > 0:
            measured = _exponent(log_turned(-1) - log_turned(0), seen)
            exponent += certainty * (measured - exponent)
    previous = (times[-2], share[reports[-2]]) if times.size > 1 else (0.0, start_share)
    log_rate = _log_rate(
        spent=now - float(previous[0]),
        took=float(share[reports[-1]] - previous[1]),
        ahead=1 - float(clock[reports[-1]]),
        left=1 - float(share[reports[-1]]),
    )
    notes = []
    if origin >= 0:
        notes.append(f"began to move after {start_share:.0%} of the epochs: forecast from there")
    if certainty < 1:
        notes.append("measured over less than a doubling of the clock: the interval is wide")
    if log_rate > _LOG_2:
        factor = math.exp(log_rate)
        notes.append(f"the rate ahead is {factor:.2g} times the last: the interval reaches higher")
    return Seen(
        turned=_turned(distances[reports[-1], layers]),
        exponent=exponent,
        certainty=certainty,
        speeding=speeding,
        ahead=(1 - start) / now,
        log_rate=log_rate,
        notes=tuple(notes),
    )


def _turned(distances: Floats) -> Floats:
    """Return s for these distances; the bounds keep its log finite."""
    turned: Floats = -np.log1p(-distances.clip(_STILL, _ARRIVED))
    return turned


def _exponent(log_growth: Floats, log_time: float) -> Floats:
    return (log_growth / log_time).clip(0.0, _STEEPEST)


def _speeding(exponent: Floats, before: Floats) -> Floats:
    """Return the exponent's rise above 1 in units of an exponential's rise, in [0, 1]."""
    as_exponential = np.log2(1 + np.exp(exponential_rate(exponent) / 4))
    rise = np.maximum(exponent, 1) - np.maximum(before, 1)
    share: Floats = (rise / np.maximum(exponent - as_exponential, NEGLIGIBLE)).clip(0, 1)
    return share * (exponent > 1 + NEGLIGIBLE)


def _log_rate(*, spent: float, took: float, ahead: float, left: float) -> float:
    """Return the log of `(ahead / left) / (spent / took)`, within `_LOG_RATES`."""
    if spent <= 0:
        return _LOG_RATES
    ratio = math.log(ahead / left) - math.log(spent / took)
    return min(max(ratio, -_LOG_RATES), _LOG_RATES)


def _sentence(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
