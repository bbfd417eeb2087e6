"""The served studies of a folder or a database. Each is read once for all clients."""

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
from tuner.report.study_follower import StudyFollower, StudySnapshot
from tuner.storage.database import close_database, open_database
from tuner.study.folder import StudyFolder
from tuner.study.load import open_study, opened, read_result
from tuner.study.result import StudyResult, TrialResult

# The state of a file: its inode, its size, and the time of the last write.
Signature = tuple[int, int, int]


class HTTPError(Exception):
    """A study or a storage cannot be shown.

    Attributes:
        status: the HTTP status.
        line: the reason, in one line.
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line


class StudySource(Protocol):
    """The studies of a folder or a database.

    Every method may be called from any thread, and may raise `HTTPError`.
    """

    def names(self) -> list[str]:
        """Return the studies' names, sorted."""

    def open(self, name: str) -> AbstractContextManager[tuple[optuna.Study, Path | None]]:
        """Open a study for reading. Yield it with its folder, or None for a database."""

    def signature(self, name: str) -> Signature | None:
        """Return a value that changes with every write to a study; None if there is none."""

    def close(self) -> None:
        """Close the connections."""


class FolderSource:
    """The studies in the folder of `quarterturn run`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser()

    def names(self) -> list[str]:
        with http_errors("the folder of the studies"):
            found = list(self._folder.iterdir())
        return sorted(path.name for path in found if StudyFolder(path).exists())

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[optuna.Study, Path | None]]:
        if name not in self.names():  # a name is never a path out of the folder
            raise not_found(f"study {name}")
        with opened(name, self._folder) as found:
            yield found

    def signature(self, name: str) -> Signature | None:
        study = StudyFolder(self._folder / name)
        if study.storage_url.exists():
            return None
        with http_errors(f"study {name}"):
            status = study.journal.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def close(self) -> None:
        """Do nothing: no connection is open."""


class DatabaseSource:
    """The studies of a database.

    Raises:
        InvalidInput: the database does not answer.
    """

    def __init__(self, url: str) -> None:
        self._lock = threading.Lock()
        self._storage: BaseStorage = open_database(url, must_exist=True)

    def names(self) -> list[str]:
        with http_errors("the database"), self._lock:
            return sorted(optuna.get_all_study_names(self._storage))

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[optuna.Study, Path | None]]:
        if name not in self.names():
            raise not_found(f"study {name}")
        # All studies share the connections, since a database server limits their number.
        yield open_study(self._storage, name, None), None

    def signature(self, name: str) -> Signature | None:
        return None

    def close(self) -> None:
        with self._lock:
            close_database(self._storage)


@contextmanager
def http_errors(what: str) -> Iterator[None]:
    """Convert the errors of a storage to `HTTPError`, without details that clients must not see.

    Args:
        what: the study or storage, for the message.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise not_found(what) from error
    except InvalidInput as error:
        raise HTTPError(503, one_line(str(error))) from error
    # A damaged journal, or one of another program, can fail at any line of Optuna's parser.
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
        line = f"{one_line(what)} cannot be read now ({kind}); trying again"
        raise HTTPError(503, line) from error


def not_found(what: str) -> HTTPError:
    """Return the error for a study or page that does not exist, or was removed."""
    return HTTPError(404, f"{one_line(what)} does not exist, or was removed")


@dataclass(frozen=True)
class Snapshot:
    """A study as it was read, with the revision at which each trial changed last.

    Attributes:
        result: the study.
        revision: the id of the reading and a count, joined by a dash.
        changed: by trial number, the count at which the trial changed last.
    """

    result: StudyResult
    revision: str
    changed: dict[int, int]

    def since(self, revision: str) -> frozenset[int] | None:
        """Return the numbers of the trials that changed after a revision.

        None if the revision is unknown, such as one of another reading.
        """
        reading, _, count = self.revision.partition("-")
        before, _, known = revision.partition("-")
        if before != reading or not (known.isascii() and known.isdigit()):
            return None
        # A trial that was created after the last look counts as changed after it.
        last = int(count) + 1
        return frozenset(
            trial.number
            for trial in self.result.trials
            if self.changed.get(trial.number, last) > int(known)
        )


@dataclass
class _Reading:
    """The data of a study that was read between opening and closing it.

    Attributes:
        study: the open study.
        folder: the study's folder, or None.
        follower: reads the changes of the study.
        id: a random id, the first part of this reading's revisions.
        count: the number of revisions.
        looked_at: when the study was looked at last, by the monotonic clock.
        live: the result of that look.
        snapshot: the study as it was last read whole.
        file: inode and size of the journal; None for a database.
        changed: by trial number, the count at which the trial changed last.
        ended: trials that had ended when they were read. They never change again.
    """

    study: optuna.Study
    folder: Path | None
    follower: StudyFollower
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    count: int = 0
    looked_at: float = -math.inf
    live: Live | None = None
    snapshot: Snapshot | None = None
    file: tuple[int, int] | None = None
    changed: dict[int, int] = field(default_factory=dict)
    ended: dict[int, TrialResult] = field(default_factory=dict)

    def look(self) -> Live:
        """Read the changes, and return the state of the study."""
        seen = self.follower.poll()
        if seen.changed or self.live is None or _attributes(seen) != _attributes(self.live.seen):
            self.count += 1
            self.changed.update(dict.fromkeys(seen.changed, self.count))
        self.live = Live(seen, f"{self.id}-{self.count}")
        self.looked_at = time.monotonic()
        return self.live

    def read(self, revision: str) -> Snapshot:
        """Return the whole study; it is read again unless the last snapshot has this revision."""
        if self.snapshot is None or self.snapshot.revision != revision:
            result = read_result(self.study, self.folder, known=self.ended)
            self.ended = {t.number: t for t in result.trials if t.state != "running"}
            self.snapshot = Snapshot(result, revision, dict(self.changed))
        return self.snapshot

    def is_replaced(self, file: Signature | None) -> bool:
        """Return whether another file has replaced the one that was read, or it was truncated."""
        if file is None or self.file is None:
            return False
        return file[0] != self.file[0] or file[1] < self.file[1]


class Reader:
    """Reads one study. Its methods may be called from any thread.

    The study is opened at the first look. When it is opened again, a new reading begins, and
    revisions of the old one are unknown.

    Args:
        source: the source of the study.
        name: the name of the study.
        interval_s: minimum seconds between two looks. Earlier calls return the last result.

    Attributes:
        looks: how often the storage was read.
        used: when the reader was used last, by the monotonic clock.
    """

    def __init__(self, source: StudySource, name: str, interval_s: float) -> None:
        self._source = source
        self._name = name
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._reading: _Reading | None = None
        self.looks = 0
        self.used = time.monotonic()

    def look(self) -> Live:
        """Return the state of the study with its revision.

        Raises:
            HTTPError: the study does not exist, or cannot be read.
        """
        with self._lock:
            return self._look()[1]

    def read(self) -> Snapshot:
        """Return the whole study. Trials that had ended are not read again.

        Raises:
            HTTPError: the study does not exist, or cannot be read.
        """
        with self._lock:
            reading, live = self._look()
            with http_errors(f"study {self._name}"):
                return reading.read(live.revision)

    def close(self) -> None:
        """Close the study. The next look opens it again."""
        with self._lock:
            self._close()

    def _look(self) -> tuple[_Reading, Live]:
        self.used = time.monotonic()
        reading = self._reading
        if reading and reading.live and self.used - reading.looked_at < 0.9 * self._interval_s:
            return reading, reading.live
        try:
            with http_errors(f"study {self._name}"):
                file = self._source.signature(self._name)
                if reading and reading.is_replaced(file):
                    self._close()
                    reading = None
                if reading is None:
                    study, folder = self._open.enter_context(self._source.open(self._name))
                    reading = _Reading(study, folder, StudyFollower(study, folder))
                self.looks += 1
                live = reading.look()
        except BaseException:
            self._close()  # a partial reading is useless: begin a new one
            raise
        reading.file = file and file[:2]
        self._reading = reading
        return reading, live

    def _close(self) -> None:
        self._reading = None
        self._open.close()


def _attributes(seen: StudySnapshot) -> tuple[object, ...]:
    """Return the attributes of the study, which may change without any trial changing."""
    return seen.metric, seen.mode, seen.max_epochs, seen.num_trials, seen.rotation_target
