"""The rate for a final distance from a few short probes: how surely, and which layers will lag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tuner.errors import InvalidInput
from tuner.rotation.probed import Probed
from tuner.rotation.rate import (
    Interval,
    check_distance,
    middle_distance,
    middle_way,
    rate_between,
)
from tuner.rotation.relations import Relation, relation_of
from tuner.rotation.target import RotationTarget

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
        whole, found = middle_way(aim), []
        for layer in self.turned:
            ends = middle_distance(whole * ways[layer])
            if ends < aim - self.target.tolerance:
                times = self.rate_for(middle_distance(whole / ways[layer])) / rate
                found.append(Lagging(self.probed.layers[layer], ends, times))
        return tuple(sorted(found, key=lambda lag: lag.distance))
