"""Follow the output of a job on a cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tuner.cluster.job_client import Job, JobServer
from tuner.errors import InvalidInput

_RECONNECTS_AFTER_S = 2.0
# Long enough for a laptop that wakes up, or a head that restarts.
_GIVES_UP_AFTER_S = 120.0


def follow(server: JobServer, job_id: str, write: Callable[[str], object]) -> Job:
    """Write the whole output of a job until the job has ended; return the ended job.

    A broken connection is opened again. No text is written twice.

    Args:
        server: the job server of the cluster.
        job_id: the id of the job.
        write: called with each piece of the text.

    Raises:
        InvalidInput: the cluster has not answered for two minutes.
    """
    written = 0
    answered = time.monotonic()

    async def tail() -> None:
        nonlocal written, answered
        seen = 0
        async for text in server.tail(job_id):
            answered = time.monotonic()
            new = text[max(0, written - seen) :]
            seen += len(text)
            if new:
                write(new)
                written = seen

    while True:
        try:
            asyncio.run(tail())
            job = server.job(job_id)
            if job.over:
                return job
            answered = time.monotonic()
        except (ConnectionError, InvalidInput) as error:
            if time.monotonic() - answered > _GIVES_UP_AFTER_S:
                raise InvalidInput(
                    f"{server.address} must answer to be followed, it has not for "
                    f"{_GIVES_UP_AFTER_S:g} s; the job may still run, to follow it again: "
                    f"quarterturn logs -f {job_id}"
                ) from error
        time.sleep(_RECONNECTS_AFTER_S)
