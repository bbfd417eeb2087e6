"""The studies that are served, of a folder or a database, each read once for all viewers."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage
from sqlalchemy.exc import SQLAlchemyError

from tuner.errors import InvalidInput
from tuner.report.formatting import one_line
from tuner.report.html.live import Live
from tuner.report.study_follower import Seen, StudyFollower
from tuner.storage.database import close_database, open_database
from tuner.study.folder import StudyFolder
from tuner.study.load import open_study, opened, read_result
from tuner.study.result import StudyResult, TrialResult

# A file as it was: which it is, its size, and when it was written.
Signature = tuple[int, int, int]


class HTTPError(Exception):
    """Why a study, or the storage, cannot be shown, in a line; and the HTTP status for it."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line


class StudySource(Protocol):
    """Where studies are; each method may be called from any thread, and raises `HTTPError`."""

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
    """Raise what may go wrong with a storage as `HTTPError`: its details are not for everyone."""
    try:
        yield
    except FileNotFoundError as error:
        raise gone(what) from error
    except InvalidInput as error:
        raise HTTPError(503, one_line(str(error))) from error
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
        raise HTTPError(503, line) from error


def gone(what: str) -> HTTPError:
    """Return that something is not there."""
    return HTTPError(404, f"{one_line(what)} is not here, or not any more")


@dataclass(frozen=True)
class Read:
    """A whole study, and at which revision each of its trials changed last."""

    result: StudyResult
    revision: str
    changed: dict[int, int]

    def since(self, revision: str) -> frozenset[int] | None:
        """Return the trials that have changed since; None where that is not known."""
        reading, _, count = self.revision.partition("-")
        before, _, known = revision.partition("-")
        if before != reading or not (known.isascii() and known.isdigit()):
            return None
        # A trial that has come since the look counts as changed after it.
        last = int(count) + 1
        return frozenset(
            trial.number
            for trial in self.result.trials
            if self.changed.get(trial.number, last) > int(known)
        )


@dataclass
class _Reading:
    """A study from when it is opened to when it is closed: what has been seen of it.

    Attributes:
        name: of this reading, in its revisions; count: of the revisions.
        file: which file is read, and its size; None for a database.
        ended: trials that had ended when they were read; they do not change any more.
    """

    study: optuna.Study
    folder: Path | None
    following: StudyFollower
    name: str = field(default_factory=lambda: secrets.token_hex(6))
    count: int = 0
    at: float = -math.inf
    live: Live | None = None
    whole: Read | None = None
    file: tuple[int, int] | None = None
    changed: dict[int, int] = field(default_factory=dict)
    ended: dict[int, TrialResult] = field(default_factory=dict)

    def look(self) -> Live:
        """Look again, and return how the study stands."""
        seen = self.following.look()
        if seen.news or self.live is None or _attributes(seen) != _attributes(self.live.seen):
            self.count += 1
            self.changed.update(dict.fromkeys(seen.news, self.count))
        self.live = Live(seen, f"{self.name}-{self.count}")
        self.at = time.monotonic()
        return self.live

    def read(self, revision: str) -> Read:
        """Return the whole study, read again unless it was at this revision."""
        if self.whole is None or self.whole.revision != revision:
            result = read_result(self.study, self.folder, known=self.ended)
            self.ended = {t.number: t for t in result.trials if t.state != "running"}
            self.whole = Read(result, revision, dict(self.changed))
        return self.whole

    def is_of_another(self, file: Signature | None) -> bool:
        """Whether the file that was read has been replaced by another, or cut."""
        if file is None or self.file is None:
            return False
        return file[0] != self.file[0] or file[1] < self.file[1]


class Reader:
    """Reads one study, which is opened at the first look; its methods may be called in any thread.

    A revision is that of one reading: after the study has been opened again it is another's.

    Args:
        shelf: where the study is.
        name: of the study there.
        interval_s: the least time between two looks; who asks earlier gets what was seen.
    """

    def __init__(self, shelf: StudySource, name: str, interval_s: float) -> None:
        self._shelf = shelf
        self._name = name
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._reading: _Reading | None = None
        self.looks = 0
        self.used = time.monotonic()

    def look(self) -> Live:
        """Return how the study stands, and its revision.

        Raises:
            Trouble: it is not there, or cannot be read.
        """
        with self._lock:
            return self._look()[1]

    def read(self) -> Read:
        """Return the whole study; trials that had ended before are not read again.

        Raises:
            Trouble: it is not there, or cannot be read.
        """
        with self._lock:
            reading, live = self._look()
            with troubles(f"study {self._name}"):
                return reading.read(live.revision)

    def close(self) -> None:
        """Close the study; it is opened again when it is next looked at."""
        with self._lock:
            self._close()

    def _look(self) -> tuple[_Reading, Live]:
        self.used = time.monotonic()
        reading = self._reading
        if reading and reading.live and self.used - reading.at < 0.9 * self._interval_s:
            return reading, reading.live
        try:
            with troubles(f"study {self._name}"):
                file = self._shelf.signature(self._name)
                if reading and reading.is_of_another(file):
                    self._close()
                    reading = None
                if reading is None:
                    study, folder = self._open.enter_context(self._shelf.open(self._name))
                    reading = _Reading(study, folder, StudyFollower(study, folder))
                self.looks += 1
                live = reading.look()
        except BaseException:
            self._close()  # what is half read is read anew
            raise
        reading.file = file and file[:2]
        self._reading = reading
        return reading, live

    def _close(self) -> None:
        self._reading = None
        self._open.close()


def _attributes(seen: Seen) -> tuple[object, ...]:
    """What may change without a trial: the study's own."""
    return seen.metric, seen.mode, seen.max_epochs, seen.num_trials, seen.rotation_target
