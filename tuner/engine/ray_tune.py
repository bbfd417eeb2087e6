"""Ray Tune's searcher, scheduler, trial and controller, each over one study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from ray.tune.result import AUTO_RESULT_KEYS, DEBUG_METRICS, DONE, SHOULD_CHECKPOINT
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import SearchAlgorithm

from tuner.engine.checkpoints import copy_checkpoint, new_attempt_dir, remove_other_attempts
from tuner.engine.failures import ActorLost, FailureHandler, LateNodes, StorageUnreachable
from tuner.engine.resources import ClusterCapacity, as_placement_group
from tuner.engine.trial_manager import Suggestion, TrialManager
from tuner.rotation import Action
from tuner.rotation.report import ITERATION, ITERATION_S
from tuner.storage.paths import StoragePath

# Ray adds these keys to every result.
_RAY_KEYS = {*AUTO_RESULT_KEYS, *DEBUG_METRICS, DONE, SHOULD_CHECKPOINT} - {ITERATION, ITERATION_S}


def reported(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of Ray's result that the trainable reported, with Ray's count of reports."""
    return {
        key: value
        for key, value in result.items()
        if key not in _RAY_KEYS and not key.startswith("config/")
    }


class StudyTrial(Trial):
    """A trial that holds its class. The study holds its state.

    Ray's own class requests the trainable from the cluster three times for each trial. It also
    writes each trial's state for `Tuner.restore`. Here a study is resumed from its storage
    (docs/log.md, 2026-11-23).

    Attributes:
        action: the action decided on its last report.
    """

    action = Action.CONTINUE

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
            # Ray would ignore the metadata and count reports from 1 again. This would also restart
            # the epochs of a trainable that does not count them.
            self._restore_checkpoint_result = _TrainingResult(restore, restore.get_metadata())

    def get_trainable_cls(self) -> type[Trainable]:
        return self._trainable

    def init_local_path(self) -> None:
        # Ray would add random letters to the name if another study began on the same Ray within
        # the same second. The name contains the number of the attempt.
        if not self.relative_logdir:
            assert self.storage, "the searcher gives each trial the experiment's storage"
            self.storage.trial_dir_name = f"trial-{self.trial_id}"
            self.relative_logdir = self.storage.trial_dir_name  # type: ignore[assignment]
        super().init_local_path()  # type: ignore[no-untyped-call]

    def handle_error(self, exc: Any = None) -> None:
        # Ray writes the error to a file that `get_error` does not find before the next sync. It
        # does not call the scheduler for a trial whose actor could not be reset.
        super().handle_error(exc)
        self._failed(exc)

    def get_json_state(self) -> tuple[str, str]:
        return "{}", "{}"


def number_of(trial: Trial) -> int:
    """Return the number in the study of one of Ray's trials."""
    return int(trial.trial_id.partition("-")[0])


class StudySearcher(SearchAlgorithm):
    """Suggests as many trials of the study at once as fit on the cluster.

    Ray's own searchers admit one pending trial at a time, so that slots fill one by one.

    Args:
        manager: the study.
        trainable: the class that every trial runs.
        trials: the folder with the folders of all trials.
        capacity: how many trials fit on the cluster now, and on which nodes.
        max_concurrent: the most trials at a time, >= 1; None for as many as fit.
    """

    def __init__(
        self,
        manager: TrialManager,
        trainable: type[Trainable],
        trials: StoragePath,
        capacity: ClusterCapacity,
        max_concurrent: int | None = None,
    ) -> None:
        self._manager = manager
        self._trainable = trainable
        self._trials = trials
        self._capacity = capacity
        self._late_nodes = LateNodes(manager, capacity, trials)
        self._max_concurrent = max_concurrent
        self._failures = FailureHandler(manager)
        self._attempt_ids: set[str] = set()
        self._experiment: Experiment | None = None

    @property
    def total_samples(self) -> int:
        return self._manager.num_trials

    def add_configurations(self, experiments: Any) -> None:
        (self._experiment,) = experiments

    def next_trial(self) -> Trial | None:
        self._failures.settle()
        self._manager.sync()
        if self.is_finished() or self._manager.num_running >= self._wanted():
            return None
        suggestion = self._manager.ask()
        if suggestion is None:
            return None
        assert self._experiment is not None, "Ray adds the experiment before it asks for trials"
        storage = self._experiment.storage
        restore = self._checkpoint_of(suggestion)
        attempt = new_attempt_dir(
            suggestion.number, self._trials, suggestion.checkpoint, self._attempt_ids
        )
        self._attempt_ids.add(attempt)
        return StudyTrial(
            self._trainable,
            partial(self._crashed, suggestion.number),
            config=suggestion.config,
            restore=restore,
            trial_id=attempt,
            storage=storage,
            placement_group_factory=as_placement_group(self._capacity.request),
            checkpoint_config=self._experiment.checkpoint_config,
        )

    def _crashed(self, number: int, error: BaseException | None) -> None:
        cause = getattr(error, "cause", None)
        if isinstance(cause, StorageUnreachable):
            self._late_nodes.take_back(number, cause)
        else:
            self._failures.crashed(number, error)

    def _checkpoint_of(self, suggestion: Suggestion) -> Checkpoint | None:
        """Return the checkpoint that a trial continues from, and remove its other attempts.

        Returns: None if the checkpoint is missing or cannot be read here. The trial then begins
            again with the same seed, so it repeats its reports.
        """
        name, path = suggestion.checkpoint, suggestion.path
        if name is None:
            return None
        if path is not None and path != self._trials:
            if not copy_checkpoint(name, path, self._trials):
                return None
            self._manager.checkpointed(suggestion.number, name)
        elif not self._trials.folders([name]):
            return None
        remove_other_attempts(suggestion.number, self._trials, name)
        return Checkpoint(self._trials.at(name), self._trials.filesystem)

    def is_finished(self) -> bool:
        return self._finished or (self._manager.exhausted and not self._failures)

    def _wanted(self) -> int:
        wanted = self._capacity.wanted()
        return min(wanted, self._max_concurrent) if self._max_concurrent else wanted


class StudyScheduler(FIFOScheduler):
    """Stops the trials that the manager decides to stop or to pause.

    All state is in the study, so a crash of this process loses no state.
    """

    def __init__(self, manager: TrialManager) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._manager = manager

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        assert isinstance(trial, StudyTrial), "the searcher makes no others"
        trial.action = self._manager.report(number_of(trial), reported(result)).action
        self._stop_all_if_fatal(tune_controller)
        return self.CONTINUE if trial.action is Action.CONTINUE else self.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._manager.finish(number_of(trial), reported(result))
        self._stop_all_if_fatal(tune_controller)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        # `StudyTrial.handle_error` has reported the error.
        self._stop_all_if_fatal(tune_controller)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Do nothing: a trial that never ran stays in the study, for a resumed run."""

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return None: Ray then starts the trials in order.

        Ray's FIFO scheduler returns the oldest trial that has not started. This trial would reuse
        the actor of a trial that has just ended, and cancel its own actor, which is nearly ready.
        With short trials no second actor would ever start.
        """
        return None

    def debug_string(self) -> str:
        study = self._manager.study
        return f"{type(study.pruner).__name__} over study {study.study_name}"

    def _stop_all_if_fatal(self, tune_controller: Any) -> None:
        if self._manager.fatal:
            tune_controller.request_stop_experiment()


class CheckpointRecorder(Callback):
    """Records every complete checkpoint in the study, and requests one for a trial that pauses."""

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
        # Ray reads this key after it has called the scheduler, and stops a trial only after a
        # requested checkpoint is complete.
        if isinstance(trial, StudyTrial) and trial.action is Action.PAUSE:
            result[SHOULD_CHECKPOINT] = True

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any
    ) -> None:
        assert trial.storage is not None, "Ray gives every trial of an experiment its storage"
        # `StudyTrial` restores the report before the checkpoint from this metadata.
        checkpoint.update_metadata(
            {key: trial.last_result[key] for key in ("training_iteration", "time_total_s")}
        )
        root = f"{trial.storage.experiment_fs_path}/"
        self._manager.checkpointed(number_of(trial), checkpoint.path.removeprefix(root))


class _ActorManager(RayActorManager):
    """Fails one trial, not all, when an actor is lost for a reason that Ray Tune does not know.

    Ray's own class handles two errors of a call to an actor, and raises all others.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(
            exception, RayActorError | RayTaskError
        ):
            exception = ActorLost(exception)
        super()._actor_task_failed(tracked_actor_task, exception)


class _NoExperimentState(_ExperimentCheckpointManager):
    """Writes nothing for `Tuner.restore`, because a study is resumed from its storage.

    Ray Tune copies its state in the background. That would create again the folders of removed
    attempts, or prevent their removal.
    """

    def sync_up_experiment_state(self, *_: Any, **__: Any) -> None:
        pass


class _NoAnalysis:
    """The result of `tune.run`; Ray's own class would read files that are not written."""

    def __init__(self, **_: Any) -> None:
        pass


_REPLACEMENTS = (
    (tune_controller, "RayActorManager", _ActorManager),
    (tune_controller, "_ExperimentCheckpointManager", _NoExperimentState),
    (import_module("ray.tune.tune"), "ExperimentAnalysis", _NoAnalysis),
)


@contextmanager
def patched_tune() -> Iterator[None]:
    """Make Ray Tune use the classes of this module; Ray Tune has no setting for them."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _REPLACEMENTS]
    for each in _REPLACEMENTS:
        setattr(*each)
    try:
        yield
    finally:
        for each in before:
            setattr(*each)
