"""Extrapolate what was seen of layers to the end of the run, with the constants fitted for that."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
