"""Runs in place of Ray's `setup_worker.py`: has the fork server become the worker, or starts it.

Ray's core reads the process of the raylet and the number of the job only once, when it is imported.
The fork server is therefore that of one raylet and one job. A worker of another job starts as Ray
starts it, and so does one in another folder or with another Python.
"""

import json
import os
import runpy
import socket
import sys
from pathlib import Path

CONTEXT = "--serialized-runtime-env-context="
NOT_FOR_WORKERS = (CONTEXT, "--language=")


def forked() -> bool:
    """Return whether the fork server has become the worker."""
    job = f"{os.environ.get('RAY_RAYLET_PID')}-{os.environ.get('RAY_JOB_ID')}"
    context = [each.removeprefix(CONTEXT) for each in sys.argv if each.startswith(CONTEXT)]
    wanted = json.loads(context[0]) if context and context[0] else {}
    variables = wanted.pop("env_vars", None) or {}
    if wanted.pop("py_executable", sys.executable) not in (None, sys.executable):
        return False
    if any(wanted.values()) or "$" in "".join(variables.values()):
        return False
    request = {
        "arguments": [each for each in sys.argv[1:] if not each.startswith(NOT_FOR_WORKERS)],
        "cwd": str(Path.cwd()),
        "environment": {**os.environ, **variables},
    }
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(str(Path(os.environ["QUARTERTURN_TEST_FORKS"], job)))
        except OSError:
            return False  # it has not started yet, or is another job's
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    return True


if not forked():
    import ray._private.workers.setup_worker as setup

    runpy.run_path(setup.__file__, run_name="__main__")
