"""The command, in forks of a process that has imported it already: each starts at once.

Starting it afresh takes 3 s, most of it for Ray and torch. Every line on stdin is a request
`{"cwd": ..., "arguments": [...], "environment": {...}, "out": FILE, "err": FILE}`, whose
environment is added to this process's; the answers are the number of its process, and then its
exit code. A request with
`"terminal": FILE` has that terminal in place of the files, and is its foreground job.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import termios
import traceback
from pathlib import Path

import altair  # noqa: F401
import jinja2  # noqa: F401
import pandas  # noqa: F401
import PIL.Image  # noqa: F401
import ray.job_submission  # noqa: F401
import rich.progress  # noqa: F401
from optuna.storages import RDBStorage

import tuner.api
import tuner.cli
import tuner.cluster
import tuner.engine.run
import tuner.jobfile
import tuner.rate_finder.find_rate
import tuner.report
import tuner.report.charts
from trainables import TRAINABLES, find

RDBStorage("sqlite://")  # imports what it needs
for name in TRAINABLES:
    find(name)


def run(request: dict) -> None:
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    if "terminal" in request:
        os.setsid()
        terminal = os.open(request["terminal"], os.O_RDWR)
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(terminal, fd)
        os.close(terminal)
        sys.stdout.reconfigure(line_buffering=True)
    else:
        for name, mode, fd in (
            (os.devnull, "r", 0),
            (request["out"], "w", 1),
            (request["err"], "w", 2),
        ):
            with Path(name).open(mode) as file:
                os.dup2(file.fileno(), fd)
    sys.argv = ["quarterturn", *request["arguments"]]
    code = 1
    try:
        tuner.cli.main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking down everything that has been imported would cost 2 s.
    os._exit(code)


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(json.loads(line))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
