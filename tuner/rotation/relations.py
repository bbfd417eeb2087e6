"""What the rate of a run has to do with how far it turns each layer, as its probes show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tuner.rotation.layca_relation import LaycaRelation
from tuner.rotation.lr_relation import LrRelation
from tuner.rotation.probed import Probed
from tuner.rotation.rate import Floats, Interval


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


def relation_of(probed: Probed) -> Relation:
    """Return what the probes of a network say of its rates."""
    return LaycaRelation(probed) if probed.sets_rotation else LrRelation(probed)
