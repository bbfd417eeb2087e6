"""StudyFolder: the folder of a study and its files.

studies/fashion/study.log     the journal, unless the study is in a database
                storage.url   the URL of that database (readable by its owner only)
                job.pkl       the job as it was last run, for `resume`
                code/         modules that the job imports, if it came from another machine
                trials/       one folder per attempt at a trial, with its checkpoints
                errors/       the tracebacks of failed trials
                tensorboard/  mlflow.db  the files of the loggers, if any
                .lock         held by the process that runs the study
                .driver       the id under which that process holds the lease in a database
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, JournalStorage, RDBStorage

from tuner.errors import InvalidInput, unknown_name
from tuner.storage.database import (
    DatabaseUnavailable,
    close_database,
    does_not_answer,
    open_database,
)
from tuner.storage.journal import WriteBehindJournal, read_journal
from tuner.storage.lease import Worker, worker_of
from tuner.storage.write_behind import WriteBehindDatabase

DEFAULT_FOLDER = os.environ.get("QUARTERTURN_FOLDER", "studies")

# A reader holds the lock for an instant.
_LOCK_WITHIN_S = 0.5


@dataclass(frozen=True)
class StudyFolder:
    """The files of one study.

    Attributes:
        path: the study's folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """The name of the study."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """The journal file; it does not exist if the study is in a database."""
        return self.path / "study.log"

    @property
    def storage_url(self) -> Path:
        """The file with the URL of the database; it exists only if the study is in a database."""
        return self.path / "storage.url"

    @property
    def job(self) -> Path:
        """The file with the pickled job."""
        return self.path / "job.pkl"

    @property
    def code(self) -> Path:
        """The folder with the modules that the job imports."""
        return self.path / "code"

    @property
    def trials(self) -> Path:
        """The folder with the trials' folders."""
        return self.path / "trials"

    @property
    def errors(self) -> Path:
        return self.path / "errors"

    def exists(self) -> bool:
        """Whether the folder contains a study."""
        return self.journal.exists() or self.storage_url.exists()

    def is_locked(self) -> bool:
        """Whether a process holds the study's lock."""
        try:
            with (self.path / ".lock").open() as file:
                # A shared lock for an instant. It is refused while a process holds the lock.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no lock, or a file system without locks
            return False
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study's lock. The operating system releases it when the process ends.

        Raises:
            InvalidInput: another process runs the study, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", timeout=_LOCK_WITHIN_S)
            lock.acquire()
        except Timeout as error:
            raise InvalidInput(
                f"one process at a time may run a study, {self.name!r} is being run by another; "
                "wait for it, stop it, or choose another name"
            ) from error
        except OSError as error:
            raise InvalidInput(
                f"the output folder must be writable, got {str(self.path)!r} "
                f"({error.strerror}); choose another with --folder"
            ) from error
        try:
            yield
        finally:
            lock.release()


def find_study(name: str, folder: Path | str = DEFAULT_FOLDER) -> StudyFolder:
    """Return the folder of an existing study.

    Args:
        name: the name of the study.
        folder: the folder of all studies.

    Raises:
        InvalidInput: no study has this name; the message lists the existing studies.
    """
    root = Path(folder).expanduser()
    found = StudyFolder(root / name)
    if not found.exists():
        known = [path.name for path in root.glob("*") if StudyFolder(path).exists()]
        error = unknown_name("study", name, known)
        raise InvalidInput(f"{error} (in {root.absolute()}; elsewhere: --folder)")
    return found


def open_for_reading(study: StudyFolder) -> BaseStorage:
    """Open a study's storage without disturbing the process that may write to it."""
    if study.storage_url.exists():
        return open_database(study.storage_url.read_text().strip())
    return read_journal(study.journal)


@contextmanager
def open_for_writing(
    study: StudyFolder,
    url: str | None,
    *,
    drives: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[BaseStorage]:
    """Open a study's storage for writing. Changes are made in memory and written behind.

    All changes are in the storage when the context ends. The caller holds the study's lock, unless
    it only adds trials to a study in a database.

    Args:
        study: the study's folder, which exists.
        url: the URL of the database for a new study; None for a journal in the folder. An existing
            study stays in its storage.
        drives: whether the caller runs trials, not only adds them. In a database that takes the
            study's lease.
        say: is called with a line of text while the database is unavailable.

    Raises:
        InvalidInput: the database cannot be opened, the study is in another storage, or another
            process drives it.
    """
    kept = study.storage_url.read_text().strip() if study.storage_url.exists() else None
    if study.exists() and url is not None and url != kept:
        raise InvalidInput(
            f"a study stays in the storage it was made in, {study.name!r} is in "
            f"{'another database' if kept else 'its folder'}; leave --storage out or rename the job"
        )
    url = url or kept
    if url is None:
        journal = WriteBehindJournal(study.journal)
        with closing(journal):
            yield JournalStorage(journal)
        return
    stored = open_database(url)
    try:
        worker = worker_of(study.path, study.trials) if drives else None
        database = _behind(stored, study.name, worker, say)
        if not kept:
            study.storage_url.touch(mode=0o600)
            study.storage_url.write_text(url)
        with closing(database):
            yield database
    finally:
        close_database(stored)


def _behind(
    stored: RDBStorage, name: str, worker: Worker | None, say: Callable[[str], None]
) -> WriteBehindDatabase:
    try:
        return WriteBehindDatabase(stored, name, worker, say)
    except DatabaseUnavailable as error:
        raise does_not_answer(error) from error
