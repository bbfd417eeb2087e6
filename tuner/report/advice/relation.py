"""How much further layers turn at a higher learning rate, from the study's own trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.report.advice.case import Case, s_of
from tuner.study.result import TrialResult

# No advice to change a rate by more than this at once.
_MOST = 10.0
# Fewer trials, rates closer together or a looser relation than this give no exponent.
_ENOUGH, _SPREAD, _TIGHT = 6, 4.0, 0.6
# Motion in one direction has an exponent of 2, of the rate as of the clock; slow layers have less
# than 1. Anything else is noise.
_EXPONENTS = (0.5, 2.5)


@dataclass(frozen=True)
class Relation:
    """`s = -ln(1 - d)` grows as the learning rate to the power `exponent`, over `trials` trials;
    in proportion to it, as a forecast begins with, where they do not tell."""

    exponent: float
    trials: int

    def factor(self, now: float, wanted: float) -> float:
        """Return what to multiply the rate by to come from one distance to another, in
        [1, 10]."""
        ratio = s_of(wanted) / max(s_of(now), 1e-6)
        return float(min(max(ratio ** (1 / self.exponent), 1.0), _MOST))

    @property
    def words(self) -> str:
        """Return where the factor is from."""
        if not self.trials:
            return "taking -ln(1 - distance) to grow with the learning rate"
        return (
            f"in {self.trials} trials -ln(1 - distance) grows as the rate to the power "
            f"{self.exponent:.1f}"
        )


def relation(case: Case, name: str) -> Relation:
    """Return how rotation goes with the rate called `name`, over the trials that have it."""
    trials = [trial for trial in case.learnt if trial.params.get(name)]
    return _fitted([(trial.params[name], case.turned(trial)) for trial in trials])


def layer_relation(trials: Sequence[TrialResult], name: str, layer: str) -> Relation:
    """Return how one layer's rotation goes with the rate called `name`."""
    return _fitted(
        [
            (trial.params[name], trial.rotation[layer])
            for trial in trials
            if trial.params.get(name) and layer in trial.rotation
        ]
    )


def _fitted(pairs: Sequence[tuple[float, float]]) -> Relation:
    moved = [(rate, s_of(distance)) for rate, distance in pairs if distance > 0]
    unknown = Relation(1.0, 0)
    if len(moved) < _ENOUGH:
        return unknown
    rates, turned = np.log(np.array(moved)).T
    if rates.max() - rates.min() < math.log(_SPREAD) or not turned.std():
        return unknown
    if np.corrcoef(rates, turned)[0, 1] < _TIGHT:
        return unknown
    slope = float(np.polyfit(rates, turned, 1)[0])
    return Relation(min(max(slope, _EXPONENTS[0]), _EXPONENTS[1]), len(moved))
