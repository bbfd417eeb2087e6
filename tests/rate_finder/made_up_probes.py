"""Probes of a made-up network, which turns as the relation expects or so many times as far."""

from __future__ import annotations

import numpy as np

from tuner.rate_finder.estimate import Probe, ProbeRuns
from tuner.rotation.rate import RateRelation, distance_of, path_length_of

LAYERS = ("first", "one", "two", "three", "head")
FACTORS = (1 + np.cos(np.pi * np.arange(400) / 400)) / 2
RATES = (0.01, 0.03, 0.09, 0.25)
STEPS = (5, 10, 15, 20)
FALLING = (2.3, 2.0, 1.7, 1.5)
RISING = (2.3, 2.4, 2.5, 2.6)
SLOW = (2.3, 2.29, 2.27, 2.25)
STUCK = (2.35, 2.25, 2.35, 2.25)


def made_up(losses=(FALLING,) * 4, ways=(1.0,) * 5, shares=(1.0,) * 5, rates=RATES) -> ProbeRuns:
    """Probes in which each layer goes so many times the way that the relation expects."""
    relation, spread = RateRelation(0.9), np.array(2.0)
    probes = []
    for rate, of_rate in zip(rates, losses, strict=True):
        expected = [relation.distances([rate], np.ones(done))[0].mid for done in STEPS]
        distances = tuple(
            tuple(float(distance_of(path_length_of(each, spread) * way, spread)) for way in ways)
            for each in expected
        )
        probes.append(Probe(rate, STEPS, of_rate, distances))
    return ProbeRuns(LAYERS, shares, 0.9, FACTORS, 40, tuple(probes), 1.5)


def made_up_lrs(
    losses=(FALLING,) * 4,
    ways=(1.0,) * 5,
    *,
    memory=5.0,
    lengths=None,
    factors=FACTORS,
    steps=(1, 2, 4, 8),
) -> ProbeRuns:
    """Probes at learning rates, in which layers go on in one direction for so long a memory."""
    lengths = np.ones(len(factors)) if lengths is None else lengths
    probes = []
    for rate, of_rate in zip(RATES, losses, strict=True):
        went = [way_at(rate, float(np.sum(lengths[:done])), memory) for done in steps]
        distances = tuple(
            tuple(float(distance_of(np.array(each * way), np.array(2.0))) for way in ways)
            for each in went
        )
        probes.append(Probe(rate, steps, of_rate, distances))
    return ProbeRuns(LAYERS, (1.0,) * 5, 0.9, factors, 40, tuple(probes), 1.5, lengths=lengths)


def way_at(rate: float, clock: float, memory: float) -> float:
    """Return a layer's way after steps of so much length together at a learning rate."""
    return float((rate * clock) ** 2 * (1 + clock / memory) ** (0.1 - 2))
