"""Ray Tune's scheduler over the study: every report is judged by the study's pruner."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.result import SHOULD_CHECKPOINT
from ray.tune.schedulers import FIFOScheduler

from tuner.engine.bridge import StudyBridge
from tuner.engine.trial import number_of


class StudyScheduler(FIFOScheduler):
    """Stops the trials that the study's pruner prunes. Any Optuna pruner will do.

    It keeps no state of its own: what it knows is in the study, so it survives what the study
    survives.
    """

    def __init__(self, bridge: StudyBridge) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bridge = bridge

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        stop = self._bridge.report(number_of(trial), result)
        self._stop_all_if_fatal(tune_controller)
        return self.STOP if stop else self.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._bridge.finish(number_of(trial), result)
        self._stop_all_if_fatal(tune_controller)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        # The bridge knows: `StudyTrial` has told it.
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
        return (
            f"{type(self._bridge.study.pruner).__name__} over study {self._bridge.study.study_name}"
        )

    def _stop_all_if_fatal(self, tune_controller: Any) -> None:
        if self._bridge.fatal:
            tune_controller.request_stop_experiment()


class CheckpointRecorder(Callback):
    """Tells the study of every checkpoint once it is whole on disk, and has one made of a trial
    that is to pause."""

    def __init__(self, bridge: StudyBridge) -> None:
        self._bridge = bridge

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
        if self._bridge.is_pausing(number_of(trial)):
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
        self._bridge.checkpointed(number_of(trial), checkpoint.path.removeprefix(root))
