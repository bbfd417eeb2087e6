"""SQL databases: opening one, transactions on it, and waiting for one that does not answer."""

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

# A restart takes seconds, a failover minutes, an upgrade some more. Trials train on meanwhile; what
# it costs to wait is slots that stay empty, what it costs to end is all that trains.
WAIT_S = 1800.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0

# What a server says that goes, comes, takes nobody in or may not be written (any more, or yet).
_GOING_AND_COMING = ("08", "57P01", "57P02", "57P03", "57P05", "53300", "25P03", "25006")
_MYSQL = ("1040", "1053", "1290", "1836", "1927", "2002", "2003", "2006", "2013")


class DatabaseUnavailable(NotStored):
    """The database does not answer; what it was asked for last may have been done all the same.

    Attributes:
        why: as far as it is known.
    """

    def __init__(self, why: str, line: str = "") -> None:
        super().__init__(line or f"the database does not answer ({why})")
        self.why = why


@contextmanager
def answering() -> Iterator[None]:
    """Raise `DatabaseUnavailable` where a database cannot be reached or goes away."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error if isinstance(error, DBAPIError) else error.__cause__
        if isinstance(cause, DBAPIError) and is_loss(cause):
            raise DatabaseUnavailable(_said_by(cause)) from error
        raise


def is_loss(error: DBAPIError) -> bool:
    """Whether an error means that the database, or the way there, has gone or is not there yet."""
    if isinstance(error.orig, sqlite3.Error):  # a file is there, or is not
        return False
    code = state_of(error)
    if error.connection_invalidated or code.startswith(_GOING_AND_COMING):
        return True
    if code:
        return False
    if any(str(said) in _MYSQL for said in getattr(error.orig, "args", ())):
        return True
    # Only to connect and to commit are no statements; neither fails without a code but for this.
    return isinstance(error, OperationalError | InterfaceError) and error.statement is None


def state_of(error: DBAPIError) -> str:
    """Return the SQLSTATE that a server has given; empty without one."""
    said = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return str(said or "")


def _said_by(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error.orig).__name__


class OutageState:
    """Whether a database is away, for all the threads that use it, and since when.

    The one that writes waits for it, and says when it is over. The line that it is lost is not said
    of what the second try has mended.

    Args:
        wait_s: how long it is waited for, 0 for not at all; None for `WAIT_S`.
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
        return self._began is not None

    def check(self) -> None:
        """Raise `DatabaseUnavailable` while the database is."""
        if self.is_on:
            raise DatabaseUnavailable("it is waited for")

    def lines(self) -> list[str]:
        """Return what is to be said since this was last asked."""
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def begin(self, away: DatabaseUnavailable) -> None:
        """Note that the database has not answered.

        Raises:
            DatabaseUnavailable: it has been waited for long enough.
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
                    f"{away}; trials train on and their reports are kept until it does, "
                    f"for {told_s(self._wait_s)} at most"
                )

    def answered(self) -> None:
        """Note that the database has answered; there may be much that it has not been told yet."""
        with self._lock:
            self._silent_since = None

    def end(self) -> None:
        """Note that all is as if it had never been away."""
        with self._lock:
            if self._said and self._began is not None:
                gone_s = time.monotonic() - self._began
                self._lines.append(
                    f"the database answers again, after {told_s(gone_s)}; all reports are written"
                )
            self._began, self._silent_since, self._said = None, None, False

    def give_up(self) -> None:
        """Wait no longer if it is away."""
        if self.is_on:
            self._given_up.set()

    def wait_for(
        self, change: Callable[[], Value], meanwhile: Callable[[], None] = lambda: None
    ) -> Value:
        """Return what a change returns, which is called until the database answers.

        Args:
            change: may have been made by an earlier call; it must not be made twice then.
            meanwhile: is called before each pause.

        Raises:
            DatabaseUnavailable: it has been waited for long enough.
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
    """Return a time as it is told: 42 s, 30 min."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


_OPENING_ATTEMPTS = 10
# SQLite gives up waiting for another's transaction after 5 s by default.
_LOCKED_S = 60
# A network that swallows all makes a process wait for 15 minutes by default, and its server two
# hours. So libpq is told to take a server for gone that has been silent for so long.
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

    Raises:
        InvalidInput: the URL is not one, its driver is not installed, or nothing answers there; or
            it `must_exist` and is the path of an SQLite file that does not.
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
    """Open a database, which others may do for the first time at this moment."""
    options = _options(make_url(url))
    for _ in range(_OPENING_ATTEMPTS - 1):
        try:
            return _Database(url, engine_kwargs=options)
        except SQLAlchemyError as error:
            # Two that make the tables at the same time get in each other's way.
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(random.random() / 4)
    return _Database(url, engine_kwargs=options)


def _options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": _LOCKED_S}}
    # A server may have closed a connection that was idle.
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.get_backend_name() == "postgresql":
        options["pool_events"] = [(_let_go, "connect")]
        if url.get_driver_name().startswith("psycopg"):
            given = {key: value for key, value in _NOTICE.items() if key not in url.query}
            options["connect_args"] = given
    return options


def _let_go(connection: Any, _: Any) -> None:
    """Have PostgreSQL undo what a process had begun that it cannot hear any more, and its locks."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_SILENT_S}s'")
    connection.commit()


class _Database(RDBStorage):
    """Leaves no connection behind when it cannot be opened."""

    def __init__(self, url: str, engine_kwargs: dict[str, Any]) -> None:
        try:
            super().__init__(url, engine_kwargs)
        except Exception:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise


def does_not_answer(away: DatabaseUnavailable) -> InvalidInput:
    """Return what is said where nobody waits for a database that has gone away."""
    return InvalidInput(
        f"storage must be a database that answers, it has just gone away ({away.why}); try again"
    )


def close_database(storage: BaseStorage) -> None:
    """Close the connections of a storage that has any."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _without_passwords(url: str, error: Exception) -> tuple[str, str]:
    """Return the URL and the first line of what went wrong, as they may be shown."""
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
# A deadlock, or a lock that took too long: the database has undone all, and may be asked again.
_PASSING = ("40001", "40P01", "1205", "1213", "database is locked")
_TRANSACTION_ATTEMPTS = 5


def check_kind(database: RDBStorage) -> None:
    """Refuse a database of a kind whose locks are not known here.

    Raises:
        InvalidInput: it is one.
    """
    if database.engine.name not in _CLOCK:
        raise InvalidInput(
            "storage must be a PostgreSQL, MySQL or SQLite database, got "
            f"{database.engine.name!r}; use one of these, or leave it out for a file"
        )


@contextmanager
def transaction(database: RDBStorage, *, writes: bool = True) -> Iterator[RDBStorage]:
    """Yield the same database, where all that is done is one transaction.

    Where something fails, all is undone, even if Optuna takes no notice of it.

    Raises:
        DatabaseUnavailable: the database does not answer. If it has gone at the very end, all may
            have been done.
    """
    with _connected(database) as connection, connection.begin():
        if writes and connection.dialect.name == "sqlite":
            # It has no locks on rows. A reader that comes to write would fail, not wait.
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
            # It may be to a server that answers, but has become a standby.
            connection.invalidate()
            raise


def attempt(change: Callable[[], Value]) -> Value:
    """Return what comes of a transaction, tried again if it was undone for another's sake."""
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
    """Asks on behalf of a thread that must not wait while trials train, but may before and after.

    Args:
        outage: whether the database is away, as another thread finds out too.
        say: is called with a line while this one waits.

    Raises:
        NotStored: (all that asks) the database fails, or was waited for long enough.
    """

    def __init__(self, outage: OutageState, say: Callable[[str], None]) -> None:
        self._outage = outage
        self._say = say

    def patiently(self, change: Callable[[], Value]) -> Value:
        """Return what a change returns, once the database answers.

        Args:
            change: as for `OutageState.wait_for`.
        """
        with self.waiting(), _stored():
            return self._outage.wait_for(change, self.mention)

    def at_once(self, change: Callable[[], Value]) -> Value:
        """Return what comes of a change.

        Raises:
            DatabaseUnavailable: the database does not answer, or has not yet been told all that it
                has missed.
        """
        self._outage.check()
        try:
            with _stored():
                return change()
        except DatabaseUnavailable as away:
            self._outage.begin(away)
            raise

    def mention(self) -> None:
        """Say what is to be said of the database, where nobody asks for news."""
        for line in self._outage.lines():
            self._say(line)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Where Ctrl-C ends the waiting for a database that is away."""
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
