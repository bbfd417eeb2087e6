"""The shell command that runs `quarterturn` as a job on a cluster's head."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

# A job gets the PATH of the process that started Ray, which may not contain Ray's own Python. The
# command line of Ray's daemon on the node names the Python of its workers.
_PATH_OF_PYTHON = r"""
raylet=$(tr '\0' '\n' < /proc/$PPID/environ | sed -n 's/^RAY_RAYLET_PID=//p')
bin=$(tr '\0 ' '\n\n' < /proc/$raylet/cmdline |
      sed -n 's|^--python_worker_command=\(.*\)/python[0-9.]*$|\1|p' | head -n 1)
PATH="$bin${bin:+:}$PATH"
"""
# The default folder of studies on the cluster: the working directory of a job is temporary.
_FOLDER = 'QUARTERTURN_FOLDER="${QUARTERTURN_FOLDER:-$HOME/studies}"'
ENVIRONMENT = {"FIND_PYTHON": f"{_PATH_OF_PYTHON}{_FOLDER}\n"}
"""The environment of the command. Ray does not print the environment into the log of a job."""


def entrypoint(arguments: Sequence[str], folder: str) -> str:
    """Return the shell command that runs ``quarterturn ARGUMENTS`` with Ray's own Python.

    Args:
        arguments: a command and its options, without the folder of studies.
        folder: the folder of studies; empty for the cluster's own.
    """
    command = shlex.join(["python", "-m", "tuner", *arguments])
    where = shlex.quote(folder) if folder else '"$QUARTERTURN_FOLDER"'
    return f'eval "$FIND_PYTHON" 2>/dev/null; exec {command} --folder={where}'
