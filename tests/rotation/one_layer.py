"""Curves of one layer, with known ends, to be forecast."""

import math
from collections.abc import Sequence

from tuner.rotation import RotationCurve, forecast

MAX_EPOCHS = 20


def curve_of(
    distances: Sequence[float], clock: Sequence[float] | None = None, max_epochs: int = MAX_EPOCHS
) -> RotationCurve:
    """Return the curve of one layer reported at epochs 1, 2, ..."""
    curve = RotationCurve(("layer",), max_epochs)
    for index, distance in enumerate(distances):
        spent = math.nan if clock is None else clock[index]
        curve = curve.append(index + 1, {"layer": distance}, lr_progress=spent)
    return curve


def cosine_clock(epochs: int) -> list[float]:
    """Return the share of a cosine schedule's learning rate spent after 1, 2, ... epochs."""
    shares = [epoch / MAX_EPOCHS for epoch in range(1, epochs + 1)]
    return [share + math.sin(math.pi * share) / math.pi for share in shares]


def steady_clock(epochs: int) -> list[float]:
    return [epoch / MAX_EPOCHS for epoch in range(1, epochs + 1)]


def power(rate: float, exponent: float, clock: Sequence[float]) -> list[float]:
    """Return the distances of a layer whose s grows as a power of the clock, to `rate`."""
    return [1 - math.exp(-rate * spent**exponent) for spent in clock]


def only(curve: RotationCurve) -> tuple[float, float, float]:
    """Return low, mid and high of a curve's only layer."""
    result = forecast(curve)
    assert result is not None
    return result.low[0], result.mid[0], result.high[0]
