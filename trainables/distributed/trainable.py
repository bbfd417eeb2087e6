"""DistributedTrainable: a Ray trainable whose methods can run in several processes at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

import ray
import torch
from ray.tune import Trainable

from trainables.distributed.data_parallel import (
    SINGLE_PROCESS,
    DataShard,
    StepSync,
    check_processes,
)
from trainables.distributed.workers import SingleProcess, WorkerGroup

P = ParamSpec("P")
T = TypeVar("T")


def reserved_gpus(in_actor: bool) -> int:
    """Return how many GPUs a trial has reserved; a fraction of a GPU counts as one.

    Args:
        in_actor: whether the trial runs in a Ray actor. Outside of Ray a trial may use every GPU
            that torch sees.
    """
    if in_actor:
        return len(ray.get_runtime_context().get_accelerator_ids()["GPU"])
    return torch.cuda.device_count()


def trial_device(in_actor: bool) -> torch.device:
    """Return the first GPU that this process may use, or the CPU if there is none.

    A Ray actor that has reserved no GPU may still see the GPUs of its node. It uses the CPU.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if in_actor and not reserved_gpus(in_actor):
        return torch.device("cpu")
    return torch.device("cuda")


class DistributedTrainable(Trainable):
    """Runs one trial in one process or in several; a base class of `RotationTrainable`.

    Ray knows only the process of rank 0. That process decides and reports. Each worker process has
    an instance of the same class, with the same config. The process of rank 0 calls a method of
    all instances with `in_all_processes`.

    Example:
        A subclass that lets two processes do the same::

            self.start_workers(2)
            losses = self.in_all_processes(self.train_some_steps)  # the results, by rank
    """

    shard: DataShard = SINGLE_PROCESS
    """The rank of this process among the trial's processes."""
    step_sync: StepSync | None = None
    """Counts the training steps where several processes must take the same number of steps."""
    _workers: SingleProcess | WorkerGroup = SingleProcess()
    _worker_device: torch.device | None = None

    @property
    def device(self) -> torch.device:
        """The device of the model and of the batches, known before the trial is built."""
        return self._worker_device or trial_device(self._in_actor)

    @property
    def _in_actor(self) -> bool:
        return bool(self.is_actor())  # type: ignore[no-untyped-call]

    # For the process of rank 0.

    def process_count(self, requested: int | None, batch_size: int) -> int:
        """Return how many processes are to train the trial.

        Args:
            requested: the number that the config gives. None means one process for each GPU that
                the Ray trial has reserved, and one process otherwise.
            batch_size: samples of a batch, which the processes share.

        Raises:
            InvalidInput: there are too few GPUs or too few samples in a batch.
        """
        gpus = reserved_gpus(self._in_actor) if self.device.type == "cuda" else None
        count = requested or ((gpus or 1) if self._in_actor else 1)
        check_processes(count, gpus, batch_size)
        return count

    def start_workers(self, count: int) -> None:
        """Start `count - 1` workers and give each an instance of this trial.

        The workers of the previous trial are used again if there are as many.

        Raises:
            InvalidInput: another trial of this process still has its workers.
        """
        if self._workers.closed or self._workers.count != count:
            self.close_workers()
            if count > 1:
                self._workers = WorkerGroup(type(self), count, self.device)
                # Nothing calls `stop` of a trial that was made outside of Ray.
                weakref.finalize(self, self._workers.close)
        self.shard = DataShard(0, count)
        self.step_sync = StepSync() if count > 1 else None
        self._workers.start_trial(self.config, str(Path.cwd()), self.logdir)

    def in_all_processes(
        self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> list[T]:
        """Call a method of this trial here and in every worker, and return the results by rank.

        Raises:
            Exception: the error of the process that failed first. The workers are closed then.
        """
        return self._workers.call(method, args, kwargs)

    def train_in_all_processes(self, method: Callable[[], T]) -> list[T]:
        """Do the same for a method that takes training steps.

        Raises:
            InvalidInput: one process took more steps than another, so that it would wait forever.
        """
        return self._workers.call(method, steps=self.step_sync)

    def close_workers(self) -> None:
        """End the worker processes, if there are any."""
        self._workers.close()
        self._workers = SingleProcess()

    def full_threads(self) -> AbstractContextManager[None]:
        """Return a context in which this process uses the CPU threads of the idle workers too."""
        return self._workers.full_threads()

    # For a worker.

    @classmethod
    def for_worker(
        cls, config: Mapping[str, Any], shard: DataShard, device: torch.device, logdir: str
    ) -> Self:
        """Return the instance of a trial that a worker process holds.

        Args:
            config: the trial's config.
            shard: the worker's rank.
            device: the worker's device.
            logdir: the folder of the process of rank 0. Ray would otherwise make another one in
                the user's home folder.
        """
        trial = cls.__new__(cls)
        # Before `__init__`, which calls the user's `setup`.
        trial._setup_logdir = lambda: setattr(trial, "_logdir", logdir)  # type: ignore[method-assign]
        trial.shard, trial._worker_device, trial.step_sync = shard, device, StepSync()
        trial.__init__(dict(config))  # type: ignore[misc]
        return trial
