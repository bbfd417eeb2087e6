"""The Ray trial of a study, without the bookkeeping that the study makes needless."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ray.tune import Trainable
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
        **fields: Any,
    ) -> None:
        self._trainable = trainable
        self._failed = failed
        super().__init__(trainable.__name__, stub=True, **fields)  # stub: do not look the name up
        restored = self._restore_checkpoint_result
        if restored is not None and restored.checkpoint is not None:
            # Ray takes a path to say nothing, and lets the count of reports begin again at 1: that
            # of the epochs too, where a trainable does not count them.
            restored.metrics.update(restored.checkpoint.get_metadata())

    def get_trainable_cls(self) -> type[Trainable]:
        return self._trainable

    def handle_error(self, exc: Any = None) -> None:
        # Ray puts the error in a file that is not where `get_error` looks until it has been synced,
        # and does not tell the scheduler of a trial whose actor could not be reset.
        super().handle_error(exc)
        self._failed(exc)

    def get_json_state(self) -> tuple[str, str]:
        return "{}", "{}"


def part_id(number: int, trials: Path, taken: Collection[str] = ()) -> str:
    """Return Ray's id for the next part of a trial, whose folder under `trials` is new.

    To Ray, a trial that goes on after a pause or an interruption is another one: it would number
    checkpoints from 0 again, over those that the study names. A part that never came to write one
    has no folder, and its id is among those that are `taken`.
    """
    parts = [_part_of(folder) for folder in _folders(number, trials)]
    part = max(parts, default=-1) + 1
    while (name := f"{number:05d}-{part}" if part else f"{number:05d}") in taken:
        part += 1
    return name


def remove_other_parts(number: int, trials: Path, checkpoint: Path) -> None:
    """Remove the folders of a trial's parts but the one that holds this checkpoint.

    What they reported is in the study, and nobody will go on from them.
    """
    for folder in _folders(number, trials):
        if folder not in checkpoint.parents:
            shutil.rmtree(folder, ignore_errors=True)


def _folders(number: int, trials: Path) -> list[Path]:
    return [*trials.glob(f"trial-{number:05d}"), *trials.glob(f"trial-{number:05d}-*")]


def _part_of(folder: Path) -> int:
    """Return which part of its trial a folder is of, from 0: trial-00007-2 is of the third."""
    return int(folder.name.removeprefix("trial-").partition("-")[2] or 0)


def number_of(trial: Trial) -> int:
    """Return the number in the study of a trial that Ray holds."""
    return int(trial.trial_id.partition("-")[0])
