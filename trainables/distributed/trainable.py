"""DistributedTrainable: the part of a trainable that trains one trial with several processes."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from ray.tune import Trainable

from trainables.distributed.data_parallel import (
    ALONE,
    DataShard,
    StepReport,
    check_processes,
    merged,
)
from trainables.distributed.workers import WorkerGroup
from trainables.training.config import Settings
from trainables.training.loop import TrainingState
from trainables.training.precision import reserved_gpus, trial_device
from tuner.errors import InvalidInput


class DistributedTrainable(Trainable):
    """A trainable whose steps are taken by one process, or by several that do the same.

    Ray knows of the first process alone. It decides and reports; each of the others has a trial of
    its own, of the same class and config, whose methods the first one calls by name.
    """

    _run: TrainingState | None = None
    _team: WorkerGroup | None = None
    """The other processes, where there are any and this is the first."""
    _share: DataShard = ALONE
    _place: torch.device | None = None
    """The device of a process that Ray does not know of."""

    def train_epoch(self) -> float:
        """Train until the next report; return the mean loss."""
        raise NotImplementedError

    def _settings(self) -> Settings:
        raise NotImplementedError

    def _build(self, settings: Settings) -> TrainingState:
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the model and the batches are; known before they are built."""
        in_actor = self.is_actor()  # type: ignore[no-untyped-call]
        return self._place or trial_device(in_actor)

    # What the first process does.

    def _start_all(self) -> TrainingState:
        settings = self._settings()
        count = self._processes(settings)
        if self._team is not None and (self._team.over or self._team.count != count):
            self._team.close()
            self._team = None
        if self._team is None and count > 1:
            self._team = WorkerGroup(type(self), count, self.device)
            # Nobody has to stop a trial that is made outside of Ray.
            weakref.finalize(self, self._team.close)
        self._share = DataShard(0, count)
        if self._team is None:
            return self._start()
        with self._together("begin", self.config, str(Path.cwd()), self.logdir):
            pass
        with self._together("_start"):
            run = self._start()
        with self._together("_join"):
            self._join()
        return run

    def _processes(self, settings: Settings) -> int:
        in_actor: bool = self.is_actor()  # type: ignore[no-untyped-call]
        gpus = reserved_gpus(in_actor) if self.device.type == "cuda" else None
        count = settings.processes or ((gpus or 1) if in_actor else 1)
        check_processes(count, gpus, settings.batch_size)
        return count

    def _together(
        self, order: str, *arguments: Any, trains: bool = False
    ) -> AbstractContextManager[list[Any]]:
        if self._team is None:
            return nullcontext([])
        shared = self._run.shared if self._run else None
        steps = shared.steps if shared and trains else None
        return self._team.together(order, *arguments, steps=steps)

    def _train_all(self) -> float:
        """Train until the next report; return the mean loss over all samples."""
        with self._together("_train_part", trains=True) as others:
            part = self._train_part()
        try:
            train_loss, samples = merged([part, *others])
        except InvalidInput:
            self._dismiss()
            raise
        with self._together("_finish_part", train_loss, samples):
            self._finish_part(train_loss, samples)
        return train_loss

    def _alone(self) -> AbstractContextManager[None]:
        """Return the context for what the first process does by itself."""
        return nullcontext() if self._team is None else self._team.full_threads()

    def _save_all(self, folder: str) -> None:
        with self._together("_random_state") as others:
            pass
        self._running().save(folder, others)

    def _load_all(self, folder: str) -> None:
        with self._together("_load", str(Path(folder).absolute())):
            self._load(folder)

    def _let_go(self) -> None:
        if self._run is not None:
            self._run.close()
            self._run = None

    def _dismiss(self) -> None:
        if self._team is not None:
            self._team.close()
            self._team = None

    # What every process does.

    def _running(self) -> TrainingState:
        assert self._run is not None, "the trial is built before it is trained"
        return self._run

    def _start(self) -> TrainingState:
        self._run = self._build(self._settings())
        return self._run

    def _join(self) -> None:
        self._running().join()

    def _train_part(self) -> StepReport:
        run = self._running()
        run.begin_part()
        return run.trained(float(self.train_epoch()))

    def _finish_part(self, train_loss: float, samples: int) -> None:
        self._running().finish_part(train_loss, samples)

    def _random_state(self) -> dict[str, Any]:
        return self._running().random_state()

    def _load(self, folder: str) -> None:
        self._running().load(folder)
