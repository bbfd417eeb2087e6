"""A process that has imported everything and becomes Ray's workers, as forks of itself.

Ray starts Python twice for each worker, and a trial then imports torch, pandas and Optuna. That
takes 2 to 3 s of a CPU for each process, and was most of what the tests of the engine cost. A fork
takes 0.1 s. Ray's own start file runs in it, with the arguments, the environment and the output
files that Ray gave.

`python -m tests.fork_server SOCKET` serves requests at a Unix socket until its stdin is closed.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import traceback
from pathlib import Path

import numpy as np
import pandas  # noqa: F401
import ray._private.workers.default_worker  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch._dynamo  # noqa: F401  # the first step of an optimizer imports it
from ray._raylet import Config

import tuner.engine.run
import tuner.rate_finder.find_rate  # noqa: F401
from trainables import DigitsMlp  # noqa: F401


def become_worker(request: dict, output: list[int]) -> None:
    """Run what Ray would have started, in this process, and end with it."""
    os.setpgid(0, 0)  # Ray kills the whole group of a worker that it no longer needs
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for fd, standard in zip(output, (0, 1, 2), strict=True):
        os.dup2(fd, standard)
    os.closerange(3, 64)
    os.environ.clear()
    os.environ.update(request["environment"])
    Config.initialize("")  # Ray reads its settings again from the environment
    os.chdir(request["cwd"])
    start, *arguments = request["arguments"]
    sys.argv = [start, *arguments]
    sys.path[0] = str(Path(start).parent)
    random.seed()
    np.random.seed()
    code = 1
    try:
        runpy.run_path(start, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    # Taking down everything that has been imported would cost 2 s.
    os._exit(code)


def serve(path: str) -> None:
    # Nobody waits for the workers: Ray knows them by their process numbers.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        # Under its name only when it listens: Ray starts workers meanwhile.
        server.bind(f"{path}.begun")
        server.listen(64)
        Path(f"{path}.begun").rename(path)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = server.accept()
            text, output, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            connection.close()
            if os.fork() == 0:
                become_worker(json.loads(text), output)
            for fd in output:
                os.close(fd)


if __name__ == "__main__":
    serve(sys.argv[1])
