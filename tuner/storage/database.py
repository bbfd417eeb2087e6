"""SQL databases: open a database, use transactions, and wait while it does not answer."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)

from tuner.errors import InvalidInput, NotStored
from tuner.storage.optuna_internals import within

Value = TypeVar("Value")

# A restart takes seconds, a failover minutes, an upgrade longer. Running trials train meanwhile.
# Waiting costs empty slots; ending the run costs all training in progress.
WAIT_S = 1800.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0

# The errors of a server that shuts down, starts, has no free connection or is read-only:
# SQLSTATEs or their beginnings, and MySQL's error numbers.
_GOING_AND_COMING = ("08", "57P01", "57P02", "57P03", "57P05", "53300", "25P03", "25006")
_MYSQL = ("1040", "1053", "1290", "1836", "1927", "2002", "2003", "2006", "2013")


class DatabaseUnavailable(NotStored):
    """The database does not answer. It may still have committed the last request.

    Attributes:
        why: the cause, as far as it is known.
    """

    def __init__(self, why: str, line: str = "") -> None:
        super().__init__(line or f"the database does not answer ({why})")
        self.why = why


@contextmanager
def answering() -> Iterator[None]:
    """Raise `DatabaseUnavailable` in place of the error of a database that cannot be reached."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error if isinstance(error, DBAPIError) else error.__cause__
        if isinstance(cause, DBAPIError) and is_loss(cause):
            raise DatabaseUnavailable(_said_by(cause)) from error
        raise


def is_loss(error: DBAPIError) -> bool:
    """Whether an error means that the database or the network is unavailable for now."""
    if isinstance(error.orig, sqlite3.Error):  # a file has no outages
        return False
    code = state_of(error)
    if error.connection_invalidated or code.startswith(_GOING_AND_COMING):
        return True
    if code:
        return False
    if any(str(said) in _MYSQL for said in getattr(error.orig, "args", ())):
        return True
    # Connecting and committing have no statement. Without a code they fail only in an outage.
    return isinstance(error, OperationalError | InterfaceError) and error.statement is None


def state_of(error: DBAPIError) -> str:
    """Return the SQLSTATE of a server's error; empty if it has none."""
    said = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return str(said or "")


def _said_by(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error.orig).__name__


class OutageState:
    """Whether a database is unavailable, and since when, for all threads that use it.

    The thread that writes waits for the database and reports the end of the outage. It warns only
    after the second failed attempt.

    Args:
        wait_s: seconds to wait for the database, >= 0; 0 does not wait. None means `WAIT_S`.
    """

    def __init__(self, wait_s: float | None = None) -> None:
        self._wait_s = WAIT_S if wait_s is None else wait_s
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._began: float | None = None
        self._silent_since: float | None = None
        self._said = False
        self._lines: list[str] = []

    @property
    def is_on(self) -> bool:
        """Whether there is an outage."""
        return self._began is not None

    def check(self) -> None:
        """Raise `DatabaseUnavailable` during an outage."""
        if self.is_on:
            raise DatabaseUnavailable("this run waits for it")

    def lines(self) -> list[str]:
        """Return the lines to show that are new since the last call."""
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def begin(self, away: DatabaseUnavailable) -> None:
        """Record that the database has not answered.

        Args:
            away: the error.

        Raises:
            DatabaseUnavailable: no answer has come for `wait_s` seconds, or `give_up` was called.
        """
        now = time.monotonic()
        with self._lock:
            again = self._began is not None
            self._began = now if self._began is None else self._began
            self._silent_since = now if self._silent_since is None else self._silent_since
            waited_s = now - self._silent_since
            if waited_s >= self._wait_s or self._given_up.is_set():
                if not self._wait_s:
                    raise away
                raise DatabaseUnavailable(
                    away.why,
                    f"the database has not answered for {told_s(waited_s)} ({away.why}); "
                    "resume the study once it does",
                ) from away
            if again and not self._said:
                self._said = True
                self._lines.append(
                    f"{away}; trials continue to train and their reports stay in memory until it "
                    f"does, for {told_s(self._wait_s)} at most"
                )

    def answered(self) -> None:
        """Record that the database has answered. Many changes may still be unwritten."""
        with self._lock:
            self._silent_since = None

    def end(self) -> None:
        """Record that the outage is over: the database answers and has the changes."""
        with self._lock:
            if self._said and self._began is not None:
                gone_s = time.monotonic() - self._began
                self._lines.append(
                    f"the database answers again, after {told_s(gone_s)}; all reports are written"
                )
            self._began, self._silent_since, self._said = None, None, False

    def give_up(self) -> None:
        """Stop waiting, if there is an outage."""
        if self.is_on:
            self._given_up.set()

    def wait_for(
        self, change: Callable[[], Value], meanwhile: Callable[[], None] = lambda: None
    ) -> Value:
        """Call a change until the database answers, and return its result.

        Args:
            change: the change. An earlier call may have made it although it failed; a further call
                must then not make it twice.
            meanwhile: is called before each pause.

        Raises:
            DatabaseUnavailable: as for `begin`.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                value = change()
            except DatabaseUnavailable as away:
                self.begin(away)
            else:
                self.answered()
                return value
            meanwhile()
            self._given_up.wait(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def told_s(seconds: float) -> str:
    """Return a duration as text, such as 42 s or 30 min."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


_OPENING_ATTEMPTS = 10
# By default SQLite waits for the transaction of another process for only 5 s.
_LOCKED_S = 60
# If the network loses all packets, by default a client waits for 15 minutes and its server for two
# hours. With these settings libpq closes the connection to a server that is silent this long.
_SILENT_S = 30
_NOTICE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 1000 * _SILENT_S,
}


def open_database(url: str, *, must_exist: bool = False) -> RDBStorage:
    """Open an SQL database by URL, e.g. ``postgresql://host/db`` or ``sqlite:///study.db``.

    Args:
        url: the URL.
        must_exist: whether an SQLite file must exist already.

    Raises:
        InvalidInput: the URL is invalid, its driver is not installed, no database answers, or a
            file that must exist does not.
    """
    file = url.removeprefix("sqlite:///")
    if must_exist and file != url and not Path(file).exists():
        raise InvalidInput(f"a database must exist to be read, got {url!r}; check the path")
    try:
        return _opened(url)
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        shown, why = _without_passwords(url, error)
        raise InvalidInput(
            f"storage must be the URL of a database that answers, got {shown} ({why}); "
            "use e.g. sqlite:///study.db, or leave it out for a file beside the experiment"
        ) from error


def _opened(url: str) -> RDBStorage:
    """Open a database, even while other processes open it for the first time."""
    options = _options(make_url(url))
    for _ in range(_OPENING_ATTEMPTS - 1):
        try:
            return _Database(url, engine_kwargs=options)
        except SQLAlchemyError as error:
            # Two processes that create the tables at the same time disturb each other.
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(random.random() / 4)
    return _Database(url, engine_kwargs=options)


def _options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": _LOCKED_S}}
    # A server may close idle connections.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.get_backend_name() == "postgresql":
        options["pool_events"] = [(_let_go, "connect")]
        if url.get_driver_name().startswith("psycopg"):
            given = {key: value for key, value in _NOTICE.items() if key not in url.query}
            options["connect_args"] = given
    return options


def _let_go(connection: Any, _: Any) -> None:
    """Make PostgreSQL roll back the transaction of a process that is silent, and free its locks."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_SILENT_S}s'")
    connection.commit()


class _Database(RDBStorage):
    """A database that closes its connections if it cannot be opened."""

    def __init__(self, url: str, engine_kwargs: dict[str, Any]) -> None:
        try:
            super().__init__(url, engine_kwargs)
        except Exception:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise


def does_not_answer(away: DatabaseUnavailable) -> InvalidInput:
    """Return the error to show when a database becomes unavailable and the caller does not wait."""
    return InvalidInput(
        f"storage must be a database that answers, this one has stopped ({away.why}); try again"
    )


def close_database(storage: BaseStorage) -> None:
    """Close the connections of a database; do nothing for other storages."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _without_passwords(url: str, error: Exception) -> tuple[str, str]:
    """Return the URL and the first line of the error, both without passwords."""
    why = next(iter(str(error).strip().splitlines()), type(error).__name__)
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        secret = "@" in url or "?" in url
        return ("the given URL", type(error).__name__) if secret else (repr(url), why)
    hidden = [key for key in parsed.query if "pass" in key.lower()]
    for part in (parsed.password, *(parsed.query[key] for key in hidden)):
        if part:
            why = why.replace(str(part), "***")
    shown = parsed.difference_update_query(hidden).render_as_string(hide_password=True)
    return repr(shown), why


# The seconds since 1970, by the clock of the database.
_CLOCK = {
    "postgresql": "extract(epoch from clock_timestamp())",
    "mysql": "unix_timestamp(sysdate(6))",
    "mariadb": "unix_timestamp(sysdate(6))",
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
}
# A deadlock, or a lock that took too long. The database has rolled back, so a retry is safe.
_PASSING = ("40001", "40P01", "1205", "1213", "database is locked")
_TRANSACTION_ATTEMPTS = 5


def check_kind(database: RDBStorage) -> None:
    """Check that a database is of a supported kind. Locks and clocks differ between the kinds.

    Raises:
        InvalidInput: the kind is not supported.
    """
    if database.engine.name not in _CLOCK:
        raise InvalidInput(
            "storage must be a PostgreSQL, MySQL or SQLite database, got "
            f"{database.engine.name!r}; use one of these, or leave it out for a file"
        )


@contextmanager
def transaction(database: RDBStorage, *, writes: bool = True) -> Iterator[RDBStorage]:
    """Yield the same database, with all calls in one transaction.

    If a call fails, the transaction is rolled back, even if Optuna ignores the failure.

    Args:
        database: the database.
        writes: whether the transaction writes.

    Raises:
        DatabaseUnavailable: the database does not answer. If that happens during the commit, the
            changes may have been made.
    """
    with _connected(database) as connection, connection.begin():
        if writes and connection.dialect.name == "sqlite":
            # SQLite has no row locks. A transaction that reads, then writes, would fail, not wait.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        bound = within(database, connection)
        try:
            yield bound
            bound.scoped_session.commit()
        finally:
            bound.scoped_session.remove()


@contextmanager
def _connected(database: RDBStorage) -> Iterator[sqlalchemy.Connection]:
    with answering(), database.engine.connect() as connection:
        try:
            with answering():
                yield connection
        except DatabaseUnavailable:
            # The server may answer again, but as a standby. So the connection is not reused.
            connection.invalidate()
            raise


def attempt(change: Callable[[], Value]) -> Value:
    """Return the result of a transaction. Retry it after a deadlock or a lock timeout.

    Args:
        change: makes the transaction.
    """
    for _ in range(_TRANSACTION_ATTEMPTS - 1):
        try:
            return change()
        except (DBAPIError, StorageInternalError) as error:
            if not _is_passing(error):
                raise
            time.sleep(random.random())
    return change()


def seconds_now(database: RDBStorage) -> float:
    """Return the seconds since 1970, by the clock of the database."""
    clock: Any = sqlalchemy.literal_column(_CLOCK[database.engine.name])
    return float(database.scoped_session().execute(sqlalchemy.select(clock)).scalar_one())


def _is_passing(error: Exception) -> bool:
    cause = error if isinstance(error, DBAPIError) else error.__cause__
    if not isinstance(cause, DBAPIError):
        return False
    said = (state_of(cause), *getattr(cause.orig, "args", ()))
    return any(str(text).startswith(_PASSING) for text in said)


class RetryPolicy:
    """Calls the database for a thread that must not wait during training, only before and after.

    Args:
        outage: the state of the outage, which another thread updates too.
        say: is called with a line of text while this thread waits.

    Raises:
        NotStored: (`patiently` and `at_once`) the database fails, or the outage lasts too long.
    """

    def __init__(self, outage: OutageState, say: Callable[[str], None]) -> None:
        self._outage = outage
        self._say = say

    def patiently(self, change: Callable[[], Value]) -> Value:
        """Return the result of a change; wait until the database answers.

        Args:
            change: as for `OutageState.wait_for`.
        """
        with self.waiting(), _stored():
            return self._outage.wait_for(change, self.mention)

    def at_once(self, change: Callable[[], Value]) -> Value:
        """Return the result of a change; do not wait.

        Args:
            change: as for `OutageState.wait_for`.

        Raises:
            DatabaseUnavailable: the database does not answer, or an outage is not over yet.
        """
        self._outage.check()
        try:
            with _stored():
                return change()
        except DatabaseUnavailable as away:
            self._outage.begin(away)
            raise

    def mention(self) -> None:
        """Pass the new lines about the outage to `say`."""
        for line in self._outage.lines():
            self._say(line)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A context in which Ctrl-C ends the wait for the database."""
        try:
            yield
        except KeyboardInterrupt:
            self._outage.give_up()
            raise


@contextmanager
def _stored() -> Iterator[None]:
    try:
        with answering():
            yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise NotStored(f"the study could not be written: {error}") from error
