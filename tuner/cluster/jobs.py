"""List the jobs on a cluster, and stop one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.cluster.job_client import Job, JobServer
from tuner.cluster.remote_read import last_words
from tuner.errors import InvalidInput

_POLL_S = 0.3
_ENDS_WITHIN_S = 60.0


def stop(server: JobServer, job: Job) -> Job:
    """Stop a job and return the ended job.

    Raises:
        InvalidInput: the job has not ended after a minute.
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


_OWN = "the folder of studies"
_PROGRESS = re.compile(r"\d+/\d+ trial")


def print_status(job: Job, log: str, console: Console) -> None:
    """Print the state and the duration of a job, and its last ended trial."""
    grid = Table.grid(padding=(0, 2))
    since = _spent(job)
    rows = {
        "job": job.id,
        "study": f"{job.study}, in {job.folder or _OWN} on the cluster",
        "state": f"{job.state}, {since}" if since else job.state,
        "last": last_progress(log),
    }
    if job.state == "failed":
        rows["why"] = last_words(log)
    for name, value in rows.items():
        if value:
            grid.add_row(Text(name, style="dim"), Text(value))
    console.print(grid)


def print_jobs(jobs: Iterable[Job], console: Console) -> None:
    """Print a table of jobs."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("job", "study", "state", "started", "for", "folder"):
        table.add_column(column, overflow="fold")
    for job in jobs:
        started = f"{job.started.astimezone():%Y-%m-%d %H:%M}" if job.started else "-"
        cells = (
            job.id,
            job.study,
            job.state,
            started,
            _spent(job).removeprefix("for "),
            job.folder,
        )
        table.add_row(*map(Text, cells))
    if table.row_count:
        console.print(table)
    else:
        console.print("no tuning jobs yet")


def last_progress(log: str) -> str:
    """Return the last line of progress in a log, without the reason; empty if there is none."""
    lines = [line for line in log.splitlines() if _PROGRESS.match(line)]
    return lines[-1].partition(": ")[0] if lines else ""


def _spent(job: Job) -> str:
    if job.started is None:
        return ""
    spent = (job.ended or datetime.now(UTC)) - job.started
    return f"for {timedelta(seconds=round(max(spent.total_seconds(), 0)))}"
