"""A job ended early, once it has written down where it is."""

from __future__ import annotations

import time

from tuner.cluster.job import Job
from tuner.cluster.server import JobServer
from tuner.errors import InvalidInput

_POLL_S = 0.3
_ENDS_WITHIN_S = 60.0


def stop(server: JobServer, job: Job) -> Job:
    """End a job and return it as it ended.

    Raises:
        InvalidInput: it has not ended within a minute.
    """
    server.stop(job.id)
    until = time.monotonic() + _ENDS_WITHIN_S
    while not (job := server.job(job.id)).over:
        if time.monotonic() > until:
            raise InvalidInput(
                f"{job.id} must end within {_ENDS_WITHIN_S:g} s of being stopped, it is "
                f"{job.state}; see its log"
            )
        time.sleep(_POLL_S)
    return job
