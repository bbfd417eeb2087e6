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
    """The constants of one clock: columns for the low end, the middle and the high end.

    Fitted to recorded runs of small networks, the middle by its absolute error and the ends as
    quantiles; how well they do on other runs is in docs/forecast.md [measured].
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
    # The rate may fall at any time: at the low end hardly anything more happens.
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
# What a layer wanders by when the forecast has nothing else to say: least, and more for one that
# has arrived at a quarter turn, where it moves about at random [measured on the same runs].
_WANDER, _WANDER_ARRIVED = 0.001, 0.06
# An exponent this little over 1 is not.
NEGLIGIBLE = 1e-6
# Beyond this s says no more about how much slower a layer may become [measured].
_TURNED = 2.0
# How fast s can shrink in logs of the clock, and a bound far outside of what was measured.
_LOG_SHRINK, _LOG_GROWTH = 0.25, 50.0


class Seen(NamedTuple):
    """What layers that move alike are forecast from; the arrays have shape (layers,)."""

    turned: Floats  # s at the last report
    exponent: Floats  # of s as a power of the clock, at least 0 and bounded
    certainty: float  # in [0, 1]: 1 when the exponent was seen over a whole doubling of the clock
    speeding: Floats  # in [0, 1]: whether the exponent rises as that of an exponential does
    ahead: float  # the clock at the end over the clock now, both since the layers began to move
    log_rate: float  # log of the mean rate ahead over the rate between the last two reports
    notes: tuple[str, ...]


def extrapolate(seen: Seen, now: Floats, left: float, model: Model) -> Floats:
    """Return low, mid and high at the end, shape (3, layers).

    Args:
        now: distances at the last report, shape (layers,).
        left: the share of the clock that is ahead, in (0, 1).
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
    """Return k for `s = e^(k clock / now) - 1` with this exponent over the last doubling."""
    rate: Floats = 2 * np.log(np.maximum(np.exp2(exponent) - 1, 1 + NEGLIGIBLE))
    return rate


# Unrelated directions in n dimensions have a cosine of about n^-1/2, which is .001 for a million
# weights: beyond this a layer has arrived, and its growth is noise [derived].
_ARRIVED = 0.999
# Below this a layer has not moved: sums in single precision are off by as much [derived].
_STILL = 1e-7
# A share of the learning rate below which none is spent: single precision resolves no less.
_STARTED = 1e-9
# Motion in one direction has an exponent of 2 and what speeds up has more; a sudden start can show
# any number.
_STEEPEST = 4.0
# What a first report alone says of the exponent: nothing, and 1 is a steady rate.
_UNSEEN_EXPONENT = 1.0
# A bound of the log of rates, far outside of what was measured.
_LOG_RATES = 5.0
_LOG_2 = math.log(2)

# An exponent that has risen above 1 by less is as likely noise, and hardly moves the interval.
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
    """Each layer's cosine distance at the end of the run, with a 90 % interval, all in [0, 2].

    Attributes:
        layers: names of the layers, in model order.
        low: NaN, as `mid` and `high`, for a layer that cannot be forecast.
        mid: the forecast.
        high: at the last epoch all three are the measurement.
        clock: what the curve was extrapolated along: the learning rate, or the epochs where that
            is unknown.
        notes: what is special about each layer's forecast, in words, or why there is none; empty
            where nothing is.
    """

    layers: tuple[str, ...]
    low: tuple[float, ...]
    mid: tuple[float, ...]
    high: tuple[float, ...]
    clock: Clock
    notes: tuple[str, ...] = ()


class _History(NamedTuple):
    """Layers that were measured at the same reports and began to move at the same one."""

    layers: NDArray[np.intp]
    reports: NDArray[np.intp]  # since they began to move; all of them if they have not
    origin: int  # the last report at which they were still, -1 for the start of the run
    moving: bool


def forecast(curve: RotationCurve) -> Forecast | None:
    """Return the forecast of every layer's final rotation, or None if no layer was measured yet.

    `s = -ln(1 - d)` grows as a power of the clock, the more slowly the further ahead: with p the
    exponent over the last doubling of the clock and `x = p ln(end / now)`, the middle is
    `s_end = s_now exp(x / (1 + c x))`, and the ends of the interval are the same with other
    constants (docs/forecast.md). One report is enough; p is then taken to be 1, and the interval is
    wide. For p, a layer that is turning back rests. A layer past a quarter turn is drawn back
    towards 1, where directions at random meet.

    The learning rate is the clock when every report carries `lr_progress` and some was spent. A
    layer that was still at first is forecast from when it began to move; one that is still while
    others move is not forecast, nor one not measured since the clock started. A layer missing from
    the last report is forecast from its own last one. At the last epoch, or once all of the
    learning rate is spent, the forecast is the measurement and the interval has no width.
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
    """Yield the layers that have been measured since the clock started, alike ones together.

    Both have shape (reports, layers).
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
    if origin >= 0 and clock[reports[0]] - clock[origin] <= _STARTED:  # moved without any rate
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
    """Return s, bounded away from 0 and infinity."""
    turned: Floats = -np.log1p(-distances.clip(_STILL, _ARRIVED))
    return turned


def _exponent(log_growth: Floats, log_time: float) -> Floats:
    return (log_growth / log_time).clip(0.0, _STEEPEST)


def _speeding(exponent: Floats, before: Floats) -> Floats:
    """Return how far the exponent has risen above 1, in units of an exponential's rise, up to 1."""
    as_exponential = np.log2(1 + np.exp(exponential_rate(exponent) / 4))
    rise = np.maximum(exponent, 1) - np.maximum(before, 1)
    share: Floats = (rise / np.maximum(exponent - as_exponential, NEGLIGIBLE)).clip(0, 1)
    return share * (exponent > 1 + NEGLIGIBLE)


def _log_rate(*, spent: float, took: float, ahead: float, left: float) -> float:
    """Return the log of `ahead / left` over `spent / took`, bounded."""
    if spent <= 0:
        return _LOG_RATES
    ratio = math.log(ahead / left) - math.log(spent / took)
    return min(max(ratio, -_LOG_RATES), _LOG_RATES)


def _sentence(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
