"""Estimate from short probes how far each rate will turn each layer in a whole run.

Under Layca each layer has a relation of rate and rotation, updated by its probes. These relations
say little about which layers will lag, because layers differ only after some rotation. The probe
that turned furthest shows the difference: a layer's path length there, relative to the hidden
layers' median, is about that at the end of a run to nearly a quarter turn (docs/log.md,
2026-11-25).

With another optimizer, a probe is the beginning of the run at its rate. The clock is the distance
that the steps would cover if the gradient never changed. It accounts for momentum and running
averages, which lengthen or shorten the first steps. Over this clock a layer's path length grows as

    length = a clock^2 (1 + clock / memory)^(rest - 2),

At first a layer moves in one direction. After `memory` the gradient has changed, and the layer
moves more and more slowly. The exponent over the last doubling of the clock in a probe gives the
memory. Between two probes the log
of the path length is interpolated over the log of the rate. Beyond them the last slope continues.
The constants were fitted to five families of networks (docs/log.md, 2026-11-26).
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

# The train loss has fallen if it fell by more than this many standard errors of the batches' noise,
# and by this share of its fall at the best rate.
_CERTAIN = 2.0
_LEAST_FALL = 0.1
# In fewer steps, a fall of the loss is chance.
_LEAST_STEPS = 6


@dataclass(frozen=True)
class Probe:
    """The reports of a short run from the initialisation at one constant rate.

    Attributes:
        rate: the rate, > 0.
        steps: the number of steps at each report, ascending.
        losses: the mean train loss since the previous report; the last one is not finite if the
            run diverged.
        distances: the cosine distance of each layer from its start, at each report.
    """

    rate: float
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    distances: tuple[tuple[float, ...], ...]

    @property
    def end_loss(self) -> float:
        """The mean train loss over the second half of the reports, weighted by their steps."""
        taken = np.diff(self.steps, prepend=0)
        half = len(taken) // 2
        return float(np.average(self.losses[half:], weights=taken[half:]))

    @property
    def chance(self) -> float:
        """The standard error of the fall from the first loss to `end_loss`."""
        # Second differences remove a smooth fall; their variance is 6 times that of the noise.
        rest = np.diff(self.losses, n=2)
        noise = math.sqrt(float(np.mean(rest**2)) / 6) if len(rest) else 0.0
        return noise * math.sqrt(1 + 2 / len(self.losses))


@dataclass(frozen=True)
class ProbeRuns:
    """All probes of a network, and the run that the rates are for.

    Attributes:
        layers: the names of the layers, in model order.
        shares: each layer's rate in units of the run's rate; 0 for a layer that is held fixed.
        momentum: the optimizer's momentum.
        factors: the factor of the rate at each step of the run, shape (steps,).
        steps_per_epoch: steps of an epoch of the run.
        probes: the probes, at ascending rates.
        seconds: the time that the probes took.
        lengths: the length of each step of the run at a learning rate of 1, if the gradient never
            changed, shape (steps,). None under Layca, where each step turns a layer by the rate.
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
        """Whether the rate is Layca's angle per step, and not a learning rate."""
        return self.lengths is None

    @cached_property
    def learns(self) -> tuple[bool | None, ...]:
        """Whether the train loss fell at each probed rate; None if the steps are too few to know.

        A low rate needs more steps if the loss fell at a higher rate.
        """
        # All probes begin alike and see the same batches. The slowest one shows the starting loss.
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
        """The number of steps of all probes."""
        return sum(probe.steps[-1] for probe in self.probes)

    @property
    def epochs(self) -> float:
        """The number of epochs of all probes."""
        return self.steps / self.steps_per_epoch

    def nearest(self, rate: float) -> int:
        """Return the number of the probe nearest to a rate, > 0."""
        off = [abs(math.log(probe.rate / rate)) for probe in self.probes]
        return off.index(min(off))


# A gap between layers shows once the median hidden layer has turned this far.
_TURNED = 0.3


@dataclass(frozen=True)
class LaycaRelation:
    """The rotation that each rate of Layca leads to, by layer."""

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

    def path_lengths(self, hidden: Sequence[int], rate: float) -> tuple[float, ...] | None:
        """Return each layer's path length in the probe that turned furthest, whatever the rate.

        The hidden layers' median is 1. None if no probe that learns has turned far. Without
        learning, all layers turn alike, at random.
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


# Exponents of the path length over the clock: in one direction, and in the end.
_STRAIGHT, _REST = 2.0, 0.1
# Exponents within these differ measurably from the two above in few steps.
_MEASURABLE = (0.2, 1.95)
# For intervals of 90 %: the error of the exponent, above and below, and the further error of the
# log of the final path length, below and above. The last is larger where nothing was learnt yet,
# since layers may barely move until then.
_OFF = (0.2, 0.1)
_BELOW, _ABOVE, _UNLEARNT = 0.3, 0.8, 5.0
# A single report says nothing about the exponent; 1 is a constant speed.
_UNSEEN, _OFF_UNSEEN = 1.0, (1.0, 1.0)
# Rates are estimated this far below the lowest and above the highest probed rate.
_LOWER, _HIGHER = 10.0, 3.0
_RATES = 81
# The least and greatest slope of the log of the path length over the log of the rate, above the
# probes, at the low end, the middle and the high end of the interval.
_RISES = ((0.0, 0.0), (0.0, _STRAIGHT), (1.0, _STRAIGHT))
# The logs of path lengths that can be distinguished from no rotation, and from a quarter turn.
_LEAST, _MOST = -20.0, 8.0
# The greatest share of the clock after the memory: clock / (clock + memory).
_MOST_GONE = 0.98
_LOG_2 = math.log(2)


@dataclass(frozen=True)
class LrRelation:
    """The rotation that each learning rate leads to, by layer."""

    probed: ProbeRuns

    @property
    def rates(self) -> Floats:
        """Rates from a tenth of the lowest probed to three times the highest."""
        probes = self.probed.probes
        return np.geomspace(probes[0].rate / _LOWER, probes[-1].rate * _HIGHER, _RATES)

    def distances(self, layer: int, rates: Sequence[float]) -> list[Interval]:
        """Return how far a layer ends at each rate, > 0, of the run.

        A probe whose loss does not fall is used only if there are no other probes, because it
        rotates layers at random. A layer that no probe has moved may end at any distance.
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
            Interval(*(middle_distance(math.exp(log)) for log in logs))
            for logs in zip(*found, strict=True)
        ]

    def path_lengths(self, hidden: Sequence[int], rate: float) -> tuple[float, ...] | None:
        """Return each layer's path length in a run at the rate; the hidden layers' median is 1."""
        layers = range(len(self.probed.layers))
        lengths = [middle_path_length(self.distances(layer, [rate])[0].mid) for layer in layers]
        middle = float(np.median([lengths[layer] for layer in hidden]))
        return tuple(length / middle for length in lengths)

    @cached_property
    def _counted(self) -> tuple[Probe, ...]:
        probes, learns = self.probed.probes, self.probed.learns
        learnt = [probe for probe, fell in zip(probes, learns, strict=True) if fell is not False]
        return tuple(learnt) if len(learnt) > 1 else probes

    @cached_property
    def _ends(self) -> Floats:
        """The log of each layer's final path length by each probe that is used.

        The shape is (probes, layers, 3), for the low end, the middle and the high end; NaN where
        unknown.
        """
        layers = range(len(self.probed.layers))
        ends = np.array([[self._end(probe, at) for at in layers] for probe in self._counted])
        # A layer turns no further at a lower rate, so each probe bounds the others.
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
        assert lengths is not None, "probes at learning rates have them"
        return np.log(np.cumsum(lengths)), math.log(float(np.dot(self.probed.factors, lengths)))

    def _end(self, probe: Probe, layer: int) -> tuple[float, float, float]:
        """Return the log of a layer's final path length by one probe: low end, middle, high end."""
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
        # The uncertainty vanishes with the rest of the run.
        unsure = -math.expm1(-ahead)
        above = _ABOVE if any(self.probed.learns) else _UNLEARNT
        now = float(logs[-1])
        return (
            now + _growth(exponent - high, ahead) - unsure * _BELOW,
            now + _growth(exponent, ahead),
            now + _growth(exponent + low, ahead) + unsure * above,
        )


def _exponent(times: Floats, logs: Floats) -> tuple[float, tuple[float, float]]:
    """Return the slope over the last doubling of the clock, and its error above and below.

    A probe that is shorter than a doubling gives the slope over all of it.
    """
    if len(times) == 1:
        return _UNSEEN, _OFF_UNSEEN
    since = max(float(times[-1]) - _LOG_2, float(times[0]))
    before = float(np.interp(since, times, logs))
    slope = (float(logs[-1]) - before) / (float(times[-1]) - since)
    return min(max(slope, _MEASURABLE[0]), _MEASURABLE[1]), _OFF


def _growth(exponent: float, ahead: float) -> float:
    """Return the growth of log path length while the log of the clock grows by `ahead`."""
    fallen = _STRAIGHT - _REST
    gone = min(max((_STRAIGHT - exponent) / fallen, 0.0), _MOST_GONE)
    spent = gone / (1 - gone)  # clock / memory
    return _STRAIGHT * ahead - fallen * math.log((1 + spent * math.exp(ahead)) / (1 + spent))


def _along(wanted: Floats, at: Floats, known: Floats, rises: tuple[float, float]) -> Floats:
    """Interpolate between known values, and extrapolate with the slope of the outermost two.

    Above the known values, the slope is clipped to the two given ones.
    """
    values: Floats = np.interp(wanted, at, known)
    slopes = np.diff(known) / np.diff(at) if len(at) > 1 else np.array([_STRAIGHT])
    first, last = min(slopes[0], _STRAIGHT), min(max(slopes[-1], rises[0]), rises[1])
    values += first * np.minimum(wanted - at[0], 0) + last * np.maximum(wanted - at[-1], 0)
    return values


class Relation(Protocol):
    """The final rotation of each layer of a probed network, by the rate of the run."""

    @property
    def rates(self) -> Floats:
        """The rates that can be estimated, ascending, > 0."""

    def distances(self, layer: int, rates: Sequence[float]) -> list[Interval]:
        """Return how far a layer that is not held fixed ends at each rate, > 0, of the run."""

    def path_lengths(self, hidden: Sequence[int], rate: float) -> tuple[float, ...] | None:
        """Return each layer's path length in a run at a rate; the hidden layers' median is 1.

        None if the probes do not show it.
        """


def relation_of(probed: ProbeRuns) -> Relation:
    """Return the relation of rate and rotation by the probes of a network."""
    return LaycaRelation(probed) if probed.sets_rotation else LrRelation(probed)


LADDER = (0.95, 0.6, 0.3)
# Quantiles over the hidden layers of their intervals' ends.
_QUARTERS = (0.25, 0.75)


@dataclass(frozen=True)
class Lagging:
    """A hidden layer that will turn less than the others.

    Attributes:
        layer: the name of the layer.
        distance: the forecast final distance of the layer.
        times: the factor of its rate that takes it to the distance of the other layers.
    """

    layer: str
    distance: float
    times: float


@dataclass(frozen=True)
class FoundRates:
    """The rotation that each rate leads to, and the rate for a distance.

    The rates are Layca's, or the learning rates of another optimizer.

    Attributes:
        probed: the probes.
        distance: the final distance that the hidden layers should reach, in (0, 1).
        target: defines which layers are hidden, and the tolerance below which a layer lags.
        config: the run's config without its rate.

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
                f"a layer must rotate, all {len(self.probed.layers)} are held fixed; "
                "give some a rate above 0"
            )

    @cached_property
    def turned(self) -> tuple[int, ...]:
        """The hidden layers that turn; if there are none, all layers that turn."""
        shares = self.probed.shares
        hidden = self.target.hidden(self.probed.layers)
        return tuple(layer for layer in hidden if shares[layer]) or tuple(
            layer for layer, share in enumerate(shares) if share
        )

    def distances(self, rates: Sequence[float]) -> list[Interval]:
        """Return the final distance of the median hidden layer at each rate, > 0."""
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
        """The relation of rate and rotation of each layer."""
        return relation_of(self.probed)

    @cached_property
    def curve(self) -> tuple[tuple[float, Interval], ...]:
        """Rates, ascending, and the final distance of the median hidden layer at each."""
        rates = [float(rate) for rate in self.relation.rates]
        return tuple(zip(rates, self.distances(rates), strict=True))

    def rate_for(self, distance: float) -> float:
        """Return the rate for a final distance in (0, 1).

        A distance beyond the curve gets the rate at the curve's end.

        Raises:
            InvalidInput: the distance is out of its range.
        """
        check_distance(distance)
        return rate_between(
            [interval.mid for _, interval in self.curve], distance, self.relation.rates
        )

    @property
    def rate(self) -> float:
        """The rate for `distance`."""
        return self.rate_for(self.distance)

    def ladder(self, distances: Sequence[float] = LADDER) -> dict[float, float]:
        """Return the rate of each final distance, in (0, 1)."""
        return {distance: self.rate_for(distance) for distance in distances}

    @property
    def range(self) -> tuple[float, float]:
        """The rates to search, from little rotation to nearly a quarter turn."""
        return self.rate_for(min(LADDER)), self.rate_for(max(LADDER))

    @property
    def learns(self) -> tuple[bool | None, ...]:
        """Whether the train loss fell at each probed rate; None with too few steps to know."""
        return self.probed.learns

    @property
    def reached(self) -> bool:
        """Whether some rate of the curve is forecast to end at the distance."""
        return self.curve[0][1].mid <= self.distance <= self.curve[-1][1].mid

    @property
    def targetable(self) -> bool | None:
        """Whether a rate reaches the distance, and the nearest probed rate learns."""
        return self.reached and self.learns[self.probed.nearest(self.rate)]

    def lagging(self, distance: float | None = None) -> tuple[Lagging, ...] | None:
        """Return the hidden layers that end well below a final distance, the lowest first.

        Args:
            distance: the final distance of the median hidden layer, in (0, 1); by default
                `distance` of the object.

        Returns:
            The layers, or None if no probe has turned the layers far enough.
        """
        aim = self.distance if distance is None else distance
        check_distance(aim)
        rate = self.rate_for(aim)
        lengths = self.relation.path_lengths(self.turned, rate)
        if lengths is None:
            return None
        whole, found = middle_path_length(aim), []
        for layer in self.turned:
            ends = middle_distance(whole * lengths[layer])
            if ends < aim - self.target.tolerance:
                times = self.rate_for(middle_distance(whole / lengths[layer])) / rate
                found.append(Lagging(self.probed.layers[layer], ends, times))
        return tuple(sorted(found, key=lambda lag: lag.distance))
