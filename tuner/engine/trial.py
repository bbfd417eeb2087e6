"""The Ray trial of a study, without the bookkeeping that the study makes needless."""

from __future__ import annotations

from typing import Any

from ray.tune import Trainable
from ray.tune.experiment import Trial


class StudyTrial(Trial):
    """A trial that knows its class, and whose record is the study.

    Ray's own asks the cluster for the class three times a trial, and writes each trial's state for
    `Tuner.restore`; a study is resumed from its storage instead (docs/log.md, 2026-11-23).
    """

    def __init__(self, trainable: type[Trainable], **fields: Any) -> None:
        self._trainable = trainable
        self.failure: BaseException | None = None
        super().__init__(trainable.__name__, stub=True, **fields)  # stub: do not look the name up

    def get_trainable_cls(self) -> type[Trainable]:
        return self._trainable

    def handle_error(self, exc: Any = None) -> None:
        # Ray's own goes to a file that is not where `get_error` looks until it has been synced.
        self.failure = exc
        super().handle_error(exc)

    def get_json_state(self) -> tuple[str, str]:
        return "{}", "{}"
