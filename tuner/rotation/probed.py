"""What short probes of a network showed: a few steps each, at a constant rate, from one start."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tuner.rotation.rate import Floats

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
