"""The rate for a final distance from a few short probes: how surely, and which layers will lag.

How far the hidden layers will turn is the relation of `tuner.rotation.rate`, each layer's own,
updated by what its probes show. That says little of which layers will lag: the gap opens as the
layers turn, and the updated relations understate it. It shows in the probe that turned furthest,
where a layer's way, in units of the hidden layers' median, is about what it will be at the end of
a run to nearly a quarter turn (docs/log.md, 2026-11-25).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tuner.errors import InvalidInput
from tuner.rotation.rate import (
    RATES,
    Floats,
    Interval,
    RateRelation,
    Reading,
    check_distance,
    distance_of,
    rate_between,
    way_of,
)
from tuner.rotation.target import RotationTarget

LADDER = (0.95, 0.6, 0.3)
# The train loss has fallen if it did by more than the batches' chance, in standard errors, and by
# this share of what it did at the best of the rates.
_CERTAIN = 2.0
_LEAST_FALL = 0.1
# In fewer steps a falling loss is chance.
_LEAST_STEPS = 6
# What the middle of the hidden layers must have turned for a gap to show.
_TURNED = 0.3
# Of the middle of the traits, as in `tuner.rotation.rate`; and how near 1 a distance still counts.
_SPREAD = np.array(2.0)
_MOST = 0.995
# Of the hidden layers' own intervals.
_QUARTERS = (0.25, 0.75)


@dataclass(frozen=True)
class Probe:
    """A short run from the initialisation at one constant rate, as it reported.

    Attributes:
        rate: > 0.
        steps: done at each report, ascending.
        losses: mean train loss since the report before.
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
class Probed:
    """All probes of a network, and the run that the rates are for.

    Attributes:
        layers: their names, in model order.
        shares: each layer's rate in units of the run's own; 0 for one that is held fixed.
        momentum: of the optimizer's steps.
        factors: what the run multiplies the rate by at each step, shape (steps,).
        steps_per_epoch: of the run.
        probes: at ascending rates.
        seconds: what they took.
    """

    layers: tuple[str, ...]
    shares: tuple[float, ...]
    momentum: float
    factors: Floats = field(repr=False, compare=False)
    steps_per_epoch: int
    probes: tuple[Probe, ...]
    seconds: float


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
    """What a run's rates of rotation will come to.

    Attributes:
        probed: what the probes showed.
        distance: that the hidden layers are to end at, in (0, 1).
        target: says which layers are hidden, and how far behind is well behind.
        config: the run's, less its rate.

    Raises:
        InvalidInput: the distance is out of its range, or no layer turns.
    """

    probed: Probed
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
        asked = np.asarray(rates, dtype=np.float64)
        found = [
            relation.distances(list(asked * self.probed.shares[layer]), self.probed.factors)
            for layer, relation in self._relations.items()
        ]
        return [
            Interval(
                low=float(np.quantile([each.low for each in of_rate], _QUARTERS[0])),
                mid=float(np.median([each.mid for each in of_rate])),
                high=float(np.quantile([each.high for each in of_rate], _QUARTERS[1])),
            )
            for of_rate in zip(*found, strict=True)
        ]

    @cached_property
    def curve(self) -> tuple[tuple[float, Interval], ...]:
        """Rates from 1e-5 to 1, and how far the hidden layers' middle ends at each."""
        rates = [float(rate) for rate in RATES]
        return tuple(zip(rates, self.distances(rates), strict=True))

    def rate_for(self, distance: float) -> float:
        """Return the rate for a final distance in (0, 1); one that none reaches gets a rate of 1.

        Raises:
            InvalidInput: the distance is out of its range.
        """
        check_distance(distance)
        return rate_between([interval.mid for _, interval in self.curve], distance)

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

    @cached_property
    def learns(self) -> tuple[bool | None, ...]:
        """Whether the train loss fell at each probed rate; None where the steps are too few."""
        # All begin alike and see the same batches, and the slowest is the last to leave.
        first = self.probed.probes[0]
        falls = [first.losses[0] - probe.end_loss for probe in self.probed.probes]
        best = max((fall for fall in falls if math.isfinite(fall)), default=0.0)
        least = max(_CERTAIN * first.chance, _LEAST_FALL * best)
        return tuple(
            fall > least if probe.steps[-1] >= _LEAST_STEPS or not math.isfinite(fall) else None
            for fall, probe in zip(falls, self.probed.probes, strict=True)
        )

    @property
    def targetable(self) -> bool | None:
        """Whether it learns at the probed rate that is nearest to the one for the distance."""
        return self.learns[self._nearest(self.rate)]

    def lagging(self, distance: float | None = None) -> tuple[Lagging, ...] | None:
        """Return the hidden layers that end well below a final distance, the last first.

        Args:
            distance: in (0, 1), of the hidden layers' middle; the one aimed at when left out.

        Returns:
            None where no probe has turned the layers far enough to tell.
        """
        aim = self.distance if distance is None else distance
        check_distance(aim)
        ways = self.ways
        if ways is None:
            return None
        whole, found = way_of(aim, _SPREAD), []
        for layer in self.turned:
            ends = float(distance_of(whole * ways[layer], _SPREAD))
            if ends < aim - self.target.tolerance:
                wanted = float(distance_of(whole / ways[layer], _SPREAD))
                times = self.rate_for(wanted) / self.rate_for(aim)
                found.append(Lagging(self.probed.layers[layer], ends, times))
        return tuple(sorted(found, key=lambda lag: lag.distance))

    @cached_property
    def ways(self) -> tuple[float, ...] | None:
        """Each layer's way in the probe that turned furthest, the hidden layers' median being 1.

        None where none in which it learns has turned far. Without learning, layers are turned at
        random, all alike.
        """
        middle, furthest = _TURNED, None
        for probe, fell in zip(self.probed.probes, self.learns, strict=True):
            ends = [probe.distances[-1][layer] for layer in self.turned]
            if fell is not False and float(np.median(ends)) >= middle:
                middle, furthest = float(np.median(ends)), probe.distances[-1]
        if furthest is None:
            return None
        whole = float(way_of(min(middle, _MOST), _SPREAD))
        return tuple(float(way_of(min(each, _MOST), _SPREAD)) / whole for each in furthest)

    @property
    def steps(self) -> int:
        """Steps of all probes."""
        return sum(probe.steps[-1] for probe in self.probed.probes)

    @property
    def epochs(self) -> float:
        """Epochs that all probes took together."""
        return self.steps / self.probed.steps_per_epoch

    @cached_property
    def _relations(self) -> dict[int, RateRelation]:
        prior = RateRelation(self.probed.momentum)
        return {layer: prior.updated(self._readings(layer)) for layer in self.turned}

    def _readings(self, layer: int) -> list[Reading]:
        share = self.probed.shares[layer]
        return [
            Reading(probe.rate * share, steps, distances[layer])
            for probe in self.probed.probes
            for steps, distances in zip(probe.steps, probe.distances, strict=True)
        ]

    def _nearest(self, rate: float) -> int:
        off = [abs(math.log(probe.rate / rate)) for probe in self.probed.probes]
        return off.index(min(off))
