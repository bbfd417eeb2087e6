"""How far a run under Layca turns each layer, by its rate: the relation of `tuner.rotation.rate`.

Each layer has its own, updated by what its probes show. That says little of which layers will lag:
the gap opens as the layers turn, and the updated relations understate it. It shows in the probe
that turned furthest, where a layer's way, in units of the hidden layers' median, is about what it
will be at the end of a run to nearly a quarter turn (docs/log.md, 2026-11-25).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tuner.rotation.probed import Probed
from tuner.rotation.rate import RATES, Floats, Interval, RateRelation, Reading, middle_way

# What the middle of the hidden layers must have turned for a gap to show.
_TURNED = 0.3


@dataclass(frozen=True)
class LaycaRelation:
    """The relation of each layer's probes, which are at rates of rotation."""

    probed: Probed

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
        return tuple(middle_way(each) / middle_way(middle) for each in furthest)

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
