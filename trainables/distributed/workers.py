"""WorkerGroup: start, address and stop the worker processes of one trial."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ray import cloudpickle

from trainables.distributed.data_parallel import DataShard, StepSync
from tuner.errors import InvalidInput

_MEETS_WITHIN = timedelta(seconds=120)


def join(meeting_place: str, share: DataShard, device: torch.device) -> None:
    """Join the trial's group: NCCL on GPUs, Gloo on CPUs; returns when all have.

    They meet at a file, which no other trial can take from them as it could a port.
    """
    # All are on one machine, which may not know itself by its own name.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    store = dist.FileStore(str(Path(meeting_place)), share.of)  # type: ignore[attr-defined]
    store.set_timeout(_MEETS_WITHIN)
    backend, own = "gloo", None
    if device.type == "cuda":
        backend, own = "nccl", torch.device("cuda", share.rank)
        torch.cuda.set_device(own)
        # Torch would end this process when another fails, and so before it could say why.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    dist.init_process_group(
        backend, store=store, rank=share.rank, world_size=share.of, device_id=own
    )


def leave() -> None:
    """Leave the group, if this process is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def abort() -> None:
    """End what this process waits for in the group, whose other processes are dead.

    Gloo sees their connections close; NCCL waits for them in a kernel on the GPU.
    """
    if dist.is_initialized() and dist.get_backend() == "nccl":
        dist.group.WORLD.abort()  # type: ignore[union-attr]


_EXPLAINS_WITHIN_S = 1.0
"""A process that fails has said why by then; a pipe takes less than a millisecond."""
_LEAVES_WITHIN_S = 5.0


class WorkerGroup:
    """Process 0, which is the caller's own, and others that it starts and gives orders to.

    Each has its share of the caller's threads. An error in one is raised here, after the others
    have been ended; the team is then `over`. `close` ends them too, as does the end of the calling
    process, however it comes.

    Args:
        trainable: the class whose trials they train.
        count: of processes, the caller's among them, >= 2.
        device: of process 0; on GPUs, the others take the next ones.

    Raises:
        InvalidInput: another team of this process is not closed yet.
    """

    def __init__(self, trainable: type, count: int, device: torch.device) -> None:
        if dist.is_initialized():
            raise InvalidInput(
                "a process can train one trial at a time over several, this one has begun with "
                "another; call its stop() first, or leave processes out"
            )
        self.count = count
        self.device = device
        self.over = False
        self._steps: StepSync | None = None
        self._changed = threading.Condition()
        self._answers: dict[int, Any] = {}
        self._error: BaseException | None = None
        self._leaving = False
        self._threads = torch.get_num_threads()
        share = max(1, self._threads // count)
        self._folder = tempfile.mkdtemp(prefix="quarterturn-")
        self._pipes: dict[Connection, int] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for rank in range(1, count):
            self._start(rank, share)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        torch.set_num_threads(share)
        meeting_place = str(Path(self._folder, "meeting"))
        with self.together("meet", trainable, device.type, meeting_place):
            # Not before they are all there: nothing interrupts the wait.
            join(meeting_place, DataShard(0, count), device)

    def _start(self, rank: int, threads: int) -> None:
        mine, its = Pipe()
        with its:
            self._processes[rank] = subprocess.Popen(
                [sys.executable, "-m", "trainables.distributed.worker_main"]
                + [str(number) for number in (its.fileno(), rank, self.count, threads)],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": str(threads),
                    # What can be imported here can be there.
                    "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
                },
            )
        self._pipes[mine] = rank

    @contextmanager
    def together(
        self, order: str, *arguments: Any, steps: StepSync | None = None
    ) -> Iterator[list[Any]]:
        """Have the others do the same while the block runs.

        Their answers, by rank, are in the list that is yielded once the block has ended. `steps`
        are those of this process where the block takes some that the others must take too.

        Raises:
            Exception: the block's own error, or that of another process if it was the cause.
        """
        answers: list[Any] = []
        self._steps = steps
        try:
            self._tell(order, arguments)
            yield answers
            if steps is not None:
                self._tell("ended after", (steps.taken,))
            answers += self._wait_for_answers()
        except BaseException as error:
            cause = self._cause(error)
            self.close(at_once=True)
            if cause is error:
                raise
            raise cause from cause.__cause__

    @contextmanager
    def full_threads(self) -> Iterator[None]:
        """Let this process have the threads of all while the others wait for orders."""
        share = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(share)

    def _tell(self, order: str, arguments: tuple[Any, ...]) -> None:
        message = cloudpickle.dumps((order, arguments))
        for pipe in self._pipes:
            try:
                pipe.send_bytes(message)
            except OSError:  # it has ended; the listener finds out why
                return

    def _wait_for_answers(self) -> list[Any]:
        with self._changed:
            self._changed.wait_for(lambda: self._error or len(self._answers) == self.count - 1)
            if self._error:
                raise self._error
            answers = [self._answers[rank] for rank in sorted(self._answers)]
            self._answers.clear()
        return answers

    def _cause(self, error: BaseException) -> BaseException:
        """Return the error of another process if it is why this one has failed, or this one's."""
        # Torch has no type of its own for a peer that is gone. Interrupts, mistakes in the config
        # and errors of the user's own types are this process's.
        if not isinstance(error, RuntimeError):
            return error
        with self._changed:
            self._changed.wait_for(lambda: self._error, timeout=_EXPLAINS_WITHIN_S)
            return self._error or error

    def _listen(self) -> None:
        """Take what the others send until all have ended, in a thread of its own."""
        silent: list[int] = []
        errors: list[tuple[float, BaseException, str]] = []
        pipes = dict(self._pipes)
        until: float | None = None
        while pipes and (until is None or time.monotonic() < until):
            for pipe in wait(list(pipes), None if until is None else until - time.monotonic()):
                assert isinstance(pipe, Connection)
                try:
                    kind, told = cloudpickle.loads(pipe.recv_bytes())
                except (EOFError, OSError):
                    rank = pipes.pop(pipe)
                    if not self._leaving and self._processes[rank].wait() != 1:
                        silent.append(rank)
                    continue
                if kind == "error":
                    errors.append(told)
                else:
                    answer, taken = told
                    self._take(pipes[pipe], answer, taken, errors)
            if until is None and (silent or errors):
                # One that fails takes others with it: the first is the cause.
                until = time.monotonic() + _EXPLAINS_WITHIN_S / 2
        if silent or errors:
            self._fail(silent, errors)

    def _take(
        self, rank: int, answer: Any, taken: int | None, errors: list[tuple[float, Any, str]]
    ) -> None:
        steps = self._steps
        if steps is not None and taken is not None and steps.hear(taken):
            errors.append((time.monotonic(), steps.uneven(), ""))
        with self._changed:
            self._answers[rank] = answer
            self._changed.notify_all()

    def _fail(self, silent: list[int], errors: list[tuple[float, BaseException, str]]) -> None:
        error: BaseException
        if silent:
            code = self._processes[silent[0]].returncode
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            error = RuntimeError(
                f"process {silent[0]} of the trial's {self.count} has died of {how}"
            )
        else:
            _, error, text = min(errors, key=lambda told: told[0])
            if text:
                error.__cause__ = RuntimeError(f"in another process of the trial:\n{text}")
        with self._changed:
            self._error = error
            self._changed.notify_all()
        for process in self._processes.values():
            process.kill()
        abort()

    def close(self, at_once: bool = False) -> None:
        """End the other processes, and give this one its threads back; again has no effect.

        `at_once` is for those that may be in the middle of something.
        """
        if self.over:
            return
        self.over = self._leaving = True
        if at_once or self._error is not None:
            for process in self._processes.values():
                process.kill()
            abort()
        else:
            self._tell("leave", ())
        leave()
        for process in self._processes.values():
            try:
                process.wait(_LEAVES_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # It ends with the last of them; it may itself be what collects a forgotten trial.
        if threading.current_thread() is not self._listener:
            self._listener.join()
        for pipe in self._pipes:
            pipe.close()
        torch.set_num_threads(self._threads)
        shutil.rmtree(self._folder, ignore_errors=True)
