"""The shell command that runs `quarterturn` as a job on a cluster's head."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

# A job finds its programs on the PATH that Ray was started with, where Ray's own Python need not
# be. Ray's daemon on the node says in its command line with which Python it starts workers.
_PATH_OF_PYTHON = r"""
raylet=$(tr '\0' '\n' < /proc/$PPID/environ | sed -n 's/^RAY_RAYLET_PID=//p')
bin=$(tr '\0 ' '\n\n' < /proc/$raylet/cmdline |
      sed -n 's|^--python_worker_command=\(.*\)/python[0-9.]*$|\1|p' | head -n 1)
PATH="$bin${bin:+:}$PATH"
"""
# Where the cluster keeps studies unless told otherwise: a job starts in a folder that is not kept.
_FOLDER = 'QUARTERTURN_FOLDER="${QUARTERTURN_FOLDER:-$HOME/studies}"'
ENVIRONMENT = {"FIND_PYTHON": f"{_PATH_OF_PYTHON}{_FOLDER}\n"}
"""What the command needs in its environment; there, Ray does not print it into every log."""


def entrypoint(arguments: Sequence[str], folder: str) -> str:
    """Return the command that runs ``quarterturn ARGUMENTS`` with the Python that Ray runs with.

    Args:
        arguments: a command and its options, less where studies are kept.
        folder: that; the cluster's own when empty.
    """
    command = shlex.join(["python", "-m", "tuner", *arguments])
    where = shlex.quote(folder) if folder else '"$QUARTERTURN_FOLDER"'
    return f'eval "$FIND_PYTHON" 2>/dev/null; exec {command} --folder={where}'
