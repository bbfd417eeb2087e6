"""Optuna's samplers by name, seeded so that an interrupted study goes on as it would have."""

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

_READS_WHOLE = (GPSampler,)


def sampler_for_trial(
    sampler: str | BaseSampler, seed: int, number: int, paused: Collection[int] = ()
) -> BaseSampler:
    """Return the sampler that suggests trial `number`.

    A named one draws from a stream of its own for every trial. So what is suggested depends on the
    study and the trial's number, not on how often the process was restarted; a sampler with one
    stream would suggest its first values again after each restart.

    Args:
        sampler: a name, or a sampler, whose stream is its own.
        seed: of the study.
        number: of the trial.
        paused: the numbers of the trials that wait.

    Raises:
        InvalidInput: the name is unknown.
    """
    suggests = _named(sampler, seed, number) if isinstance(sampler, str) else sampler
    reads_whole = isinstance(suggests, _READS_WHOLE)
    return PrunedAsComplete(suggests, paused, reads_whole) if paused or reads_whole else suggests


def _named(sampler: str, seed: int, number: int) -> BaseSampler:
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    own = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    with warnings.catch_warnings():
        # Who names one of Optuna's experimental samplers need not be told at every trial.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[sampler](seed, own)


class PrunedAsComplete(BaseSampler):
    """Hands on to a sampler, which is told what trials have shown that were not run whole.

    To Optuna paused trials are running, and of those a sampler knows nothing but that they were
    suggested; TPE takes them all for bad ones. They look pruned instead. And where a sampler reads
    whole trials only, as that by Gaussian processes, pruned ones look whole, with their last
    metric: it draws at random until ten are, and of thirty five were (docs/log.md, 2026-11-26).

    Args:
        sampler: which suggests.
        paused: the numbers of the paused trials.
        reads_whole: whether the sampler reads whole trials only.
    """

    def __init__(
        self, sampler: BaseSampler, paused: Collection[int], reads_whole: bool = False
    ) -> None:
        self._sampler = sampler
        self._paused = paused
        self._reads_whole = reads_whole

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(self._seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(self._seen(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        return self._sampler.sample_independent(
            self._seen(study), trial, param_name, param_distribution
        )

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(self._seen(study), trial)

    def after_trial(self, study: Study, *ended: Any) -> None:
        self._sampler.after_trial(study, *ended)

    def _seen(self, study: Study) -> Study:
        return study_as_shown(study, self._shown)

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        is_paused = trial.number in self._paused
        if not is_paused and (trial.state != TrialState.PRUNED or not self._reads_whole):
            return trial
        shown = copy.copy(trial)
        shown.state = TrialState.PRUNED
        if self._reads_whole and (step := trial.last_step) is not None:
            last = trial.intermediate_values[step]
            if math.isfinite(last):
                shown.state, shown.values = TrialState.COMPLETE, [last]
        return shown
