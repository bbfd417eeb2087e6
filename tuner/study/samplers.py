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

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed, warn_independent_sampling=False),
    "nsgaii": lambda seed: NSGAIISampler(seed=seed),
    "qmc": lambda seed: QMCSampler(seed=seed, warn_independent_sampling=False),
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
    # QMC takes its points in turn from the study, so its scrambling must stay the same.
    stream = (seed,) if sampler == "qmc" else (seed, number)
    with warnings.catch_warnings():
        # Who names one of Optuna's experimental samplers need not be told at every trial.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[sampler](int(np.random.SeedSequence(stream).generate_state(1)[0]))
