"""The Ray trial of a study, without the bookkeeping that the study makes needless."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint, Trainable
from ray.tune.experiment import Trial


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
