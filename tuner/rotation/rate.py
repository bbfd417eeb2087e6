"""The final rotation of a layer that a rate of Layca gives, and rates that level the layers.

**The relation of rate and distance.** A run makes steps of equal length rho. Part of each step is
signal: a direction of the gradient that stays the same until the layer has turned. The rest is
noise, which lasts for a few steps because of momentum. The path length of the run is

    s = 1/2 sum_i sum_j rho_i rho_j c_ij,
    c_ij = w exp(-(turned between i and j) / memory) + (1 - w) momentum^|i - j|,

where w is the signal's share of a step. Without momentum w is `signal`. Momentum averages out the
noise, so w is then larger. The directions of a layer turn by different amounts. So the cosine with
the initial weights falls as (1 + s / spread)^(-spread). A random walk has the limit exp(-s).

The traits `signal`, `memory` and `spread` are similar in five families of networks (docs/log.md,
2026-11-25). So the relation holds before any training. Readings of short probes make it more
precise.

**Levelling.** The path length s of a layer is `2 ((1 - d)^(-1/2) - 1)`, where d is its final
distance. It grows about as a power of the layer's rate. In the relation above the power is between
1 and 2, and smaller in longer runs. Levelling uses one power between them, because it knows the end
of a run but not its steps. This power fits hidden layers, and best at medium distances. Heads
depend on their rate much less. Whether equal final distances help training is another question
(docs/log.md, 2026-11-25).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tuner.errors import InvalidInput

Floats = NDArray[np.float64]

# The grid of possible traits. The prior of the log of a trait is normal around the middle of the
# measured values.
_SIGNALS = np.geomspace(0.01, 0.5, 7)
_MEMORIES = np.geomspace(0.03, 1.2, 7)
_SPREADS = np.array([1.5, 2.0, 3.0])
_MIDDLE = {"signal": 0.07, "memory": 0.19}
_MIDDLE_SPREAD = np.array(2.0)
_DEVIATION = 0.7
# The scatter of a run's end around the relation of its traits, in ln s [measured].
_SCATTER = 0.45
# The scatter of readings from the first epoch. It is larger, because early gradients agree more.
_EARLY_SCATTER = 0.8
# Above this distance, near a quarter turn, the distance no longer determines the path length.
_ARRIVED = 0.995
# A reading above this distance does not help to choose between the traits.
_TURNED = 0.9
# The rates among which the rate for a distance is found.
RATES = np.geomspace(1e-5, 1.0, 41)
_MOST_BLOCKS = 100
_ENDS = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Interval:
    """A forecast quantity: its middle, and the ends of its 90 % interval."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True)
class Reading:
    """One measurement of one layer in a probe, a short run at a constant rate.

    Attributes:
        rate: the rate of the probe, > 0.
        steps: the number of steps before the measurement, >= 1.
        distance: the layer's cosine distance from initialisation, in [0, 2].
    """

    rate: float
    steps: int
    distance: float


@dataclass(frozen=True)
class RateRelation:
    """The relation of Layca's rate and the final distance, for one layer or for similar layers.

    Attributes:
        momentum: the momentum of the steps' directions, in [0, 1): that of SGD, or Adam's beta1.
        weights: the probability of each combination of traits, shape (traits,), with sum 1.
            Default: the prior.

    Raises:
        InvalidInput: the momentum is outside its range.

    Example:
        >>> relation = RateRelation(momentum=0.9)
        >>> rate = relation.rate_for(0.9, np.ones(1000))
        >>> print(f"{rate:.4f}")
        0.0220
    """

    momentum: float = 0.0
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise InvalidInput(f"momentum must be in [0, 1), got {self.momentum}; use e.g. 0.9")
        if not self.weights:
            object.__setattr__(self, "weights", tuple(_prior().tolist()))

    def updated(self, readings: Sequence[Reading]) -> RateRelation:
        """Return the relation, updated by the readings of one layer's probes.

        The readings of one probe are not independent, so together they count as one. Readings of 0,
        and of .9 or more, are ignored.

        Args:
            readings: all readings of the layer, of one or several probes.
        """
        surprise = np.zeros(len(self.weights))
        told: dict[float, list[Floats]] = {}
        for reading in readings:
            if 0 < reading.distance < _TURNED:
                expected = _path_length(
                    np.array([reading.rate]), np.ones(reading.steps), self.momentum
                )[0]
                seen = path_length_of(reading.distance, _TRAITS.spread)
                told.setdefault(reading.rate, []).append(np.log(seen / expected) ** 2)
        for squares in told.values():
            surprise += np.mean(squares, axis=0) / (2 * _EARLY_SCATTER**2)
        weights = np.array(self.weights) * np.exp(surprise.min() - surprise)
        return replace(self, weights=tuple((weights / weights.sum()).tolist()))

    def distances(self, rates: Sequence[float], factors: Floats) -> list[Interval]:
        """Return the final cosine distance at each rate, in [0, 1).

        Args:
            rates: the rates, > 0.
            factors: the factor of the rate at each step of the run (the schedule), shape (steps,).
        """
        way = _path_length(np.asarray(rates, dtype=np.float64), factors, self.momentum)
        return [self._interval(distance_of(of_rate, _TRAITS.spread), of_rate) for of_rate in way]

    def rate_for(self, distance: float, factors: Floats) -> float:
        """Return the rate whose median final distance is the given one.

        Args:
            distance: the final cosine distance, in (0, 1). If no rate up to 1 reaches it, the
                result is 1.
            factors: as for `distances`.

        Raises:
            InvalidInput: the distance is outside its range.
        """
        check_distance(distance)
        return rate_between([each.mid for each in self.distances(list(RATES), factors)], distance)

    def _interval(self, distances: Floats, way: Floats) -> Interval:
        order = np.argsort(distances)
        cumulated = np.cumsum(np.array(self.weights)[order])
        low, mid, high = (int(np.interp(end, cumulated, np.arange(len(order)))) for end in _ENDS)
        # Runs with the same traits scatter around their relation.
        scattered = [
            float(distance_of(way[order[at]] * np.exp(by), _TRAITS.spread[order[at]]))
            for at, by in ((low, -_SCATTER), (mid, 0.0), (high, _SCATTER))
        ]
        return Interval(*scattered)


@dataclass(frozen=True)
class _Traits:
    """All combinations of the traits of a layer; each array has shape (traits,)."""

    signal: Floats
    memory: Floats
    spread: Floats


def _combined() -> _Traits:
    signal, memory, spread = np.meshgrid(_SIGNALS, _MEMORIES, _SPREADS, indexing="ij")
    return _Traits(signal.ravel(), memory.ravel(), spread.ravel())


_TRAITS = _combined()


def _prior() -> Floats:
    off = [np.log(getattr(_TRAITS, name) / middle) / _DEVIATION for name, middle in _MIDDLE.items()]
    weights: Floats = np.exp(-0.5 * (off[0] ** 2 + off[1] ** 2))
    weights /= weights.sum()
    return weights


def check_distance(distance: float) -> None:
    """Check that a rate can reach a final distance.

    Raises:
        InvalidInput: the distance is not in (0, 1).
    """
    if not 0 < distance < 1:
        raise InvalidInput(f"distance must be in (0, 1), got {distance}; use 0.95 for nearly 1")


def rate_between(middles: Sequence[float], distance: float, rates: Floats = RATES) -> float:
    """Return the rate for a distance, interpolated between known pairs of rate and distance.

    Args:
        middles: the distance of each of `rates`, in (0, 1), ascending.
        distance: the distance to reach, in (0, 1).
        rates: the rates, > 0, ascending.
    """
    # ln s as a function of ln rate is nearly linear.
    known = [math.log(-math.log1p(-middle)) for middle in middles]
    wanted = math.log(-math.log1p(-distance))
    return math.exp(float(np.interp(wanted, known, np.log(rates))))


def distance_of(way: Floats, spread: Floats) -> Floats:
    """Return the cosine distance, in [0, 1), after a path of length s.

    Args:
        way: the path length s, >= 0.
        spread: the trait of the layer, > 0; its shape must broadcast with that of `way`.
    """
    distance: Floats = 1 - (1 + way / spread) ** -spread
    return distance


def path_length_of(distance: float, spread: Floats) -> Floats:
    """Return the path length s, >= 0, at which a layer has a given cosine distance.

    Args:
        distance: the cosine distance, in [0, 1).
        spread: the trait of the layer, > 0, of any shape.
    """
    way: Floats = spread * ((1 - distance) ** (-1 / spread) - 1)
    return way


def middle_path_length(distance: float) -> float:
    """Return the path length, >= 0, at which a layer with the middle spread has this distance.

    Args:
        distance: cosine distance >= 0; above .995 it counts as .995.
    """
    return float(path_length_of(min(distance, _ARRIVED), _MIDDLE_SPREAD))


def middle_distance(way: float) -> float:
    """Return the distance, in [0, 1), of a layer with the middle spread after a path length."""
    return float(distance_of(np.array(way), _MIDDLE_SPREAD))


def _path_length(rates: Floats, factors: Floats, momentum: float) -> Floats:
    """Return s after the run, by rate and traits: shape (rates, traits).

    Long runs are divided into blocks of steps at one mean rate. The sums over a block are
    geometric series.
    """
    signal, memory = _TRAITS.signal, _TRAITS.memory
    share = signal / (signal + (1 - signal) * (1 - momentum) / (1 + momentum))
    s = np.zeros((len(rates), len(signal)))
    kept, carried = np.zeros_like(s), np.zeros((len(rates), 1))
    for block in np.array_split(factors, min(len(factors), _MOST_BLOCKS)):
        rho, steps = rates[:, None] * block.mean(), len(block)
        if not block.any():
            continue
        of_signal, kept = _block(kept, rho, steps, np.exp(-rho / memory))
        of_noise, carried = _block(carried, rho, steps, np.full_like(rho, momentum))
        s = s + steps * rho**2 / 2 + rho * (share * of_signal + (1 - share) * of_noise)
    return s


def _block(before: Floats, rho: Floats, steps: int, decay: Floats) -> tuple[Floats, Floats]:
    """Sum the remainders of all earlier steps over one block of steps.

    Args:
        before: the remainder of all earlier steps at the beginning of the block.
        rho: the length of each step.
        steps: the number of steps.
        decay: the factor by which each step reduces the remainder.

    Returns:
        The sum over the block, and the remainder at its end.
    """
    gone = np.maximum(1 - decay, 1e-12)
    fallen = decay**steps
    series = (1 - fallen) / gone  # 1 + decay + ... + decay^(steps - 1)
    inner = decay * (steps - series) / gone  # the sum of (steps - k) decay^k, k from 1
    return before * decay * series + rho * inner, before * fallen + rho * series


# The median power of the multipliers in five families is 1.39 (docs/log.md, 2026-11-25).
POWER = 1.4
# A layer that ends this near to the level keeps its rate.
NEAR = 0.05
# A multiplier is at most this number, and at least its inverse.
MOST = 8.0
NO_RATES: Mapping[str, float] = MappingProxyType({})
_SPREAD = np.array(2.0)
# Outside these bounds, near 0 or a quarter turn, a distance does not determine the path length.
_LEAST, _ARRIVED = 1e-4, 0.995


def levelling_rates(
    distances: Mapping[str, float], level: float, now: Mapping[str, float] = NO_RATES
) -> dict[str, float]:
    """Return the rate multipliers, in [1/8, 8], with which all layers should end at one distance.

    Args:
        distances: the final cosine distance of each layer to level.
        level: the cosine distance at which all layers should end, in (0, 1).
        now: the multipliers of the run that gave `distances`, > 0; 1 for a layer that is missing.

    Returns:
        The multiplier of each layer. A layer that ended within .05 of the level keeps its rate and
        is left out.

    Raises:
        InvalidInput: the level is outside its range.

    Example:
        >>> levelling_rates({"conv": 0.5, "fc": 0.9}, level=0.9)
        {'conv': 3.26}
    """
    check_distance(level)
    found = {}
    for layer, distance in distances.items():
        if abs(min(distance, 1.0) - level) > NEAR:
            times = now.get(layer, 1.0) * (_path_length_of(level) / _path_length_of(distance)) ** (
                1 / POWER
            )
            found[layer] = float(f"{min(max(times, 1 / MOST), MOST):.3g}")
    return found


def at_times(distance: float, times: float) -> float:
    """Return the final distance of a layer if its rate is multiplied.

    Args:
        distance: the layer's final cosine distance at its present rate.
        times: the multiplier of the rate, > 0.
    """
    return float(distance_of(np.array(_path_length_of(distance) * times**POWER), _SPREAD))


def power_between(before: float, after: float, times: float) -> float:
    """Return the power of the rate with which a layer's path length has grown between two runs.

    Args:
        before: the layer's final cosine distance in the first run.
        after: the layer's final cosine distance in the second run.
        times: the second run's rate over that of the first, > 0 and not 1.
    """
    return math.log(_path_length_of(after) / _path_length_of(before)) / math.log(times)


def _path_length_of(distance: float) -> float:
    return float(path_length_of(min(max(distance, _LEAST), _ARRIVED), _SPREAD))
