"""Runs in place of Ray's `setup_worker.py`: has the fork server become the worker, or starts it.

Ray's core reads the process of the raylet and the number of the job only once, when it is imported.
The fork server is therefore that of one raylet and one job; a worker of another is started as ever.
"""

import json
import os
import runpy
import socket
import sys
from pathlib import Path

job = f"{os.environ.get('RAY_RAYLET_PID')}-{os.environ.get('RAY_JOB_ID')}"
path = Path(os.environ.get("QUARTERTURN_TEST_FORKS", ""), job)


def fork() -> bool:
    """Return whether the fork server has become the worker."""
    arguments = [each for each in sys.argv[1:] if not each.startswith(("--language", "--seria"))]
    request = {"arguments": arguments, "cwd": str(Path.cwd()), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(str(path))
        except OSError:
            return False  # it has not started yet
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    return True


if not fork():
    import ray._private.workers.setup_worker as setup

    runpy.run_path(setup.__file__, run_name="__main__")
