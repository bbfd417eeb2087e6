"""The main loop of a worker process: `python -m trainables.distributed.worker_main`.

It has a trial of its own, which does what process 0 asks for. It ends when the pipe to process 0
does, so that no death of that process, however sudden, leaves one behind.
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

from trainables.distributed.data_parallel import DataShard


class WorkerMain:
    """What process 0 may ask of another one, by name; other names are methods of its trial."""

    def __init__(self, share: DataShard, threads: int) -> None:
        self._share = share
        self._threads = threads
        self._class: Any = None
        self.trial: Any = None

    def meet(self, trainable: type, device_type: str, meeting_place: str) -> None:
        """Take up the trainable, and join the group of processes."""
        import torch

        from trainables.distributed.workers import join

        self._class = trainable
        torch.set_num_threads(self._threads)
        on_gpu = device_type == "cuda"
        self._device = (
            torch.device(device_type, self._share.rank) if on_gpu else torch.device("cpu")
        )
        join(meeting_place, self._share, self._device)

    def begin(self, config: dict[str, Any], folder: str, logdir: str) -> None:
        """Make way for a trial, which is built at its first step."""
        os.chdir(folder)
        self.trial = None
        trial = self._class.__new__(self._class)
        # A folder of its own would be one more in the user's home.
        trial._setup_logdir = lambda: setattr(trial, "_logdir", logdir)
        trial._share, trial._place = self._share, self._device
        trial.__init__(config)
        self.trial = trial

    def leave(self) -> None:
        """Leave the group of processes, as the others do, and end."""
        from trainables.distributed.workers import leave

        leave()
        os._exit(0)


def _listen(pipe: Connection, orders: SimpleQueue[tuple[str, Any]], rank: WorkerMain) -> None:
    while True:
        try:
            order, arguments = cloudpickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)  # process 0 is gone, whatever this one is in the middle of
        except BaseException as error:  # a trainable that this process cannot import
            _fail(pipe, error)
        if order == "ended after":
            # Here, since the trial may wait for ever in a step that the others do not take.
            steps = rank.trial._run.shared.steps
            if steps.hear(arguments[0]):
                _fail(pipe, steps.uneven())
        else:
            orders.put((order, arguments))


def _fail(pipe: Connection, error: BaseException) -> None:
    """Tell process 0 why, and end: whatever others wait for here then fails at once."""
    with suppress(OSError):  # process 0 is gone, and nobody is left to tell
        pipe.send_bytes(told(error))
    os._exit(1)


def told(error: BaseException) -> bytes:
    """Return an error as a message, with the time and its traceback."""
    text = "".join(traceback.format_exception(error))
    when = time.monotonic()
    try:
        message: bytes = cloudpickle.dumps(("error", (when, error, text)))
        cloudpickle.loads(message)  # some can be pickled and not read again
    except Exception:  # whatever a user's exception does there
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        message = cloudpickle.dumps(("error", (when, plain, text)))
    return message


def main() -> None:
    """Do what comes over the pipe until it ends: `rank.py PIPE RANK OF THREADS`."""
    file_number, number, of, threads = map(int, sys.argv[1:])
    # Ctrl-C in a terminal reaches every process of it; process 0 decides what becomes of the trial.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Connection(file_number)
    orders: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    rank = WorkerMain(DataShard(number, of), threads)
    threading.Thread(target=_listen, args=(pipe, orders, rank), daemon=True).start()
    while True:
        order, arguments = orders.get()
        try:
            does = getattr(rank, order, None) or getattr(rank.trial, order)
            answer = does(*arguments)
            steps = _steps(rank.trial)
            pipe.send_bytes(cloudpickle.dumps(("answer", (answer, steps))))
        except BaseException as error:  # it is the trial's, whatever it is
            _fail(pipe, error)


def _steps(trial: Any) -> int | None:
    """Return the steps taken of the part, or None before there is one."""
    run = getattr(trial, "_run", None)
    shared = getattr(run, "shared", None)
    return None if shared is None else int(shared.steps.taken)


if __name__ == "__main__":
    main()
