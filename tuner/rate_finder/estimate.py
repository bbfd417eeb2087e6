"""Estimate from short probes how far each rate will turn each layer in a whole run.

Each layer has its own, updated by what its probes show. That says little of which layers will lag:
the gap opens as the layers turn, and the updated relations understate it. It shows in the probe
that turned furthest, where a layer's way, in units of the hidden layers' median, is about what it
will be at the end of a run to nearly a quarter turn (docs/log.md, 2026-11-25).

A probe is the beginning of the run at its rate. The clock is how far the steps would have gone had
the gradient stayed the same, so that momentum and the like, which lengthen or shorten the first
steps, do not look like something that the network does. By it a layer's way grows as

    way = a clock^2 (1 + clock / memory)^(rest - 2),

first in one direction, and once the gradient says another thing, after `memory`, ever more slowly.
The exponent over the last doubling that a probe has seen says how long the memory is. Between two
probes the log of the way is interpolated by the log of the rate, and beyond them it goes on with
the last slope. The constants are from five families of networks (docs/log.md, 2026-11-26).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from tuner.errors import InvalidInput
from tuner.rotation.rate import (
    RATES,
    Floats,
    Interval,
    RateRelation,
    Reading,
    check_distance,
    middle_distance,
    middle_path_length,
    rate_between,
)
from tuner.rotation.target import RotationTarget

# The train loss has fallen if it did by more than the batches' chance, in standard errors, and by
# this share of what it did at the best of the rates.
_CERTAIN = 2.0
_LEAST_FALL = 0.1
# In fewer steps a falling loss is chance.
_LEAST_STEPS = 6


@dataclass(frozen=True)
class Probe:
    """A short run from the initialisation at one constant rate, as it reported.

    Attributes:
        rate: > 0.
        steps: done at each report, ascending.
        losses: mean train loss since the report before; the last is not finite where it broke down.
        distances: cosine distances from the start, one for each layer at each report.
    """

    rate: float
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    distances: tuple[tuple[float, ...], ...]

    @property
    def end_loss(self) -> float:
        """Mean train loss over the later half of the reports, weighted by their steps."""
        taken = np.diff(self.steps, prepend=0)
        half = len(taken) // 2
        return float(np.average(self.losses[half:], weights=taken[half:]))

    @property
    def chance(self) -> float:
        """Standard error of the fall from the first loss to `end_loss`, as the batches have it."""
        # What is left of a smooth fall in second differences is noise, with 6 times its variance.
        rest = np.diff(self.losses, n=2)
        noise = math.sqrt(float(np.mean(rest**2)) / 6) if len(rest) else 0.0
        return noise * math.sqrt(1 + 2 / len(self.losses))


@dataclass(frozen=True)
class ProbeRuns:
    """All probes of a network, and the run that the rates are for.

    Attributes:
        layers: their names, in model order.
        shares: each layer's rate in units of the run's own; 0 for one that is held fixed.
        momentum: of the optimizer's steps.
        factors: what the run multiplies the rate by at each step, shape (steps,).
        steps_per_epoch: of the run.
        probes: at ascending rates.
        seconds: what they took.
        lengths: how far each of the run's steps would go at a learning rate of 1 if the gradient
            stayed the same, shape (steps,); None under Layca, each of whose steps turns a layer by
            the rate.
    """

    layers: tuple[str, ...]
    shares: tuple[float, ...]
    momentum: float
    factors: Floats = field(repr=False, compare=False)
    steps_per_epoch: int
    probes: tuple[Probe, ...]
    seconds: float
    lengths: Floats | None = field(default=None, repr=False, compare=False)

    @property
    def sets_rotation(self) -> bool:
        """Whether the rate is that of Layca, which turns a layer by it, or else a learning rate."""
        return self.lengths is None

    @cached_property
    def learns(self) -> tuple[bool | None, ...]:
        """Whether the train loss fell at each probed rate; None where the steps are too few.

        They are for a rate too low for its loss to have fallen yet, where at a higher one it did.
        """
        # All begin alike and see the same batches, and the slowest is the last to leave.
        first = self.probes[0]
        falls = [first.losses[0] - probe.end_loss for probe in self.probes]
        best = max((fall for fall in falls if math.isfinite(fall)), default=0.0)
        least = max(_CERTAIN * first.chance, _LEAST_FALL * best)
        fell = [fall > least for fall in falls]
        too_low = fell.index(True) if True in fell else 0
        return tuple(
            fell[at]
            if not math.isfinite(falls[at])
            or (probe.steps[-1] >= _LEAST_STEPS and (at >= too_low or falls[at] < -least))
            else None
            for at, probe in enumerate(self.probes)
        )

    @property
    def steps(self) -> int:
        """Steps of all probes."""
        return sum(probe.steps[-1] for probe in self.probes)

    @property
    def epochs(self) -> float:
        """Epochs that all probes took together."""
        return self.steps / self.steps_per_epoch

    def nearest(self, rate: float) -> int:
        """Return the number of the probe nearest to a rate, > 0."""
        off = [abs(math.log(probe.rate / rate)) for probe in self.probes]
        return off.index(min(off))


# What the middle of the hidden layers must have turned for a gap to show.
_TURNED = 0.3


@dataclass(frozen=True)
class LaycaRelation:
    """The relation of each layer's probes, which are at rates of rotation."""

    probed: ProbeRuns

    @property
    def rates(self) -> Floats:
        """Rates from 1e-5 to 1."""
        return RATES

    def distances(self, layer: int, rates: Sequence[float]) -> list[Interval]:
        """Return how far a layer ends at each rate, > 0, of the run."""
        share = self.probed.shares[layer]
        asked = [rate * share for rate in rates]
        return self._relations[layer].distances(asked, self.probed.factors)

    def ways(self, hidden: Sequence[int], rate: float) -> tuple[float, ...] | None:
        """Return each layer's way in the probe that turned furthest, whatever the rate; the hidden
        layers' median is 1.

        None where none in which it learns has turned far. Without learning, layers are turned at
        random, all alike.
        """
        middle, furthest = _TURNED, None
        for probe, fell in zip(self.probed.probes, self.probed.learns, strict=True):
            ends = [probe.distances[-1][layer] for layer in hidden]
            if fell is not False and float(np.median(ends)) >= middle:
                middle, furthest = float(np.median(ends)), probe.distances[-1]
        if furthest is None:
            return None
        return tuple(middle_path_length(each) / middle_path_length(middle) for each in furthest)

    @cached_property
    def _relations(self) -> dict[int, RateRelation]:
        prior = RateRelation(self.probed.momentum)
        turned = [layer for layer, share in enumerate(self.probed.shares) if share]
        return {layer: prior.updated(self._readings(layer)) for layer in turned}

    def _readings(self, layer: int) -> list[Reading]:
        share = self.probed.shares[layer]
        return [
            Reading(probe.rate * share, steps, distances[layer])
            for probe in self.probed.probes
            for steps, distances in zip(probe.steps, probe.distances, strict=True)
        ]


# Of the way by the clock: in one direction, and at last.
_STRAIGHT, _REST = 2.0, 0.1
# Exponents that a few steps can tell from them.
_TOLD = (0.2, 1.95)
# By how much the exponent may be too high and too low, and the log of the way at the end below and
# above what follows from that, for 90 % to lie between; and above it where nothing was learnt yet:
# the layers may lie still until something is.
_OFF = (0.2, 0.1)
_BELOW, _ABOVE, _UNLEARNT = 0.3, 0.8, 5.0
# What one report alone says of the exponent: nothing, and 1 is a steady rate.
_UNSEEN, _OFF_UNSEEN = 1.0, (1.0, 1.0)
# How far beyond the probed rates something is said, downwards and upwards.
_LOWER, _HIGHER = 10.0, 3.0
_RATES = 81
# The least and the most that the log of the way rises with that of the rate above the probes, at
# the low end, the middle and the high end: in one direction as with the clock, but nobody saw it.
_RISES = ((0.0, 0.0), (0.0, _STRAIGHT), (1.0, _STRAIGHT))
# Logs of ways that are told from none, and from a quarter turn.
_LEAST, _MOST = -20.0, 8.0
# The memory may be this far behind at most: clock / (clock + memory).
_MOST_GONE = 0.98
_LOG_2 = math.log(2)


@dataclass(frozen=True)
class LrRelation:
    """What the probes of a network at learning rates come to at the end of its run."""

    probed: ProbeRuns

    @property
    def rates(self) -> Floats:
        """Rates from a tenth of the lowest probed to three times the highest."""
        probes = self.probed.probes
        return np.geomspace(probes[0].rate / _LOWER, probes[-1].rate * _HIGHER, _RATES)

    def distances(self, layer: int, rates: Sequence[float]) -> list[Interval]:
        """Return how far a layer ends at each rate, > 0, of the run.

        Probes in which the loss rises or stays do not count beside others, since they turn layers
        at random. A layer that none of those that count moved may end anywhere.
        """
        ends = self._ends[:, layer]
        known = ~np.isnan(ends[:, 0])
        if not known.any():
            return [Interval(0.0, 0.5, 1.0)] * len(rates)
        at = np.log([probe.rate for probe in self._counted])[known]
        wanted = np.log(np.asarray(rates, dtype=np.float64))
        found = [
            _along(wanted, at, ends[known, end], rises).clip(_LEAST, _MOST)
            for end, rises in enumerate(_RISES)
        ]
        return [
            Interval(*(middle_distance(math.exp(way)) for way in ways))
            for ways in zip(*found, strict=True)
        ]

    def ways(self, hidden: Sequence[int], rate: float) -> tuple[float, ...] | None:
        """Return each layer's way in a run at the rate, the hidden layers' median being 1."""
        layers = range(len(self.probed.layers))
        ways = [middle_path_length(self.distances(layer, [rate])[0].mid) for layer in layers]
        middle = float(np.median([ways[layer] for layer in hidden]))
        return tuple(way / middle for way in ways)

    @cached_property
    def _counted(self) -> tuple[Probe, ...]:
        probes, learns = self.probed.probes, self.probed.learns
        learnt = [probe for probe, fell in zip(probes, learns, strict=True) if fell is not False]
        return tuple(learnt) if len(learnt) > 1 else probes

    @cached_property
    def _ends(self) -> Floats:
        """Logs of the way, at the low end, the middle and the high end, of each layer in each
        probe that counts: shape (probes, layers, 3); NaN where unknown."""
        layers = range(len(self.probed.layers))
        ends = np.array([[self._end(probe, at) for at in layers] for probe in self._counted])
        # None turns further at a lower rate, so that each probe bounds the others.
        low, mid, high = np.moveaxis(ends, -1, 0)
        low, mid = np.fmax.accumulate(low), np.fmax.accumulate(mid)
        high = np.fmax(np.fmin.accumulate(high[::-1])[::-1], mid)
        risen: Floats = np.stack([low, mid, high], axis=-1)
        risen[np.isnan(ends)] = np.nan
        return risen

    @cached_property
    def _clock(self) -> tuple[Floats, float]:
        """The logs of the clock after each of a probe's steps, and at the end of the run."""
        lengths = self.probed.lengths
        assert lengths is not None  # or it were Layca's
        return np.log(np.cumsum(lengths)), math.log(float(np.dot(self.probed.factors, lengths)))

    def _end(self, probe: Probe, layer: int) -> tuple[float, float, float]:
        """Return the logs of a layer's way at the end of the run, as one probe has it."""
        clock, at_end = self._clock
        seen = [
            (float(clock[steps - 1]), math.log(middle_path_length(distances[layer])))
            for steps, distances in zip(probe.steps, probe.distances, strict=True)
            if distances[layer] > 0  # and is known
        ]
        if not seen:
            return (math.nan,) * 3
        times, logs = np.array(seen).T
        ahead = max(at_end - float(times[-1]), 0.0)
        exponent, (high, low) = _exponent(times, logs)
        # A run that is over has no more to come.
        unsure = -math.expm1(-ahead)
        above = _ABOVE if any(self.probed.learns) else _UNLEARNT
        now = float(logs[-1])
        return (
            now + _growth(exponent - high, ahead) - unsure * _BELOW,
            now + _growth(exponent, ahead),
            now + _growth(exponent + low, ahead) + unsure * above,
        )


def _exponent(times: Floats, logs: Floats) -> tuple[float, tuple[float, float]]:
    """Return the slope over the last doubling of the clock, or over what there is of it, and by
    how much that may be too high and too low."""
    if len(times) == 1:
        return _UNSEEN, _OFF_UNSEEN
    since = max(float(times[-1]) - _LOG_2, float(times[0]))
    before = float(np.interp(since, times, logs))
    slope = (float(logs[-1]) - before) / (float(times[-1]) - since)
    return min(max(slope, _TOLD[0]), _TOLD[1]), _OFF


def _growth(exponent: float, ahead: float) -> float:
    """Return by how much the log of the way grows while that of the clock does by `ahead`."""
    fallen = _STRAIGHT - _REST
    gone = min(max((_STRAIGHT - exponent) / fallen, 0.0), _MOST_GONE)
    spent = gone / (1 - gone)  # clock / memory
    return _STRAIGHT * ahead - fallen * math.log((1 + spent * math.exp(ahead)) / (1 + spent))


def _along(wanted: Floats, at: Floats, known: Floats, rises: tuple[float, float]) -> Floats:
    """Return values between known ones, and beyond them with the slope of the last two, which
    above them is within the two given."""
    values: Floats = np.interp(wanted, at, known)
    slopes = np.diff(known) / np.diff(at) if len(at) > 1 else np.array([_STRAIGHT])
    first, last = min(slopes[0], _STRAIGHT), min(max(slopes[-1], rises[0]), rises[1])
    values += first * np.minimum(wanted - at[0], 0) + last * np.maximum(wanted - at[-1], 0)
    return values


class Relation(Protocol):
    """How far each layer of a probed network ends in the run that the probes are for."""

    @property
    def rates(self) -> Floats:
        """The rates at which something can be said, ascending, > 0."""

    def distances(self, layer: int, rates: Sequence[float]) -> list[Interval]:
        """Return how far a layer that is not held fixed ends at each rate, > 0, of the run."""

    def ways(self, hidden: Sequence[int], rate: float) -> tuple[float, ...] | None:
        """Return each layer's way in a run at a rate, the hidden layers' median being 1; None
        where the probes do not tell."""


def relation_of(probed: ProbeRuns) -> Relation:
    """Return what the probes of a network say of its rates."""
    return LaycaRelation(probed) if probed.sets_rotation else LrRelation(probed)


LADDER = (0.95, 0.6, 0.3)
# Of the hidden layers' own intervals.
_QUARTERS = (0.25, 0.75)


@dataclass(frozen=True)
class Lagging:
    """A hidden layer that will stay behind.

    Attributes:
        layer: its name.
        distance: at which it is forecast to end.
        times: how many times its rate it would take to end with the others.
    """

    layer: str
    distance: float
    times: float


@dataclass(frozen=True)
class FoundRates:
    """What a run's rates will come to: Layca's, or the learning rates of another optimizer.

    Attributes:
        probed: what the probes showed.
        distance: that the hidden layers are to end at, in (0, 1).
        target: says which layers are hidden, and how far behind is well behind.
        config: the run's, less its rate.

    Raises:
        InvalidInput: the distance is out of its range, or no layer turns.
    """

    probed: ProbeRuns
    distance: float = LADDER[0]
    target: RotationTarget = field(default_factory=RotationTarget)
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_distance(self.distance)
        if not self.turned:
            raise InvalidInput(
                f"a layer must be turned, all {len(self.probed.layers)} are held fixed; "
                "give some a rate above 0"
            )

    @cached_property
    def turned(self) -> tuple[int, ...]:
        """The hidden layers that are turned; all that are, where no hidden one is."""
        shares = self.probed.shares
        hidden = self.target.hidden(self.probed.layers)
        return tuple(layer for layer in hidden if shares[layer]) or tuple(
            layer for layer, share in enumerate(shares) if share
        )

    def distances(self, rates: Sequence[float]) -> list[Interval]:
        """Return how far the hidden layers' middle ends at each rate, > 0."""
        found = [self.relation.distances(layer, rates) for layer in self.turned]
        return [
            Interval(
                low=float(np.quantile([each.low for each in of_rate], _QUARTERS[0])),
                mid=float(np.median([each.mid for each in of_rate])),
                high=float(np.quantile([each.high for each in of_rate], _QUARTERS[1])),
            )
            for of_rate in zip(*found, strict=True)
        ]

    @cached_property
    def relation(self) -> Relation:
        """What the probes say of each layer."""
        return relation_of(self.probed)

    @cached_property
    def curve(self) -> tuple[tuple[float, Interval], ...]:
        """Rates, ascending, and how far the hidden layers' middle ends at each."""
        rates = [float(rate) for rate in self.relation.rates]
        return tuple(zip(rates, self.distances(rates), strict=True))

    def rate_for(self, distance: float) -> float:
        """Return the rate for a final distance in (0, 1); that of the curve's end for one that
        lies beyond it.

        Raises:
            InvalidInput: the distance is out of its range.
        """
        check_distance(distance)
        return rate_between(
            [interval.mid for _, interval in self.curve], distance, self.relation.rates
        )

    @property
    def rate(self) -> float:
        """The rate for the distance that is aimed at."""
        return self.rate_for(self.distance)

    def ladder(self, distances: Sequence[float] = LADDER) -> dict[float, float]:
        """Return the rate of each final distance, in (0, 1)."""
        return {distance: self.rate_for(distance) for distance in distances}

    @property
    def range(self) -> tuple[float, float]:
        """The rates to search: from little rotation to the distance aimed at, or nearly 1."""
        return self.rate_for(min(LADDER)), self.rate_for(max(LADDER))

    @property
    def learns(self) -> tuple[bool | None, ...]:
        """Whether the train loss fell at each probed rate; None where it cannot be told."""
        return self.probed.learns

    @property
    def reached(self) -> bool:
        """Whether some rate of the curve is forecast to end at the distance."""
        return self.curve[0][1].mid <= self.distance <= self.curve[-1][1].mid

    @property
    def targetable(self) -> bool | None:
        """Whether a rate ends at the distance, and it learns at the probed rate nearest to that."""
        return self.reached and self.learns[self.probed.nearest(self.rate)]

    def lagging(self, distance: float | None = None) -> tuple[Lagging, ...] | None:
        """Return the hidden layers that end well below a final distance, the last first.

        Args:
            distance: in (0, 1), of the hidden layers' middle; the one aimed at when left out.

        Returns:
            None where no probe has turned the layers far enough to tell.
        """
        aim = self.distance if distance is None else distance
        check_distance(aim)
        rate = self.rate_for(aim)
        ways = self.relation.ways(self.turned, rate)
        if ways is None:
            return None
        whole, found = middle_path_length(aim), []
        for layer in self.turned:
            ends = middle_distance(whole * ways[layer])
            if ends < aim - self.target.tolerance:
                times = self.rate_for(middle_distance(whole / ways[layer])) / rate
                found.append(Lagging(self.probed.layers[layer], ends, times))
        return tuple(sorted(found, key=lambda lag: lag.distance))
