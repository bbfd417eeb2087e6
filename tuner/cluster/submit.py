"""Submit a tuning job to a cluster: check it here, upload what it imports, start it.

A job file may import a module ``helper.py`` in its own folder, at the top or within a function.
Then this module is uploaded too, and also the modules that it imports. A package is uploaded as a
whole folder. Hidden files, bytecode and all other files of the folder are not uploaded.
"""

from __future__ import annotations

import ast
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna

from tuner.cluster.entrypoint import entrypoint
from tuner.cluster.job_client import Job, JobServer, metadata_of
from tuner.errors import InvalidInput
from tuner.job import TuningJob
from tuner.study.folder import DEFAULT_FOLDER
from tuner.study.search_space import as_function, fingerprint

MAX_MB = 100.0
_OWN = ("tuner", "trainables", "search_spaces")  # these are uploaded as separate packages


def own_packages() -> list[Path]:
    """Return the folders of this project's packages, which every job needs."""
    root = Path(__file__).parents[2]
    return [root / name for name in _OWN]


def files_of(file: Path, include: Iterable[str] = ()) -> list[Path]:
    """Return the files that a job file needs, relative to its folder. The job file is the first.

    Args:
        file: the job file.
        include: more files and folders under its folder, such as data.

    Raises:
        InvalidInput: a file to include does not exist, or is outside the folder.
    """
    folder = file.absolute().parent
    found: dict[Path, None] = {}
    waiting = [folder / file.name]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        if path.suffix == ".py":
            waiting += _imported_by(path, folder)
    for name in include:
        found.update(dict.fromkeys(_included(name, folder)))
    return [path.relative_to(folder) for path in found]


def stage(files: Iterable[Path], folder: Path, into: Path) -> None:
    """Copy files to the folder that is uploaded.

    Args:
        files: paths relative to `folder`.
        folder: the folder with the files.
        into: the folder to copy to.

    Raises:
        InvalidInput: the files together are larger than 100 MB.
    """
    sizes = {file: (folder / file).stat().st_size / 1e6 for file in files}
    total = sum(sizes.values())
    if total > MAX_MB:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        shown = ", ".join(f"{file} ({sizes[file]:.0f} MB)" for file in largest)
        raise InvalidInput(
            f"the files of a job must be at most {MAX_MB:g} MB together, got {total:.0f} MB: "
            f"{shown}, ...; put data on a shared folder and name it with --data"
        )
    for file in sizes:
        copy = into / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, copy)


def _imported_by(path: Path, folder: Path) -> Iterator[Path]:
    """Yield the files in a folder that a module in it imports, also within functions."""
    for name in _first_names(path):
        if name in _OWN:
            continue
        if (module := folder / f"{name}.py").is_file():
            yield module
        elif (package := folder / name).is_dir():
            files = list(_inside(package))
            # A folder of data may have the name of an installed package.
            yield from files if any(file.suffix == ".py" for file in files) else ()


def _first_names(path: Path) -> Iterator[str]:
    """Yield the first part of every absolute name that a module imports."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return  # a package may contain files for another Python, which this job does not import
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _included(name: str, folder: Path) -> list[Path]:
    path = (folder / name).resolve()
    if not path.exists() or not path.is_relative_to(folder.resolve()):
        raise InvalidInput(
            f"--include must name a file or folder beside the job file, got {name!r}; "
            f"put it into {folder}"
        )
    inside = [path] if path.is_file() else list(_inside(path))
    return [folder / file.relative_to(folder.resolve()) for file in inside]


def _inside(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        skipped = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if path.is_file() and not skipped and path.suffix != ".pyc":
            yield path


STORAGE_FILE = "storage.url"
_JOB_FILE = "job.pkl"
_POLL_S = 0.5


@dataclass(frozen=True)
class Source:
    """How the driver on the cluster creates the job.

    Attributes:
        arguments: the arguments of ``quarterturn run``, without the study's folder.
        file: the job file; its imports are uploaded with it. None to upload no file.
        include: more files and folders to upload, under the file's folder.
        storage: the database URL. It is uploaded in a file, so that no process list shows it.
    """

    arguments: Sequence[str]
    file: Path | None = None
    include: Iterable[str] = field(default=())
    storage: str | None = None


def submit(
    job: TuningJob, *, address: str, include: Iterable[str] = (), source: Source | None = None
) -> Job:
    """Submit a job to a Ray cluster. It continues there after this process has ended.

    Args:
        job: the job. Its folder is a folder on the cluster; see `remote_folder`.
        address: the address of the cluster's job server, ``http://HOST:8265``.
        include: files and folders beside the running script to upload, such as data.
        source: how the driver on the cluster creates the job. By default the job is pickled,
            which needs the same version of Python there.

    Raises:
        InvalidInput: the job cannot be run, its files are too large, the cluster does not
            answer, or it is running this study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fingerprint(as_function(job.search_space))  # draws from the space, so it finds mistakes now
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
        server: the job server of the cluster.
        study: the name of the study.
        arguments: options of ``quarterturn resume``.
        folder: the folder of studies on the cluster; by default that of the last submission.

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
    """Start ``quarterturn ARGUMENTS`` on the cluster, as a job of the study.

    Args:
        server: the job server of the cluster.
        arguments: the command and its options, without the folder.
        study: the name of the study.
        folder: the folder of studies on the cluster; empty for the cluster's own.
        working_dir: the local folder to upload; None for nothing.
    """
    numbers = [
        int(job.id.rpartition("@")[2])
        for job in server.jobs()
        if job.study == study and job.id.rpartition("@")[2].isdigit()
    ]
    # Two submissions at the same moment choose the same id. Ray refuses the second.
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
    """Wait until the driver of a job has started its study, or the job has ended; return the job.

    Args:
        server: the job server of the cluster.
        job: the submitted job.
        within_s: the longest wait, in seconds.
    """
    until = time.monotonic() + within_s
    while not job.over and time.monotonic() < until:
        if job.state == "running" and f"study {job.study}:" in server.logs(job.id):
            break
        time.sleep(_POLL_S)
        job = server.job(job.id)
    return job


def folder_of(server: JobServer, study: str) -> str:
    """Return the folder of a study's last submission; empty for the cluster's own folder."""
    return next((job.folder for job in server.jobs() if job.study == study), "")


def remote_folder(folder: Path) -> str:
    """Return the folder of studies on a cluster for a folder of a job.

    The working directory of a job on a cluster is temporary. So a relative folder is under the home
    of the user that runs Ray on the head. The default folder becomes the empty text, which means
    the cluster's own folder.

    Example:
        >>> remote_folder(Path("studies/nightly"))
        '~/studies/nightly'
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
    """Return the user's MLflow server as a variable, if its URL contains no password."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    shown = uri.startswith(("http://", "https://")) and "@" not in uri
    return {"MLFLOW_TRACKING_URI": uri} if shown else {}


def _write_secret(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)
