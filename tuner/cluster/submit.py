"""A tuning job sent to a cluster: checked here, uploaded with what it needs, and started."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna

from tuner.cluster.entrypoint import entrypoint
from tuner.cluster.job import Job, metadata_of
from tuner.cluster.package import files_of, own_packages, stage
from tuner.cluster.server import JobServer
from tuner.errors import InvalidInput
from tuner.job import TuningJob
from tuner.study.catalog import DEFAULT_FOLDER
from tuner.study.space import as_function, fingerprint

STORAGE_FILE = "storage.url"
_JOB_FILE = "job.pkl"
_POLL_S = 0.5


@dataclass(frozen=True)
class Source:
    """How the driver on the cluster comes by the job.

    Attributes:
        arguments: of ``quarterturn run``, less the study's folder.
        file: the file beside which lies what goes with it; None for nothing.
        include: what else goes with it, under the file's folder.
        storage: the database URL to hand over in a file, where no process list shows it.
    """

    arguments: Sequence[str]
    file: Path | None = None
    include: Iterable[str] = field(default=())
    storage: str | None = None


def submit(
    job: TuningJob, *, address: str, include: Iterable[str] = (), source: Source | None = None
) -> Job:
    """Send a job to a Ray cluster, where it runs on when this process has ended.

    Args:
        job: what to run. Its folder is one on the cluster; see `remote_folder`.
        address: of the cluster's job server, ``http://HOST:8265``.
        include: files and folders beside the running script to send with it, such as data.
        source: how the job is made anew on the cluster; pickled when left out, which needs the
            same version of Python there.

    Raises:
        InvalidInput: the job cannot be run, what it needs is too large, the cluster does not
            answer, or it is running this study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fingerprint(as_function(job.search_space))  # draws from it: a mistake there is found here
    server = JobServer(address)
    folder = remote_folder(job.folder)
    _refuse_while_running(server, job.name, folder)
    if source is None:
        script = getattr(sys.modules["__main__"], "__file__", None)
        source = Source([_JOB_FILE], Path(script) if script else None, include)
        pickled = job
    else:
        pickled = None
    with tempfile.TemporaryDirectory() as made:
        staged = Path(made)
        if source.file:
            files = files_of(source.file, source.include)
            stage(files, source.file.absolute().parent, staged)
        arguments = [
            *source.arguments,
            f"--folder={folder}",
            *(["--code=."] if source.file else []),
        ]
        if source.storage:
            _write_secret(staged / STORAGE_FILE, source.storage.encode())
            arguments.append(f"--storage=@{STORAGE_FILE}")
        if pickled:
            from tuner.jobfile import pickle_job

            _write_secret(staged / _JOB_FILE, pickle_job(pickled))
        return start(
            server,
            ["run", *arguments],
            study=job.name,
            folder=folder,
            working_dir=staged if any(staged.iterdir()) else None,
        )


def resume(
    server: JobServer, study: str, arguments: Sequence[str] = (), *, folder: str | None = None
) -> Job:
    """Continue a study on the cluster that it was submitted to.

    Args:
        server: of the cluster.
        study: its name.
        arguments: options of ``quarterturn resume``.
        folder: where it is kept there; where it was last submitted to when left out.

    Raises:
        InvalidInput: the cluster is running the study.
    """
    folder = folder_of(server, study) if folder is None else folder
    _refuse_while_running(server, study, folder)
    return start(server, ["resume", study, *arguments], study=study, folder=folder)


def start(
    server: JobServer,
    arguments: Sequence[str],
    *,
    study: str,
    folder: str,
    working_dir: Path | None = None,
) -> Job:
    """Start ``quarterturn ARGUMENTS`` on the cluster, as a job of the study."""
    numbers = [
        int(job.id.rpartition("@")[2])
        for job in server.jobs()
        if job.study == study and job.id.rpartition("@")[2].isdigit()
    ]
    # Two who submit at the same moment choose the same id, and Ray refuses the second.
    job_id = server.submit(
        entrypoint(arguments, folder),
        job_id=f"{study}@{max(numbers, default=0) + 1}",
        metadata=metadata_of(study, folder),
        modules=own_packages(),
        working_dir=working_dir,
        environment=_mlflow_server(),
    )
    return server.job(job_id)


def wait_for_start(server: JobServer, job: Job, within_s: float) -> Job:
    """Return a job as it stands once its driver has said something, or it has ended.

    Args:
        server: of the cluster.
        job: as it was when it was submitted.
        within_s: wait no longer than this, in seconds.
    """
    until = time.monotonic() + within_s
    while not job.over and time.monotonic() < until:
        if job.state == "running" and f"study {job.study}:" in server.logs(job.id):
            break
        time.sleep(_POLL_S)
        job = server.job(job.id)
    return job


def folder_of(server: JobServer, study: str) -> str:
    """Return where the cluster keeps a study: where it was last submitted to, or its own folder."""
    return next((job.folder for job in server.jobs() if job.study == study), "")


def remote_folder(folder: Path) -> str:
    """Return a folder of studies as one on a cluster: jobs there start in one that is not kept.

    A relative one is under the home of the user who runs Ray on the head; the default is the
    cluster's own, which is empty.
    """
    if folder == Path(DEFAULT_FOLDER):
        return ""
    path = folder if folder.is_absolute() or folder.parts[:1] == ("~",) else Path("~") / folder
    return path.as_posix()


def _refuse_while_running(server: JobServer, study: str, folder: str) -> None:
    for job in server.jobs():
        if job.study == study and job.folder == folder and not job.over:
            raise InvalidInput(
                f"one job at a time may run a study, {study!r} is being run by {job.id}; "
                f"wait for it, `quarterturn stop {job.id}`, or choose another --name"
            )


def _mlflow_server() -> dict[str, str]:
    """Return where the user logs to with MLflow, if that is a server and no password is in it."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    shown = uri.startswith(("http://", "https://")) and "@" not in uri
    return {"MLFLOW_TRACKING_URI": uri} if shown else {}


def _write_secret(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)
