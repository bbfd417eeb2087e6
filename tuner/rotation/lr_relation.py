"""How far a run turns each layer, by its learning rate: its probes, extrapolated to its end.

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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tuner.rotation.probed import Probe, Probed
from tuner.rotation.rate import Floats, Interval, middle_distance, middle_way

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

    probed: Probed

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
        ways = [middle_way(self.distances(layer, [rate])[0].mid) for layer in layers]
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
            (float(clock[steps - 1]), math.log(middle_way(distances[layer])))
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
