"""Optuna's samplers by name, seeded so that an interrupted study goes on as it would have."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from tuner.errors import unknown_name

# By the study's seed and the trial's own. QMC takes its points in turn from the study, so that its
# scrambling must stay the same; what it cannot place (a first trial, a conditional parameter) is
# drawn from the trial's stream.
SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": lambda study, trial: TPESampler(seed=trial),
    "random": lambda study, trial: RandomSampler(seed=trial),
    "gp": lambda study, trial: GPSampler(seed=trial, warn_independent_sampling=False),
    "nsgaii": lambda study, trial: NSGAIISampler(seed=trial),
    "qmc": lambda study, trial: QMCSampler(
        seed=study,
        independent_sampler=RandomSampler(seed=trial),
        warn_independent_sampling=False,
    ),
}


def sampler_for_trial(sampler: str | BaseSampler, seed: int, number: int) -> BaseSampler:
    """Return the sampler that suggests trial `number`.

    A named one draws from a stream of its own for every trial. So what is suggested depends on the
    study and the trial's number, not on how often the process was restarted; a sampler with one
    stream would suggest its first values again after each restart.

    Raises:
        InvalidInput: the name is unknown.
    """
    if isinstance(sampler, BaseSampler):
        return sampler
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    own = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    with warnings.catch_warnings():
        # Who names one of Optuna's experimental samplers need not be told at every trial.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[sampler](seed, own)
