"""RotationPruner, which compares trials by rotation too, and Optuna's pruners by name."""

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
from tuner.rotation import (
    HalvingState,
    PruningConfig,
    RotationCurve,
    RotationTarget,
    Verdict,
    decide,
)
from tuner.storage.optuna_internals import storage_of, study_id_of, trial_id_of
from tuner.study.schema import (
    AUDIT,
    REASON,
    ROTATION_TARGET,
    START,
    WARMUP_EPOCHS,
    curve_of,
    read_target,
)

MAX_EPOCHS = "max_epochs"  # study attribute
METRIC = "metric"  # study attribute


class RotationPruner(BasePruner):
    """Prunes trials whose peers have a better metric, train loss and rotation, with a reason.

    It reads the study's curves and calls `tuner.rotation.decide`, which has the rules. Trials
    report their rotation with `report_rotation(trial, step, distances)`. Without it the pruner
    compares only the metric. The reason is stored as the user attribute ``reason`` of the pruned
    trial. A control trial is trained to its end to measure the cost of pruning; its attribute
    ``audit`` holds the reason.

    Reports of a study need its target and its warmup. In plain Optuna the first call of `prune`
    writes them into the study; `tuner.run` writes them before the first trial.

    Args:
        target: the distances that the layers should reach. Default: the study's target. A study
            without a target has the default target, a quarter turn of the hidden layers.
        max_epochs: epochs of a whole trial, >= 1. Default: the study's user attribute
            ``max_epochs``.
        warmup_epochs, early_keep, keep, audit, seed: see `tuner.rotation.PruningConfig`.

    Raises:
        InvalidInput: a value is outside its range. `prune` raises it if neither the pruner nor the
            study has ``max_epochs``.

    Example:
        >>> from tuner.study.schema import report_rotation
        >>> study = optuna.create_study(direction="maximize", pruner=RotationPruner(max_epochs=20))
        >>> for accuracy in (0.9, 0.8, 0.7, 0.6, 0.5):
        ...     trial = study.ask()
        ...     report_rotation(trial, 1, {"conv": 0.2})
        ...     trial.report(accuracy, 1)
        >>> trial.should_prune()
        True
        >>> study.trials[-1].user_attrs["reason"].partition(".")[0]
        'peers: 5th of 5 at epoch 1; the best 2 go on'
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
            target=target or RotationTarget(),  # `config_for` replaces the default by the study's
            warmup_epochs=warmup_epochs,
            early_keep=early_keep,
            keep=keep,
            audit=audit,
            seed=seed,
        )
        self.max_epochs = max_epochs
        self._target = target
        self._known: _Known | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The cache of a study belongs to the process that opened it.
        return {**self.__dict__, "_known": None}

    def target_or(self, default: RotationTarget) -> RotationTarget:
        """Return the pruner's own target, or `default` if it has none."""
        return self._target or default

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to prune a running trial, and store the reason in the trial.

        Args:
            study: the study.
            trial: the trial.

        Raises:
            InvalidInput: neither the pruner nor the study has ``max_epochs``.
        """
        verdict = self.verdict(study, trial)
        self._describe(study)
        # Optuna passes a copy of the trial, which lacks the attributes that are written here.
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
        may_pause: bool = False,
        final: bool = False,
    ) -> Verdict:
        """Return the verdict on a running trial at its last report. Nothing is written.

        Args:
            study: the study.
            trial: the trial.
            may_pause, final: see `tuner.rotation.decide`.
        """
        state = self.state(study)
        assert self._known is not None, "the state is read from it"
        return decide(
            trial.number,
            self._known.curve(trial),
            state,
            may_pause=may_pause,
            final=final,
            exempt=START in trial.user_attrs,
        )

    def state(self, study: Study) -> HalvingState:
        """Return the standing of all trials of the study, except failed trials."""
        of = storage_of(study), study_id_of(study)
        if self._known is None or self._known.of != of:
            state = HalvingState(self.config_for(study), self.max_epochs_of(study))
            self._known = _Known(of, state)
        return self._known.updated(study)

    def config_for(self, study: Study) -> PruningConfig:
        """Return the settings with the study's target, direction and name of the metric."""
        return replace(
            self.criteria,
            target=self.target_or(read_target(study.user_attrs)),
            mode="min" if study.direction is StudyDirection.MINIMIZE else "max",
            metric_name=study.user_attrs.get(METRIC, "value"),
        )

    def _describe(self, study: Study) -> None:
        """Store in the study, once, the settings by which its trials are pruned."""
        assert self._known is not None, "`verdict` has read the study"
        if self._known.described:
            return
        self._known.described = True
        config, attrs = self._known.state.config, study.user_attrs
        if ROTATION_TARGET not in attrs or read_target(attrs) != config.target:
            study.set_user_attr(ROTATION_TARGET, config.target.to_dict())
        if attrs.get(WARMUP_EPOCHS) != config.warmup_epochs:
            study.set_user_attr(WARMUP_EPOCHS, config.warmup_epochs)

    def max_epochs_of(self, study: Study) -> int:
        """Return the epochs of a whole trial.

        Raises:
            InvalidInput: neither the pruner nor the study has ``max_epochs``.
        """
        known = self.max_epochs or study.user_attrs.get(MAX_EPOCHS)
        if known is None:
            raise InvalidInput(
                "RotationPruner must know the epochs of a whole run, got none; "
                "use RotationPruner(max_epochs=...)"
            )
        return int(known)


@dataclass
class _Known:
    """The part of a study that a pruner has read. Reports never change, so each is read once.

    Attributes:
        of: the storage and the id of the study.
        state: the standing of the trials, with all reports read so far.
        open: the trials that had not ended when they were read.
        trials: the number of trials read.
        described: whether the study stores the settings by which its trials are pruned.
    """

    of: tuple[BaseStorage, int]
    state: HalvingState
    open: dict[int, _Open] = dataclasses.field(default_factory=dict)
    trials: int = 0
    described: bool = False
    # `Study.optimize` may run trials in several threads, which share the pruner.
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def updated(self, study: Study) -> HalvingState:
        with self.lock:
            return self._updated(study.get_trials(deepcopy=False))

    def curve(self, trial: FrozenTrial) -> RotationCurve:
        """Return the reports of a trial."""
        with self.lock:
            known = self.open.get(trial.number)
        if known is not None and known.written == _written(trial):
            return known.curve
        return curve_of(trial, self.state.max_epochs)

    def _updated(self, trials: list[FrozenTrial]) -> HalvingState:
        for trial in trials[self.trials :]:
            self.open[trial.number] = _Open(RotationCurve((), self.state.max_epochs))
        self.trials = len(trials)
        news = {}
        for number, known in list(self.open.items()):
            trial = trials[number]
            if trial.state == TrialState.FAIL:  # while it ran, other trials were compared with it
                self.state = self.state.without_trial(number)
            elif (written := _written(trial)) != known.written:
                known.written = written
                news[number] = known.curve = curve_of(trial, self.state.max_epochs)
            if trial.state.is_finished():
                del self.open[number]
        self.state = self.state.with_curves(news)
        return self.state


@dataclass
class _Open:
    """A trial that had not ended when it was last read.

    Attributes:
        curve: its reports at that time.
        written: the number of its values and attributes at that time.
    """

    curve: RotationCurve
    written: int = 0


def _written(trial: FrozenTrial) -> int:
    return len(trial.user_attrs) + len(trial.intermediate_values)


# The arguments are the rotation target, the epochs of a whole trial, and the study's seed.
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


def rotation_pruner_of(pruner: BasePruner) -> RotationPruner | None:
    """Return the given pruner if it is a RotationPruner, else the RotationPruner that it wraps.

    The result is None if there is none. Optuna's `PatientPruner` wraps another pruner.
    """
    candidates = (pruner, *vars(pruner).values())
    return next((found for found in candidates if isinstance(found, RotationPruner)), None)


def make_pruner(
    pruner: str | BasePruner, target: RotationTarget, max_epochs: int, seed: int = 0
) -> BasePruner:
    """Return a pruner by name, or the given pruner itself.

    Args:
        pruner: a name of `PRUNERS`, or a pruner.
        target: the rotation target of a named pruner.
        max_epochs: epochs of a whole trial, for a named pruner.
        seed: the seed of a named pruner.

    Raises:
        InvalidInput: the name is unknown.
    """
    if isinstance(pruner, BasePruner):
        return pruner
    if pruner not in PRUNERS:
        raise unknown_name("pruner", pruner, PRUNERS)
    with warnings.catch_warnings():
        # The user has chosen an experimental pruner by name. A warning at each run adds nothing.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PRUNERS[pruner](target, max_epochs, seed)


def explain(study: Study, trial: optuna.Trial, metric: str, max_epochs: int) -> str:
    """Return the reason for a decision of a pruner that gives no reason, such as Optuna's.

    The reason names the pruner, the trial's metric and the trial's rank at the same epoch.

    Args:
        study: the study.
        trial: the pruned trial.
        metric: the name of the metric.
        max_epochs: epochs of a whole trial.
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
    rank = f"rank {better + 1} of {len(others) + 1}" if others else "the first"
    return (
        f"{name}: {metric} {value:.4g} at epoch {step}, {rank}. "
        f"Saves {max_epochs - step} of {max_epochs} epochs."
    )
