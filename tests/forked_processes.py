"""Processes that several tests have work together: forks of one that has imported what they need.

A process that starts afresh imports torch and Ray for 3 to 4 s of a CPU. A fork takes 0.1 s.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection

FORKING = "forkserver"
"""The start method, for `torch.multiprocessing.start_processes`."""

FORKS = multiprocessing.get_context(FORKING)
FORKS.set_forkserver_preload(
    [
        "psutil",
        "ray.tune",
        "torch._dynamo",  # the first step of an optimizer imports it
        "torch.distributed.device_mesh",
        "torch.distributed.fsdp",
        "torch.distributed.tensor.parallel",
        "torch.utils.data",
        "trainables.base",
        "trainables.distributed.worker_main",
        "trainables.distributed.workers",
        "trainables.training.loop",
        "trainables.training.optimizers",
    ]
)


class ForkedWorker:
    """Takes the place of the `subprocess.Popen` that starts a process of a trial."""

    def __init__(
        self,
        command: Sequence[str],
        pass_fds: Sequence[int],
        stdin: int,
        env: Mapping[str, str],
    ) -> None:
        _, _, module, pipe, *arguments = command
        assert (module, [int(pipe)]) == ("trainables.distributed.worker_main", [*pass_fds])
        self._process = FORKS.Process(
            target=_work, args=(Connection(os.dup(int(pipe))), arguments, dict(env)), daemon=True
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("worker", timeout)
        return self.returncode

    def kill(self) -> None:
        self._process.kill()


def _work(pipe: Connection, arguments: Sequence[str], env: Mapping[str, str]) -> None:
    """Be what `python -m trainables.distributed.worker_main` is."""
    from trainables.distributed import worker_main

    os.environ.clear()
    os.environ.update(env)
    sys.path[:] = env["PYTHONPATH"].split(os.pathsep)
    sys.argv = ["worker_main", str(pipe.fileno()), *arguments]
    worker_main.main()


def forked() -> int | None:
    """Return the process that the forks come of, if one has been started."""
    return forkserver._forkserver._forkserver_pid
