"""Read a study that is stored on a cluster: a short job there prints it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.cluster.entrypoint import entrypoint
from tuner.cluster.job_client import KIND, JobServer
from tuner.cluster.submit import own_packages
from tuner.errors import InvalidInput
from tuner.study.load import unpack

_POLL_S = 0.2
_SAYS_WITHIN_S = 300.0


@contextmanager
def fetched(server: JobServer, study: str, folder: str) -> Iterator[Path]:
    """Yield a temporary local folder of studies with a copy of a study on the cluster.

    Args:
        server: the job server of the cluster.
        study: the name of the study.
        folder: the folder of studies on the cluster; empty for the cluster's own.

    Raises:
        InvalidInput: the study does not exist there, or cannot be read.
    """
    with tempfile.TemporaryDirectory() as made:
        said = ask(server, ["send", study], folder)
        unpack(said, study, Path(made))
        yield Path(made)


def ask(server: JobServer, arguments: list[str], folder: str) -> str:
    """Return the output of ``quarterturn ARGUMENTS`` on the cluster's head.

    Raises:
        InvalidInput: the command fails; the message is its last line.
    """
    job_id = server.submit(
        entrypoint(arguments, folder), metadata={KIND: "reading"}, modules=own_packages()
    )
    until = time.monotonic() + _SAYS_WITHIN_S
    while (status := server.status(job_id)) in ("PENDING", "RUNNING"):
        if time.monotonic() > until:
            server.stop(job_id)
            raise InvalidInput(
                f"the cluster must answer within {_SAYS_WITHIN_S:g} s, it has not; "
                "check that its head can start a process, and try again"
            )
        time.sleep(_POLL_S)
    said = server.logs(job_id)
    server.delete(job_id)
    if status != "SUCCEEDED":
        raise InvalidInput(last_words(said))
    return said


def last_words(log: str) -> str:
    """Return the line of a driver's log with the reason for its end."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("quarterturn: ")]
    last = (own or lines or ["it printed nothing"])[-1]
    return last.removeprefix("quarterturn: ")
