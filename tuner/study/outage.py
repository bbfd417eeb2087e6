"""A database that goes away for a while: how that is told from other errors, and waited for."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from tuner.errors import NotStored

Value = TypeVar("Value")

# A restart takes seconds, a failover minutes, an upgrade some more. Trials train on meanwhile; what
# it costs to wait is slots that stay empty, what it costs to end is all that trains.
WAIT_S = 1800.0
# Who is back later than others has to be heard before they look twice (`presence`).
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0

# What a server says that goes, comes, takes nobody in or may not be written (any more, or yet).
_GOING_AND_COMING = ("08", "57P01", "57P02", "57P03", "57P05", "53300", "25P03", "25006")
_MYSQL = ("1040", "1053", "1290", "1836", "1927", "2002", "2003", "2006", "2013")


class Away(NotStored):
    """The database does not answer; what it was asked for last may have been done all the same.

    Attributes:
        why: as far as it is known.
    """

    def __init__(self, why: str, line: str = "") -> None:
        super().__init__(line or f"the database does not answer ({why})")
        self.why = why


@contextmanager
def answering() -> Iterator[None]:
    """Raise `Away` where a database cannot be reached, or goes away in the middle."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error if isinstance(error, DBAPIError) else error.__cause__
        if isinstance(cause, DBAPIError) and is_loss(cause):
            raise Away(_said_by(cause)) from error
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


class Outage:
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
        """Raise `Away` while the database is."""
        if self.is_on:
            raise Away("it is waited for")

    def lines(self) -> list[str]:
        """Return what is to be said since this was last asked."""
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def begin(self, away: Away) -> None:
        """Note that the database has not answered.

        Raises:
            Away: it has been waited for long enough.
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
                raise Away(
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
        self, change: Callable[[bool], Value], meanwhile: Callable[[], None] = lambda: None
    ) -> Value:
        """Return what comes of a change, asked for until the database answers.

        Args:
            change: is told whether it was asked for before: it may then have been made.
            meanwhile: is called before each pause.

        Raises:
            Away: it has been waited for long enough.
        """
        again, pause_s = False, _FIRST_PAUSE_S
        while True:
            try:
                value = change(again)
            except Away as away:
                self.begin(away)
                again = True
            else:
                self.answered()
                return value
            meanwhile()
            self._given_up.wait(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def told_s(seconds: float) -> str:
    """Return a time as it is told: 42 s, 30 min."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
