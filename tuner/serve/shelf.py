"""The studies that are shown: those of a folder, or those of a database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage
from sqlalchemy.exc import SQLAlchemyError

from tuner.errors import InvalidInput
from tuner.report.plain import one_line
from tuner.study.catalog import StudyFolder
from tuner.study.database import close_database, open_database
from tuner.study.load import open_study, opened

# A file as it was: which it is, its size, and when it was written.
Signature = tuple[int, int, int]


class Trouble(Exception):
    """Why a study, or the storage, cannot be shown, in a line; and the HTTP status for it."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line


class Shelf(Protocol):
    """Where studies are; each method may be called from any thread, and raises `Trouble`."""

    def names(self) -> list[str]:
        """Return the studies' names, sorted."""

    def open(self, name: str) -> AbstractContextManager[tuple[optuna.Study, Path | None]]:
        """Open a study for reading, and give it with its folder, None without one."""

    def signature(self, name: str) -> Signature | None:
        """Return what changes when a study is written; None where only reading it tells."""

    def close(self) -> None:
        """Close what is open."""


class FolderShelf:
    """The studies under a folder, as `quarterturn run` keeps them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser()

    def names(self) -> list[str]:
        with troubles("the folder of the studies"):
            found = list(self._folder.iterdir())
        return sorted(path.name for path in found if StudyFolder(path).exists())

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[optuna.Study, Path | None]]:
        if name not in self.names():  # a name is never a path out of the folder
            raise gone(f"study {name}")
        with opened(name, self._folder) as found:
            yield found

    def signature(self, name: str) -> Signature | None:
        study = StudyFolder(self._folder / name)
        if study.storage_url.exists():
            return None
        with troubles(f"study {name}"):
            status = study.journal.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def close(self) -> None:
        """Nothing is open."""


class DatabaseShelf:
    """The studies of a database.

    Raises:
        InvalidInput: it does not answer.
    """

    def __init__(self, url: str) -> None:
        self._lock = threading.Lock()
        self._storage: BaseStorage = open_database(url, must_exist=True)

    def names(self) -> list[str]:
        with troubles("the database"), self._lock:
            return sorted(optuna.get_all_study_names(self._storage))

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[optuna.Study, Path | None]]:
        if name not in self.names():
            raise gone(f"study {name}")
        # All studies share the connections; a server has only so many.
        yield open_study(self._storage, name, None), None

    def signature(self, name: str) -> Signature | None:
        return None

    def close(self) -> None:
        with self._lock:
            close_database(self._storage)


@contextmanager
def troubles(what: str) -> Iterator[None]:
    """Raise what may go wrong with a storage as `Trouble`: its details are not for everyone."""
    try:
        yield
    except FileNotFoundError as error:
        raise gone(what) from error
    except InvalidInput as error:
        raise Trouble(503, one_line(str(error))) from error
    # A journal that was damaged, or written by another program, fails where it no longer fits.
    except (
        OSError,
        SQLAlchemyError,
        OptunaError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
    ) as error:
        kind = type(error).__name__
        line = f"{one_line(what)} cannot be read now ({kind}); it is tried again"
        raise Trouble(503, line) from error


def gone(what: str) -> Trouble:
    """Return that something is not there."""
    return Trouble(404, f"{one_line(what)} is not here, or not any more")
