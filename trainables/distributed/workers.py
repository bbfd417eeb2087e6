"""WorkerGroup: start the worker processes of a trial, call methods in them and end them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from ray import cloudpickle

from trainables.distributed.data_parallel import DataShard, StepSync
from trainables.distributed.worker_main import STEP_LIMIT
from tuner.errors import InvalidInput

T = TypeVar("T")

_RENDEZVOUS_TIMEOUT = timedelta(seconds=120)
_ERROR_TIMEOUT_S = 1.0
"""A process that fails has sent its error by then; a pipe takes less than a millisecond."""
_EXIT_TIMEOUT_S = 5.0


def join_process_group(rendezvous_file: str, shard: DataShard, device: torch.device) -> None:
    """Join the trial's process group and return when every process has joined.

    The backend is NCCL on GPUs and Gloo on CPUs. The rendezvous is a file: another trial could
    take a port, and cannot take the file.
    """
    # All processes are on one machine, which may be unable to resolve its own host name.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    store = dist.FileStore(str(Path(rendezvous_file)), shard.world_size)  # type: ignore[attr-defined]
    store.set_timeout(_RENDEZVOUS_TIMEOUT)
    backend, own_device = "gloo", None
    if device.type == "cuda":
        backend, own_device = "nccl", torch.device("cuda", shard.rank)
        torch.cuda.set_device(own_device)
        # Otherwise torch ends this process when another fails, before it can send its error.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    dist.init_process_group(
        backend,
        store=store,
        rank=shard.rank,
        world_size=shard.world_size,
        device_id=own_device,
    )


def leave_process_group() -> None:
    """Leave the process group if this process is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def abort_process_group() -> None:
    """Interrupt the waits of this process in a group whose other processes have ended.

    Gloo sees their connections close. NCCL would wait for them in a kernel on the GPU.
    """
    if dist.is_initialized() and dist.get_backend() == "nccl":
        dist.group.WORLD.abort()  # type: ignore[union-attr]


class SingleProcess:
    """Has the interface of `WorkerGroup` for a trial that has no workers."""

    count = 1
    closed = False

    def start_trial(self, config: Mapping[str, Any], folder: str, logdir: str) -> None:
        """Do nothing: there is no worker."""

    def call(
        self,
        method: Callable[..., T],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        steps: StepSync | None = None,
    ) -> list[T]:
        """Call the method here and return its result as the only one."""
        return [method(*args, **(kwargs or {}))]

    def full_threads(self) -> AbstractContextManager[None]:
        """Return a context without effect: this process has all threads anyway."""
        return nullcontext()

    def close(self) -> None:
        """Do nothing: there is no worker."""


class WorkerGroup:
    """The workers of a process; the process itself has rank 0 of the group.

    Each process gets an equal share of the caller's CPU threads. An error in any process ends all
    workers, and `call` raises it; the group is `closed` then. The workers also end when the
    calling process ends, even if it is killed.

    Args:
        trainable: the class of the trials, a `DistributedTrainable`.
        count: processes in the group, including the caller, >= 2.
        device: device of the caller. On GPUs the workers take the following ones.

    Raises:
        InvalidInput: this process has another group that is not closed.
    """

    def __init__(self, trainable: type, count: int, device: torch.device) -> None:
        if dist.is_initialized():
            raise InvalidInput(
                "a process can train only one trial on several processes at a time, got a second "
                "trial; call stop() of the first, or leave processes out"
            )
        self.count = count
        self.closed = False
        self._steps: StepSync | None = None
        self._changed = threading.Condition()
        self._results: dict[int, Any] = {}
        self._error: BaseException | None = None
        self._closing = False
        self._threads = torch.get_num_threads()
        threads_each = max(1, self._threads // count)
        self._folder = tempfile.mkdtemp(prefix="quarterturn-")
        self._pipes: dict[Connection, int] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for rank in range(1, count):
            self._start(rank, threads_each)
        self._receiver = threading.Thread(target=self._receive, daemon=True)
        self._receiver.start()
        torch.set_num_threads(threads_each)
        rendezvous_file = str(Path(self._folder, "rendezvous"))
        self._run(
            ("join", (trainable, device.type, rendezvous_file)),
            lambda: join_process_group(rendezvous_file, DataShard(0, count), device),
        )

    def _start(self, rank: int, threads: int) -> None:
        own_end, worker_end = Pipe()
        with worker_end:
            self._processes[rank] = subprocess.Popen(
                [sys.executable, "-m", "trainables.distributed.worker_main"]
                + [str(number) for number in (worker_end.fileno(), rank, self.count, threads)],
                pass_fds=[worker_end.fileno()],
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": str(threads),
                    # The worker can import what this process can.
                    "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
                },
            )
        self._pipes[own_end] = rank

    def start_trial(self, config: Mapping[str, Any], folder: str, logdir: str) -> None:
        """Give each worker a new instance of the class, with this config.

        Args:
            config: the trial's config.
            folder: the working directory.
            logdir: the trial's log folder.
        """
        self._run(("start_trial", (config, folder, logdir)), lambda: None)

    def call(
        self,
        method: Callable[..., T],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        steps: StepSync | None = None,
    ) -> list[T]:
        """Call a method of the trial here and in every worker, all at the same time.

        Args:
            method: a bound method of this process's trial. The workers call the method of the same
                name of their trials.
            args: its positional arguments.
            kwargs: its keyword arguments.
            steps: the step counter of this process, if the method takes steps in which the
                processes wait for each other.

        Returns:
            The results, in the order of the ranks.

        Raises:
            Exception: the error of the process that failed first.
        """
        kwargs = dict(kwargs or {})
        return self._run(
            ("call", (method.__name__, args, kwargs)), lambda: method(*args, **kwargs), steps
        )

    def _run(
        self,
        command: tuple[str, tuple[Any, ...]],
        here: Callable[[], T],
        steps: StepSync | None = None,
    ) -> list[T]:
        """Send a command to the workers, call `here`, and return all results by rank."""
        self._steps = steps
        try:
            self._send(command)
            result = here()
            if steps is not None:
                self._send((STEP_LIMIT, (steps.count,)))
            return [result, *self._wait_for_results()]
        except BaseException as error:
            cause = self._first_error(error)
            self.close(kill=True)
            if cause is error:
                raise
            raise cause from cause.__cause__

    @contextmanager
    def full_threads(self) -> Iterator[None]:
        """Let this process use the CPU threads of all processes, while the workers are idle."""
        threads_each = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads_each)

    def _send(self, command: tuple[str, tuple[Any, ...]]) -> None:
        message = cloudpickle.dumps(command)
        for pipe in self._pipes:
            try:
                pipe.send_bytes(message)
            except OSError:  # The worker has ended; the receiver thread finds the reason.
                return

    def _wait_for_results(self) -> list[Any]:
        with self._changed:
            self._changed.wait_for(lambda: self._error or len(self._results) == self.count - 1)
            if self._error:
                raise self._error
            results = [self._results[rank] for rank in sorted(self._results)]
            self._results.clear()
        return results

    def _first_error(self, error: BaseException) -> BaseException:
        """Return the error of a worker if that caused `error`; else `error`."""
        # Torch raises a RuntimeError when another process has ended. Interrupts, mistakes in the
        # config and errors of the user's own types belong to this process.
        if not isinstance(error, RuntimeError):
            return error
        with self._changed:
            self._changed.wait_for(lambda: self._error, timeout=_ERROR_TIMEOUT_S)
            return self._error or error

    def _receive(self) -> None:
        """Receive the messages of the workers until all have ended; runs in its own thread."""
        dead: list[int] = []
        errors: list[tuple[float, BaseException, str]] = []
        pipes = dict(self._pipes)
        deadline: float | None = None
        while pipes and (deadline is None or time.monotonic() < deadline):
            for pipe in wait(
                list(pipes), None if deadline is None else deadline - time.monotonic()
            ):
                assert isinstance(pipe, Connection)
                try:
                    kind, content = cloudpickle.loads(pipe.recv_bytes())
                except (EOFError, OSError):
                    rank = pipes.pop(pipe)
                    if not self._closing and self._processes[rank].wait() != 1:
                        dead.append(rank)
                    continue
                if kind == "error":
                    errors.append(content)
                elif (uneven := self._take_result(pipes[pipe], *content)) is not None:
                    errors.append((time.monotonic(), uneven, ""))
            if deadline is None and (dead or errors):
                # One failure makes other processes fail: the earliest error is the cause.
                deadline = time.monotonic() + _ERROR_TIMEOUT_S / 2
        if dead or errors:
            self._fail(dead, errors)

    def _take_result(self, rank: int, result: Any, step_count: int) -> InvalidInput | None:
        """Keep a worker's result; return an error if this process takes more steps than it did."""
        steps = self._steps
        uneven = steps.error() if steps is not None and steps.set_limit(step_count) else None
        with self._changed:
            self._results[rank] = result
            self._changed.notify_all()
        return uneven

    def _fail(self, dead: list[int], errors: list[tuple[float, BaseException, str]]) -> None:
        error: BaseException
        if dead:
            code = self._processes[dead[0]].returncode
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            error = RuntimeError(f"process {dead[0]} of the trial's {self.count} has died of {how}")
        else:
            _, error, text = min(errors, key=lambda found: found[0])
            if text:
                error.__cause__ = RuntimeError(f"in another process of the trial:\n{text}")
        with self._changed:
            self._error = error
            self._changed.notify_all()
        for process in self._processes.values():
            process.kill()
        abort_process_group()

    def close(self, kill: bool = False) -> None:
        """End the workers and give this process its CPU threads back.

        A second call has no effect.

        Args:
            kill: end workers that may be busy, without waiting for them.
        """
        if self.closed:
            return
        self.closed = self._closing = True
        if kill or self._error is not None:
            for process in self._processes.values():
                process.kill()
            abort_process_group()
        else:
            self._send(("shutdown", ()))
        leave_process_group()
        for process in self._processes.values():
            try:
                process.wait(_EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # The thread ends with the last worker. Garbage collection of a trial may run in it.
        if threading.current_thread() is not self._receiver:
            self._receiver.join()
        for pipe in self._pipes:
            pipe.close()
        torch.set_num_threads(self._threads)
        shutil.rmtree(self._folder, ignore_errors=True)
