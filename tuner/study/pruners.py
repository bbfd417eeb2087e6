"""The pruner that reads rotation, and Optuna's own by name."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
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
from tuner.rotation import Peer, RotationCurve, RotationTarget, Verdict, decide
from tuner.study.record import REASON, curve_of

MAX_EPOCHS = "max_epochs"  # study attribute
METRIC = "metric"  # study attribute


class RotationPruner(BasePruner):
    """Prunes trials whose layers are forecast not to turn far enough, and those their peers outdo.

    It gathers what `decide` needs from the study; the rules themselves are in `tuner.rotation`.
    Trials feed it with `report_rotation(trial, step, distances)`; without, it ranks by the metric
    alone. The reason of every pruning is stored as the trial's user attribute ``reason``.

    Args:
        target: what the layers should reach; the default is a quarter turn of the hidden ones.
        max_epochs: the epochs of a whole run, >= 1; read from the study's user attribute
            ``max_epochs`` when left out.
        warmup_epochs: no trial is compared before it has done so many whole epochs, >= 0.
        eta: of the trials that reach a rung, the best 1/eta go on, >= 2.

    Raises:
        InvalidInput: a bound is broken, or (when pruning) nobody says what a whole run is.
    """

    def __init__(
        self,
        target: RotationTarget | None = None,
        *,
        max_epochs: int | None = None,
        warmup_epochs: int = 1,
        eta: int = 4,
    ) -> None:
        for name, value, least in (
            ("max_epochs", max_epochs, 1),
            ("warmup_epochs", warmup_epochs, 0),
            ("eta", eta, 2),
        ):
            if value is not None and value < least:
                raise InvalidInput(f"{name} must be >= {least}, got {value}; use {least} or more")
        self.target = target or RotationTarget()
        self.max_epochs = max_epochs
        self.warmup_epochs = warmup_epochs
        self.eta = eta
        self._peers: dict[tuple[int, int], Peer] = {}
        self._peers_of: tuple[BaseStorage, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What it remembers of a study stays with the process that opened it.
        return {**self.__dict__, "_peers": {}, "_peers_of": None}

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        verdict = self.verdict(study, trial)
        if verdict.prune:
            study._storage.set_trial_user_attr(trial._trial_id, REASON, verdict.reason)
        return verdict.prune

    def verdict(self, study: Study, trial: FrozenTrial) -> Verdict:
        """Return the verdict on a running trial at its last report; it changes nothing."""
        max_epochs = self._max_epochs(study)
        curve = curve_of(trial, max_epochs)
        if not len(curve):
            return Verdict(prune=False, reason="no report yet")
        epoch = curve.epochs[-1]
        whole = epoch.is_integer() and not math.isnan(curve.metric[-1])
        minimize = study.direction is StudyDirection.MINIMIZE
        return decide(
            curve,
            self.target,
            self._at(study, int(epoch), trial.number, max_epochs) if whole else (),
            metric_name=study.user_attrs.get(METRIC, "value"),
            mode="min" if minimize else "max",
            warmup_epochs=self.warmup_epochs,
            eta=self.eta,
        )

    def _max_epochs(self, study: Study) -> int:
        known = self.max_epochs or study.user_attrs.get(MAX_EPOCHS)
        if known is None:
            raise InvalidInput(
                "RotationPruner must know the epochs of a whole run, got none; "
                "use RotationPruner(max_epochs=...)"
            )
        return int(known)

    def _at(self, study: Study, epoch: int, number: int, max_epochs: int) -> list[Peer]:
        """The other trials that have been at this epoch, as they stood there."""
        if self._peers_of != (study._storage, study._study_id):
            self._peers, self._peers_of = {}, (study._storage, study._study_id)
        peers = []
        for other in study.get_trials(deepcopy=False):
            if other.number == number or other.state == TrialState.FAIL:
                continue
            metric = other.intermediate_values.get(epoch)
            if metric is None:
                continue
            key = (other.number, epoch)
            if key not in self._peers:  # a report never changes, so its peer is made once
                self._peers[key] = self._peer(curve_of(other, max_epochs), epoch, metric)
            peers.append(self._peers[key])
        return peers

    def _peer(self, curve: RotationCurve, epoch: int, metric: float) -> Peer:
        at = curve.epochs.index(epoch)
        # A diverged run turns far without learning; its rotation must not set the pace.
        diverged = math.isinf(curve.train_loss[at])
        reached = math.nan if diverged else self.target.reached(curve.distances[at], curve.layers)
        return Peer(metric=metric, reached=reached)


PRUNERS: dict[str, Callable[[RotationTarget, int], BasePruner]] = {
    "rotation": lambda target, epochs: RotationPruner(target, max_epochs=epochs),
    "none": lambda target, epochs: NopPruner(),
    "median": lambda target, epochs: MedianPruner(n_warmup_steps=1),
    "percentile": lambda target, epochs: PercentilePruner(25.0, n_warmup_steps=1),
    "asha": lambda target, epochs: SuccessiveHalvingPruner(min_resource=1, reduction_factor=4),
    "hyperband": lambda target, epochs: HyperbandPruner(
        min_resource=1, max_resource=epochs, reduction_factor=3
    ),
    "wilcoxon": lambda target, epochs: WilcoxonPruner(),
}


def make_pruner(pruner: str | BasePruner, target: RotationTarget, max_epochs: int) -> BasePruner:
    """Return a pruner by name, or the one given.

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
        return PRUNERS[pruner](target, max_epochs)


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
