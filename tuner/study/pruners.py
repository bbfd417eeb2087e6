"""The pruner that reads rotation, and Optuna's own by name."""

from __future__ import annotations

import dataclasses
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import InvalidInput, unknown_name
from tuner.rotation import HalvingState, PruningConfig, RotationTarget, Verdict, decide
from tuner.storage.optuna_internals import storage_of, study_id_of, trial_id_of
from tuner.study.schema import AUDIT, REASON, START, curve_of

MAX_EPOCHS = "max_epochs"  # study attribute
METRIC = "metric"  # study attribute


class RotationPruner(BasePruner):
    """Prunes trials that their peers outdo by metric, train loss and rotation, with a reason.

    It gathers what `decide` needs from the study; the rules themselves are in `tuner.rotation`.
    Trials feed it with `report_rotation(trial, step, distances)`; without, it ranks by the metric
    alone. The reason of every pruning is stored as the trial's user attribute ``reason``; a trial
    that is trained to its end to measure what pruning costs keeps its reason as ``audit``.

    Args:
        target: what the layers should reach; the default is a quarter turn of the hidden ones.
        max_epochs: the epochs of a whole run, >= 1; read from the study's user attribute
            ``max_epochs`` when left out.
        warmup_epochs, early_keep, keep, audit, seed: see `tuner.rotation.PruningConfig`.

    Raises:
        InvalidInput: a bound is broken, or (when pruning) nobody says what a whole run is.
    """

    def __init__(
        self,
        target: RotationTarget | None = None,
        *,
        max_epochs: int | None = None,
        warmup_epochs: float = PruningConfig.warmup_epochs,
        early_keep: float = PruningConfig.early_keep,
        keep: float = PruningConfig.keep,
        audit: float = PruningConfig.audit,
        seed: int = 0,
    ) -> None:
        if max_epochs is not None and max_epochs < 1:
            raise InvalidInput(f"max_epochs must be >= 1, got {max_epochs}; use 1 or more")
        self.criteria = PruningConfig(
            target=target or RotationTarget(),
            warmup_epochs=warmup_epochs,
            early_keep=early_keep,
            keep=keep,
            audit=audit,
            seed=seed,
        )
        self.max_epochs = max_epochs
        self._known: _Known | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What it remembers of a study stays with the process that opened it.
        return {**self.__dict__, "_known": None}

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        verdict = self.verdict(study, trial)
        # The trial that Optuna hands over lacks what is written past it, as the reasons here are.
        storage, trial_id = storage_of(study), trial_id_of(trial)
        if verdict.audit and AUDIT not in storage.get_trial(trial_id).user_attrs:
            storage.set_trial_user_attr(trial_id, AUDIT, verdict.reason)
        if verdict.prune:
            storage.set_trial_user_attr(trial_id, REASON, verdict.reason)
        return verdict.prune

    def verdict(
        self,
        study: Study,
        trial: FrozenTrial,
        *,
        may_wait: bool = False,
        final: bool = False,
    ) -> Verdict:
        """Return the verdict on a running trial at its last report; it changes nothing.

        `may_wait` and `final` are those of `tuner.rotation.decide`.
        """
        return decide(
            trial.number,
            curve_of(trial, self._max_epochs(study)),
            self.field(study),
            may_wait=may_wait,
            final=final,
            exempt=START in trial.user_attrs,
        )

    def field(self, study: Study) -> HalvingState:
        """Return how all trials of the study stand; those that failed are left out."""
        of = storage_of(study), study_id_of(study)
        if self._known is None or self._known.of != of:
            minimize = study.direction is StudyDirection.MINIMIZE
            criteria = replace(
                self.criteria,
                mode="min" if minimize else "max",
                metric_name=study.user_attrs.get(METRIC, "value"),
            )
            field = HalvingState(criteria, self._max_epochs(study))
            self._known = _Known(of, field)
        return self._known.updated(study)

    def _max_epochs(self, study: Study) -> int:
        known = self.max_epochs or study.user_attrs.get(MAX_EPOCHS)
        if known is None:
            raise InvalidInput(
                "RotationPruner must know the epochs of a whole run, got none; "
                "use RotationPruner(max_epochs=...)"
            )
        return int(known)


@dataclass
class _Known:
    """What a pruner has read of a study: reports never change, so each is read once."""

    of: tuple[BaseStorage, int]
    field: HalvingState
    open: dict[int, int] = dataclasses.field(default_factory=dict)  # number -> reports read
    trials: int = 0
    # Optuna's `optimize` may run trials in several threads, which share the study's pruner.
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def updated(self, study: Study) -> HalvingState:
        with self.lock:
            return self._updated(study.get_trials(deepcopy=False))

    def _updated(self, trials: list[FrozenTrial]) -> HalvingState:
        if any(
            read and trials[number].state == TrialState.FAIL for number, read in self.open.items()
        ):
            # What it reported was counted while it ran: begin again, without it.
            self.field = HalvingState(self.field.criteria, self.field.max_epochs)
            self.open, self.trials = {}, 0
        self.open.update((trial.number, 0) for trial in trials[self.trials :])
        self.trials = len(trials)
        news = {}
        for number, read in list(self.open.items()):
            trial = trials[number]
            written = len(trial.user_attrs) + len(trial.intermediate_values)
            if written != read and trial.state != TrialState.FAIL:
                self.open[number] = written
                news[number] = curve_of(trial, self.field.max_epochs)
            if trial.state.is_finished():
                self.open.pop(number, None)
        self.field = self.field.with_curves(news)
        return self.field


# By what the layers should reach, the epochs of a whole run, and the study's seed.
PRUNERS: dict[str, Callable[[RotationTarget, int, int], BasePruner]] = {
    "rotation": lambda target, epochs, seed: RotationPruner(target, max_epochs=epochs, seed=seed),
    "none": lambda target, epochs, seed: NopPruner(),
    "median": lambda target, epochs, seed: MedianPruner(),
    "percentile": lambda target, epochs, seed: PercentilePruner(25.0),
    "asha": lambda target, epochs, seed: SuccessiveHalvingPruner(
        min_resource=1, reduction_factor=4
    ),
    "hyperband": lambda target, epochs, seed: HyperbandPruner(
        min_resource=1, max_resource=epochs, reduction_factor=3
    ),
    "wilcoxon": lambda target, epochs, seed: WilcoxonPruner(),
}


def make_pruner(
    pruner: str | BasePruner, target: RotationTarget, max_epochs: int, seed: int = 0
) -> BasePruner:
    """Return a pruner by name, or the one given; `seed` is of what a named one draws.

    Raises:
        InvalidInput: the name is unknown.
    """
    if isinstance(pruner, BasePruner):
        return pruner
    if pruner not in PRUNERS:
        raise unknown_name("pruner", pruner, PRUNERS)
    with warnings.catch_warnings():
        # Who names one of Optuna's experimental pruners need not be told at every run.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PRUNERS[pruner](target, max_epochs, seed)


def explain(study: Study, trial: optuna.Trial, metric: str, max_epochs: int) -> str:
    """Say in words why a pruner that keeps its reasons to itself has pruned a trial.

    Returns: the pruner's name, the trial's metric, and how it compares at the same epoch.
    """
    frozen = study.get_trials(deepcopy=False)[trial.number]
    step = frozen.last_step
    name = type(study.pruner).__name__
    if step is None:
        return f"{name}: nothing reported yet"
    value = frozen.intermediate_values[step]
    others = [
        other.intermediate_values[step]
        for other in study.get_trials(deepcopy=False)
        if other.number != trial.number and step in other.intermediate_values
    ]
    direction: Literal["min", "max"] = (
        "min" if study.direction is StudyDirection.MINIMIZE else "max"
    )
    better = sum(other < value if direction == "min" else other > value for other in others)
    rank = f"{better + 1} of {len(others) + 1} at this epoch" if others else "the first here"
    return (
        f"{name}: {metric} {value:.4g} at epoch {step} is {rank}; "
        f"saves {max_epochs - step} of {max_epochs} epochs"
    )
