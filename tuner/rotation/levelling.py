"""What to multiply each layer's rate under Layca by for the layers to end equally far.

A layer's way s, `2 ((1 - d)^(-1/2) - 1)` of its final distance d, grows about as a power of its
rate: between 1 and 2, and less the longer the run, in the relation of `tuner.rotation.rate`. One
power in the middle serves for all, since a run's steps are not known where only its end is. It
holds for hidden layers, if at middle distances best; heads follow their rate far less, and whether
it brings anything to have layers end equally far is another question (docs/log.md, 2026-11-25).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from tuner.rotation.rate import check_distance, distance_of, way_of

# In five families the multipliers' own have a median of 1.39 (docs/log.md, 2026-11-25).
POWER = 1.4
# A layer this near to the level ends there.
NEAR = 0.05
# No layer has more than this many times the common rate, nor less than one of so many parts.
MOST = 8.0
NO_RATES: Mapping[str, float] = MappingProxyType({})
_SPREAD = np.array(2.0)
# Nearer to 0 or a quarter turn, a distance says no more than that it is there.
_LEAST, _ARRIVED = 1e-4, 0.995


def levelling_rates(
    distances: Mapping[str, float], level: float, now: Mapping[str, float] = NO_RATES
) -> dict[str, float]:
    """Return the multiplier of each layer that does not end at the level, in [1/8, 8].

    Args:
        distances: by layer, at which it ended; not those that are to be let be.
        level: cosine distance in (0, 1) that all are to end at.
        now: the multipliers that they ended there with, > 0; 1 of a layer that is not in it.

    Returns:
        Nothing of the layers that ended within .05 of the level: they keep their rates.

    Raises:
        InvalidInput: the level is out of its range.
    """
    check_distance(level)
    found = {}
    for layer, distance in distances.items():
        if abs(min(distance, 1.0) - level) > NEAR:
            times = now.get(layer, 1.0) * (_way(level) / _way(distance)) ** (1 / POWER)
            found[layer] = float(f"{min(max(times, 1 / MOST), MOST):.3g}")
    return found


def at_times(distance: float, times: float) -> float:
    """Return where a layer that ended at a distance would end at so many times its rate, > 0."""
    return float(distance_of(np.array(_way(distance) * times**POWER), _SPREAD))


def power_between(before: float, after: float, times: float) -> float:
    """Return the power with which a layer's way has grown from one end to another at so many
    times, > 0 and not 1, its rate."""
    return math.log(_way(after) / _way(before)) / math.log(times)


def _way(distance: float) -> float:
    return float(way_of(min(max(distance, _LEAST), _ARRIVED), _SPREAD))
