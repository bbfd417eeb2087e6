"""Optuna's samplers by name, seeded so that an interrupted study continues unchanged."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import unknown_name
from tuner.storage.optuna_internals import study_as_shown

# The arguments are the study's seed and the trial's seed. QMC takes its points in order over the
# study, so its scrambling needs the study's seed. The first trial and conditional parameters are
# drawn with the trial's seed.
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

# Samplers that read complete trials only.
_READS_COMPLETE = (GPSampler,)


def sampler_for_trial(
    sampler: str | BaseSampler, seed: int, number: int, paused: Collection[int] = ()
) -> BaseSampler:
    """Return the sampler that suggests trial `number`.

    A named sampler gets a new seed for every trial. So its suggestions depend on the study and the
    trial's number, not on restarts of the process. With one seed for the whole study it would
    suggest its first values again after each restart.

    Args:
        sampler: a name of `SAMPLERS`, or a sampler, which keeps its own random state.
        seed: the seed of the study.
        number: the number of the trial.
        paused: the numbers of the paused trials.

    Raises:
        InvalidInput: the name is unknown.
    """
    suggests = _named(sampler, seed, number) if isinstance(sampler, str) else sampler
    reads_complete = isinstance(suggests, _READS_COMPLETE)
    return (
        PrunedAsComplete(suggests, paused, reads_complete) if paused or reads_complete else suggests
    )


def _named(sampler: str, seed: int, number: int) -> BaseSampler:
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    own = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    with warnings.catch_warnings():
        # The user has chosen an experimental sampler by name. A warning at each trial adds nothing.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[sampler](seed, own)


class PrunedAsComplete(BaseSampler):
    """Wraps a sampler and shows it the results of trials that were not trained to their end.

    In Optuna a paused trial is RUNNING. Samplers do not read the results of running trials, and TPE
    treats all of them as bad. Here the sampler sees paused trials as PRUNED.

    `GPSampler` reads complete trials only. It sees paused and pruned trials as COMPLETE, with their
    last metric. It draws at random until ten trials are complete, and of thirty trials only five
    were complete (docs/log.md, 2026-11-26).

    Args:
        sampler: the sampler that suggests.
        paused: the numbers of the paused trials.
        reads_complete: whether the sampler reads complete trials only.
    """

    def __init__(
        self, sampler: BaseSampler, paused: Collection[int], reads_complete: bool = False
    ) -> None:
        self._sampler = sampler
        self._paused = paused
        self._reads_complete = reads_complete

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(self._view(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(self._view(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        return self._sampler.sample_independent(
            self._view(study), trial, param_name, param_distribution
        )

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(self._view(study), trial)

    def after_trial(self, study: Study, *ended: Any) -> None:
        self._sampler.after_trial(study, *ended)

    def _view(self, study: Study) -> Study:
        return study_as_shown(study, self._shown)

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        is_paused = trial.number in self._paused
        if not is_paused and (trial.state != TrialState.PRUNED or not self._reads_complete):
            return trial
        shown = copy.copy(trial)
        shown.state = TrialState.PRUNED
        if self._reads_complete and (step := trial.last_step) is not None:
            last = trial.intermediate_values[step]
            if math.isfinite(last):
                shown.state, shown.values = TrialState.COMPLETE, [last]
        return shown
