"""How far a layer turns in a run under Layca by its rate, and the rates that level the layers.

Steps of equal length rho draw a path whose steps resemble each other: what the gradient keeps
saying (the signal) holds on until the layer has turned away from where it said so, momentum makes
the rest (the noise) last for a few steps, and each step adds to the square of the way

    s = 1/2 sum_i sum_j rho_i rho_j c_ij,
    c_ij = w exp(-(turned between i and j) / memory) + (1 - w) momentum^|i - j|,

with w the signal's share of a step: `signal` without momentum, more with it, which averages the
noise away. The directions of a layer differ in how much of that they get, so the cosine with the
start falls as (1 + s / spread)^(-spread) rather than exp(-s), the random walk's own limit.

The three traits were found alike in five families of networks (docs/log.md, 2026-11-25), so that
the relation holds before anything is trained; readings of short probes narrow it down.

A layer's way s, `2 ((1 - d)^(-1/2) - 1)` of its final distance d, grows about as a power of its
rate: between 1 and 2, and less the longer the run, in the relation of `tuner.rotation.rate`. One
power in the middle serves for all, since a run's steps are not known where only its end is. It
holds for hidden layers, if at middle distances best; heads follow their rate far less, and whether
it brings anything to have layers end equally far is another question (docs/log.md, 2026-11-25).
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

# What the traits may be. Their logs are taken to lie around the middle of what was found.
_SIGNALS = np.geomspace(0.01, 0.5, 7)
_MEMORIES = np.geomspace(0.03, 1.2, 7)
_SPREADS = np.array([1.5, 2.0, 3.0])
_MIDDLE = {"signal": 0.07, "memory": 0.19}
_MIDDLE_SPREAD = np.array(2.0)
_DEVIATION = 0.7
# How far a run's end lies from the relation of its own traits, in ln s [measured].
_SCATTER = 0.45
# How far a reading from the first epoch may lie from it: the gradient still says one thing then.
_EARLY_SCATTER = 0.8
# Nearer to a quarter turn a distance says no more of how long the way was.
_ARRIVED = 0.995
# Beyond this distance a reading says no more than that the layer has turned.
_TURNED = 0.9
# The rates that are asked about when a distance is to be met.
RATES = np.geomspace(1e-5, 1.0, 41)
_MOST_BLOCKS = 100
_ENDS = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Interval:
    """A quantity as it is forecast: its middle, and the ends that 90 % lie within."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True)
class Reading:
    """What a probe showed: after `steps` >= 1 steps at `rate` > 0, held constant, a layer's
    cosine distance from its start, in [0, 2]."""

    rate: float
    steps: int
    distance: float


@dataclass(frozen=True)
class RateRelation:
    """The rate of Layca's steps against the final distance, for one layer or several alike.

    Attributes:
        momentum: of the steps' directions, in [0, 1): SGD's momentum, or Adam's beta1.
        weights: how probable each combination of the traits is; shape (traits,), summing to 1.

    Raises:
        InvalidInput: the momentum is out of its range.
    """

    momentum: float = 0.0
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise InvalidInput(f"momentum must be in [0, 1), got {self.momentum}; use e.g. 0.9")
        if not self.weights:
            object.__setattr__(self, "weights", tuple(_prior().tolist()))

    def updated(self, readings: Sequence[Reading]) -> RateRelation:
        """Return the relation after having seen readings of one layer's probes.

        Those of one probe are not independent, so all of them together count as one each. Layers
        that have not moved, or turned all the way, say nothing.
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
            rates: > 0.
            factors: what the rate is multiplied by at each step of the run, shape (steps,).
        """
        way = _path_length(np.asarray(rates, dtype=np.float64), factors, self.momentum)
        return [self._interval(distance_of(of_rate, _TRAITS.spread), of_rate) for of_rate in way]

    def rate_for(self, distance: float, factors: Floats) -> float:
        """Return the rate whose final distance is, in the middle of what is probable, the given.

        Args:
            distance: in (0, 1). One that no rate up to 1 reaches gets that rate.
            factors: as for `distances`.

        Raises:
            InvalidInput: the distance is out of its range.
        """
        check_distance(distance)
        return rate_between([each.mid for each in self.distances(list(RATES), factors)], distance)

    def _interval(self, distances: Floats, way: Floats) -> Interval:
        order = np.argsort(distances)
        cumulated = np.cumsum(np.array(self.weights)[order])
        low, mid, high = (int(np.interp(end, cumulated, np.arange(len(order)))) for end in _ENDS)
        # A run scatters around its traits' own relation.
        scattered = [
            float(distance_of(way[order[at]] * np.exp(by), _TRAITS.spread[order[at]]))
            for at, by in ((low, -_SCATTER), (mid, 0.0), (high, _SCATTER))
        ]
        return Interval(*scattered)


@dataclass(frozen=True)
class _Traits:
    """All combinations of what a layer may be like; each array has shape (traits,)."""

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
    """Raise InvalidInput for a final distance that no rate can be asked for."""
    if not 0 < distance < 1:
        raise InvalidInput(f"distance must be in (0, 1), got {distance}; use 0.95 for nearly 1")


def rate_between(middles: Sequence[float], distance: float, rates: Floats = RATES) -> float:
    """Return the rate of a distance in (0, 1) where each of `rates` gives one of `middles`."""
    # Interpolated in what is nearly linear: ln s by ln rate.
    known = [math.log(-math.log1p(-middle)) for middle in middles]
    wanted = math.log(-math.log1p(-distance))
    return math.exp(float(np.interp(wanted, known, np.log(rates))))


def distance_of(way: Floats, spread: Floats) -> Floats:
    """Return the cosine distance after a way s, in [0, 1)."""
    distance: Floats = 1 - (1 + way / spread) ** -spread
    return distance


def path_length_of(distance: float, spread: Floats) -> Floats:
    """Return the way s after which the cosine distance is the given, in [0, 1)."""
    way: Floats = spread * ((1 - distance) ** (-1 / spread) - 1)
    return way


def middle_path_length(distance: float) -> float:
    """Return the way after which the middle of the traits has turned by a distance, >= 0; one that
    is nearly 1 or more counts as nearly 1."""
    return float(path_length_of(min(distance, _ARRIVED), _MIDDLE_SPREAD))


def middle_distance(way: float) -> float:
    """Return the distance in [0, 1) that the middle of the traits has turned by after a way."""
    return float(distance_of(np.array(way), _MIDDLE_SPREAD))


def _path_length(rates: Floats, factors: Floats, momentum: float) -> Floats:
    """Return s after the run, by rate and traits: shape (rates, traits).

    Long runs are summed in blocks of steps at one rate, in which the sums are geometric.
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
    """Return the sum, over a block's steps, of what is left of all earlier steps, and what is left
    of all after the block. `before` is what was left before it; each step leaves `decay` of it."""
    gone = np.maximum(1 - decay, 1e-12)
    fallen = decay**steps
    series = (1 - fallen) / gone  # 1 + decay + ... + decay^(steps - 1)
    inner = decay * (steps - series) / gone  # the sum of (steps - k) decay^k, k from 1
    return before * decay * series + rho * inner, before * fallen + rho * series


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
            times = now.get(layer, 1.0) * (_path_length_of(level) / _path_length_of(distance)) ** (
                1 / POWER
            )
            found[layer] = float(f"{min(max(times, 1 / MOST), MOST):.3g}")
    return found


def at_times(distance: float, times: float) -> float:
    """Return where a layer that ended at a distance would end at so many times its rate, > 0."""
    return float(distance_of(np.array(_path_length_of(distance) * times**POWER), _SPREAD))


def power_between(before: float, after: float, times: float) -> float:
    """Return the power with which a layer's way has grown from one end to another at so many
    times, > 0 and not 1, its rate."""
    return math.log(_path_length_of(after) / _path_length_of(before)) / math.log(times)


def _path_length_of(distance: float) -> float:
    return float(path_length_of(min(max(distance, _LEAST), _ARRIVED), _SPREAD))
