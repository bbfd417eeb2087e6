"""A tuning job on a cluster, as data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

KIND, STUDY, FOLDER = "quarterturn", "study", "folder"  # metadata of a submitted job
TUNING = "tuning"  # the kind of a job that runs a study; others read one, or check the cluster

State = Literal["pending", "running", "stopped", "succeeded", "failed"]


@dataclass(frozen=True)
class Job:
    """One submission of a study.

    Attributes:
        id: the study's name and a number, such as ``fashion@2``.
        study: that it runs; folder: where studies are kept on the cluster; empty for its own.
        exit_code: of its driver, once it has ended by itself.
        message: what Ray says of its state.
    """

    id: str
    study: str
    folder: str
    state: State
    started: datetime | None
    ended: datetime | None
    exit_code: int | None
    message: str

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in ("stopped", "succeeded", "failed")


def metadata_of(study: str, folder: str) -> dict[str, str]:
    """Return what is kept with a submission, for `read_job`."""
    return {KIND: TUNING, STUDY: study, FOLDER: folder}


def read_job(details: Any) -> Job | None:
    """Return a tuning job from Ray's `JobDetails`; None for a job that is something else."""
    kept = details.metadata or {}
    if kept.get(KIND) != TUNING:
        return None
    state: State = details.status.value.lower()
    return Job(
        id=details.submission_id,
        study=kept[STUDY],
        folder=kept[FOLDER],
        state=state,
        started=_time(details.start_time),
        ended=_time(details.end_time),
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
