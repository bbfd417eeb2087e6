"""The main loop of a worker process: `python -m trainables.distributed.worker_main`.

The worker holds an instance of the trial and runs the commands of the process of rank 0. It ends
when the pipe to that process closes. So no worker outlives a process that was killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from ray import cloudpickle

from trainables.distributed.data_parallel import DataShard, StepSync

STEP_LIMIT = "step limit"
"""The one command that a worker obeys at once; the others are methods of `WorkerMain`."""


class WorkerMain:
    """The commands that the process of rank 0 may send to a worker, by name."""

    def __init__(self, shard: DataShard, threads: int) -> None:
        self._shard = shard
        self._threads = threads
        self._trainable: Any = None
        self.trial: Any = None

    @property
    def steps(self) -> StepSync | None:
        """The counter of the trial's steps."""
        return getattr(self.trial, "step_sync", None)

    def join(self, trainable: type, device_type: str, rendezvous_file: str) -> None:
        """Remember the class of the trials and join the process group."""
        import torch

        from trainables.distributed.workers import join_process_group

        self._trainable = trainable
        torch.set_num_threads(self._threads)
        on_gpu = device_type == "cuda"
        self._device = torch.device("cuda", self._shard.rank) if on_gpu else torch.device("cpu")
        join_process_group(rendezvous_file, self._shard, self._device)

    def start_trial(self, config: dict[str, Any], folder: str, logdir: str) -> None:
        """Replace the trial by a new one, which builds its model later."""
        os.chdir(folder)
        self.trial = None
        self.trial = self._trainable.for_worker(config, self._shard, self._device, logdir)

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method of the trial and return its result."""
        return getattr(self.trial, method)(*args, **kwargs)

    def shutdown(self) -> None:
        """Leave the process group and end the process."""
        from trainables.distributed.workers import leave_process_group

        leave_process_group()
        os._exit(0)


def _receive(pipe: Connection, commands: SimpleQueue[tuple[str, Any]], worker: WorkerMain) -> None:
    """Put each command into the queue; runs in a thread of its own."""
    while True:
        try:
            command, arguments = cloudpickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)  # The process of rank 0 has ended, whatever this one is doing.
        except BaseException as error:  # a trainable that this process cannot import
            _fail(pipe, error)
        if command == STEP_LIMIT:
            # The main thread may be waiting forever in a step that the others do not take.
            if worker.steps is not None and worker.steps.set_limit(*arguments):
                _fail(pipe, worker.steps.error())
        else:
            commands.put((command, arguments))


def _fail(pipe: Connection, error: BaseException) -> None:
    """Send the error to the process of rank 0 and end, so that all waiting processes fail."""
    with suppress(OSError):  # the process of rank 0 has ended
        pipe.send_bytes(error_message(error))
    os._exit(1)


def error_message(error: BaseException) -> bytes:
    """Return an error as a message: its time, the error itself and its traceback."""
    text = "".join(traceback.format_exception(error))
    when = time.monotonic()
    try:
        message: bytes = cloudpickle.dumps(("error", (when, error, text)))
        cloudpickle.loads(message)  # some errors can be pickled and not unpickled
    except Exception:  # a user's exception class may raise anything there
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        message = cloudpickle.dumps(("error", (when, plain, text)))
    return message


def main() -> None:
    """Run commands until the pipe closes: `worker_main.py PIPE RANK WORLD_SIZE THREADS`."""
    file_number, rank, world_size, threads = map(int, sys.argv[1:])
    # Ctrl-C in a terminal reaches every process. The process of rank 0 decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Connection(file_number)
    commands: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    worker = WorkerMain(DataShard(rank, world_size), threads)
    threading.Thread(target=_receive, args=(pipe, commands, worker), daemon=True).start()
    while True:
        command, arguments = commands.get()
        try:
            result = getattr(worker, command)(*arguments)
            steps = worker.steps.count if worker.steps is not None else 0
            pipe.send_bytes(cloudpickle.dumps(("result", (result, steps))))
        except BaseException as error:  # whatever the trial raises
            _fail(pipe, error)


if __name__ == "__main__":
    main()
