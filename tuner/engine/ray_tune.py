"""Ray Tune's searcher, scheduler, trial and controller, each over one study.

Ray Tune has no setting for any of it: these are the names under which it finds the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.train._internal.session import _TrainingResult
from ray.tune import Callback, Checkpoint, Trainable
from ray.tune.execution import tune_controller
from ray.tune.execution.experiment_state import _ExperimentCheckpointManager
from ray.tune.experiment import Experiment, Trial
from ray.tune.result import SHOULD_CHECKPOINT
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import SearchAlgorithm

from tuner.engine.checkpoints import bring_checkpoint, new_attempt_dir, remove_other_attempts
from tuner.engine.failures import ActorLost, FailureHandler, LateNodes, StorageUnreachable
from tuner.engine.resources import ClusterCapacity, as_placement_group
from tuner.engine.trial_manager import Suggestion, TrialManager
from tuner.storage.paths import StoragePath


class StudyTrial(Trial):
    """A trial that knows its class, and whose record is the study.

    Ray's own asks the cluster for the class three times a trial, and writes each trial's state for
    `Tuner.restore`; a study is resumed from its storage instead (docs/log.md, 2026-11-23).
    """

    def __init__(
        self,
        trainable: type[Trainable],
        failed: Callable[[BaseException | None], None],
        restore: Checkpoint | None = None,
        **fields: Any,
    ) -> None:
        self._trainable = trainable
        self._failed = failed
        super().__init__(trainable.__name__, stub=True, **fields)  # stub: do not look the name up
        if restore is not None:
            # Ray takes a folder of this machine, and one that says nothing, so that the count of
            # reports begins again at 1: that of the epochs too, where a trainable does not count
            # them.
            self._restore_checkpoint_result = _TrainingResult(restore, restore.get_metadata())

    def get_trainable_cls(self) -> type[Trainable]:
        return self._trainable

    def handle_error(self, exc: Any = None) -> None:
        # Ray puts the error in a file that is not where `get_error` looks until it has been synced,
        # and does not tell the scheduler of a trial whose actor could not be reset.
        super().handle_error(exc)
        self._failed(exc)

    def get_json_state(self) -> tuple[str, str]:
        return "{}", "{}"


def number_of(trial: Trial) -> int:
    """Return the number in the study of a trial that Ray holds."""
    return int(trial.trial_id.partition("-")[0])


class StudySearcher(SearchAlgorithm):
    """Suggests from the study as many trials as there is room for, at once.

    Ray's own searchers admit one pending trial at a time, so that slots fill one by one.

    Args:
        manager: the study.
        trainable: the class that every trial runs.
        trials: where the folders of all trials are.
        room: for how many there is room now, and where.
        max_concurrent: trials at a time at most, >= 1; None for as many as fit.
    """

    def __init__(
        self,
        manager: TrialManager,
        trainable: type[Trainable],
        trials: StoragePath,
        room: ClusterCapacity,
        max_concurrent: int | None = None,
    ) -> None:
        self._manager = manager
        self._trainable = trainable
        self._trials = trials
        self._cluster = room
        self._late_nodes = LateNodes(manager, room, trials)
        self._max_concurrent = max_concurrent
        self._losses = FailureHandler(manager)
        self._part_ids: set[str] = set()
        self._experiment: Experiment | None = None

    @property
    def total_samples(self) -> int:
        return self._manager.num_trials

    def add_configurations(self, experiments: Any) -> None:
        (self._experiment,) = experiments

    def next_trial(self) -> Trial | None:
        self._losses.settle()
        self._manager.listen()
        if self.is_finished() or self._manager.live >= self._room():
            return None
        suggestion = self._manager.ask()
        if suggestion is None:
            return None
        assert self._experiment is not None, "Ray adds the experiment before it asks for trials"
        storage = self._experiment.storage
        restore = self._checkpoint_of(suggestion)
        part = new_attempt_dir(
            suggestion.number, self._trials, suggestion.checkpoint, self._part_ids
        )
        self._part_ids.add(part)
        return StudyTrial(
            self._trainable,
            partial(self._crashed, suggestion.number),
            config=suggestion.config,
            restore=restore,
            trial_id=part,
            storage=storage,
            placement_group_factory=as_placement_group(self._cluster.asked),
            checkpoint_config=self._experiment.checkpoint_config,
            trial_dirname_creator=lambda trial: f"trial-{trial.trial_id}",
        )

    def _crashed(self, number: int, error: BaseException | None) -> None:
        cause = getattr(error, "cause", None)
        if isinstance(cause, StorageUnreachable):
            self._late_nodes.take_back(number, cause)
        else:
            self._losses.crashed(number, error)

    def _checkpoint_of(self, suggestion: Suggestion) -> Checkpoint | None:
        """Return the checkpoint that a trial goes on from, now the only one with a folder left.

        One that is gone, or that is in a former driver's folder and cannot be read from here, means
        starting over: the seed makes that the same trial.
        """
        name, place = suggestion.checkpoint, suggestion.place
        if name is None:
            return None
        if place is not None and place != self._trials:
            if not bring_checkpoint(name, place, self._trials):
                return None
            self._manager.checkpointed(suggestion.number, name)
        elif not self._trials.folders([name]):
            return None
        remove_other_attempts(suggestion.number, self._trials, name)
        return Checkpoint(self._trials.at(name), self._trials.filesystem)

    def is_finished(self) -> bool:
        return self._finished or (self._manager.exhausted and not self._losses)

    def _room(self) -> int:
        wanted = self._cluster.wanted()
        return min(wanted, self._max_concurrent) if self._max_concurrent else wanted


class StudyScheduler(FIFOScheduler):
    """Stops the trials that the study's pruner prunes. Any Optuna pruner will do.

    It keeps no state of its own: what it knows is in the study, so it survives what the study
    survives.
    """

    def __init__(self, manager: TrialManager) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._manager = manager

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        stop = self._manager.report(number_of(trial), result)
        self._stop_all_if_fatal(tune_controller)
        return self.STOP if stop else self.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._manager.finish(number_of(trial), result)
        self._stop_all_if_fatal(tune_controller)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        # The manager knows: `StudyTrial` has told it.
        self._stop_all_if_fatal(tune_controller)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """A trial that never ran stays in the study, to be run when it is resumed."""

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Leave it to Ray, which then starts the trials in order.

        Ray's FIFO answer names the oldest trial that has not started. That one takes over the actor
        of the trial that has just ended and calls its own off, which was about to be ready: with
        short trials no second actor ever starts.
        """
        return None

    def debug_string(self) -> str:
        study = self._manager.study
        return f"{type(study.pruner).__name__} over study {study.study_name}"

    def _stop_all_if_fatal(self, tune_controller: Any) -> None:
        if self._manager.fatal:
            tune_controller.request_stop_experiment()


class CheckpointRecorder(Callback):
    """Tells the study of every checkpoint once it is whole on disk, and has one made of a trial
    that is to pause."""

    def __init__(self, manager: TrialManager) -> None:
        self._manager = manager

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        # Ray looks at the result for this only after it has asked the scheduler, and stops a trial
        # only when a checkpoint that it asked for is whole.
        if self._manager.is_pausing(number_of(trial)):
            result[SHOULD_CHECKPOINT] = True

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any
    ) -> None:
        assert trial.storage is not None, "Ray gives every trial of an experiment its storage"
        # Which report it was made after, for `StudyTrial` to restore.
        checkpoint.update_metadata(
            {key: trial.last_result[key] for key in ("training_iteration", "time_total_s")}
        )
        root = f"{trial.storage.experiment_fs_path}/"
        self._manager.checkpointed(number_of(trial), checkpoint.path.removeprefix(root))


class _ActorManager(RayActorManager):
    """An actor that is gone for a reason that Ray Tune does not know ends one trial, not all.

    It takes any error of a call to an actor but two for an error in itself, and raises it.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(
            exception, RayActorError | RayTaskError
        ):
            exception = ActorLost(exception)
        super()._actor_task_failed(tracked_actor_task, exception)


class _NoExperimentState(_ExperimentCheckpointManager):
    """Nothing is kept for `Tuner.restore`: a study is resumed from its storage.

    Ray Tune copies what it keeps in the background, and with it makes again the folders of a
    trial's parts that were removed meanwhile, or hinders that they are.
    """

    def sync_up_experiment_state(self, *_: Any, **__: Any) -> None:
        pass


class _NoAnalysis:
    """What `tune.run` returns: nothing is read from the files that are not kept."""

    def __init__(self, **_: Any) -> None:
        pass


_OURS = (
    (tune_controller, "RayActorManager", _ActorManager),
    (tune_controller, "_ExperimentCheckpointManager", _NoExperimentState),
    (import_module("ray.tune.tune"), "ExperimentAnalysis", _NoAnalysis),
)


@contextmanager
def patched_tune() -> Iterator[None]:
    """Have Ray Tune use what is here for the runs that are started within."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _OURS]
    for each in _OURS:
        setattr(*each)
    try:
        yield
    finally:
        for each in before:
            setattr(*each)
