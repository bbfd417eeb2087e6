"""What metric, train loss and rotation are worth, as this study's own trials have shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuner.rotation.rung import FEATURES, Rung, standardised

Floats = NDArray[np.float64]
Says = Literal["informative", "not informative", "not known yet"]

# What a unit of each standardised rank is worth before anything is known, in units of the
# standardised metric at the end: on recorded families these lost least on average (docs/log.md,
# 2026-11-23).
PRIOR = np.array([0.4, 0.2, 0.2, 0.4])
# How sure that is, as a standard deviation of each.
_PRIOR_DEVIATION = 0.1
# Residual variance of a standardised rank, cautiously all of it: the same trial counts again at
# every rung, so its reports are not independent.
_NOISE = 1.0
# Fewer trials than this at both rungs say nothing.
_ENOUGH = 4
# Standard errors of a one-sided test at 95 %.
_SURE = 1.64
METRIC, TRAIN_LOSS, ROTATION, TO_FALL = range(len(FEATURES))


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Weights:
    """The worth of each of `FEATURES`, with its standard deviation, shape (4,) each.

    `trials` is how many comparisons of a trial at two rungs they were learnt from.
    """

    mean: Floats
    deviation: Floats
    trials: int

    @property
    def used(self) -> Floats:
        """The weights to rank by: what would count against a trial for being better counts 0."""
        return np.maximum(self.mean, 0.0)

    @property
    def rotation_is(self) -> Says:
        """Whether rotation has ranked this study's own trials: their evidence without the prior.

        Informative if its worth is above zero, not informative if it is below the prior's, each by
        1.64 standard errors (one-sided 95 %); otherwise it is not known yet.
        """
        before = 1 / _PRIOR_DEVIATION**2
        gained = float(1 / self.deviation[ROTATION] ** 2 - before)
        if self.trials < 2 * _ENOUGH or gained <= 0:
            return "not known yet"
        shown = float(self.mean[ROTATION] * (before + gained) - PRIOR[ROTATION] * before) / gained
        margin = _SURE / gained**0.5
        if shown > margin:
            return "informative"
        return "not informative" if shown + margin < PRIOR[ROTATION] else "not known yet"


def learn(rungs: Sequence[Rung]) -> Weights:
    """Learn what the merits at each rung told of the next, over all of `rungs`.

    Bayesian linear regression of how well a trial stood at the next rung on the standardised ranks
    of its merits, both among the trials that are at both, with a normal prior: little evidence
    stays near the prior. How well it stood is its metric at the end of the run, and short of that
    its metric and train loss as the prior weighs them. That is no measure of what a falling
    learning rate will still bring, so only ends teach what that is worth.

    Args:
        rungs: ascending; the last is the end of the run.
    """
    precision = np.eye(len(FEATURES)) / _PRIOR_DEVIATION**2
    evidence = precision @ PRIOR
    trials = 0
    reached = [rung for rung in rungs if len(rung) >= _ENOUGH]
    for earlier, later in pairwise(reached):
        both, rows, later_rows = np.intersect1d(
            earlier.numbers, later.numbers, assume_unique=True, return_indices=True
        )
        if len(both) < _ENOUGH:
            continue
        inputs = standardised(earlier.merits[rows])
        stood = standardised(later.merits[later_rows])
        if later is rungs[-1]:
            outcome = stood[:, METRIC]
        else:
            stood = stood[:, : TRAIN_LOSS + 1] @ PRIOR[: TRAIN_LOSS + 1]
            outcome = standardised(stood[:, None])[:, 0]
            inputs[:, TO_FALL] = 0.0
        precision = precision + inputs.T @ inputs / _NOISE
        evidence = evidence + inputs.T @ outcome / _NOISE
        trials += len(both)
    covariance = np.linalg.inv(precision)
    return Weights(covariance @ evidence, np.sqrt(np.diag(covariance)), trials)
