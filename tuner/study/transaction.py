"""Several of Optuna's changes to an SQL database as one transaction: all of them or none."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import scoped_session, sessionmaker

from tuner.errors import InvalidInput
from tuner.study.outage import Away, answering, state_of

Value = TypeVar("Value")
# The seconds since 1970, by the clock of the database.
_CLOCK = {
    "postgresql": "extract(epoch from clock_timestamp())",
    "mysql": "unix_timestamp(sysdate(6))",
    "mariadb": "unix_timestamp(sysdate(6))",
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
}
# A deadlock, or a lock that took too long: the database has undone all, and may be asked again.
_PASSING = ("40001", "40P01", "1205", "1213", "database is locked")
_ATTEMPTS = 5


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
        Away: the database does not answer. If it has gone at the very end, all may have been done.
    """
    with _connected(database) as connection, connection.begin():
        if writes and connection.dialect.name == "sqlite":
            # It has no locks on rows. A reader that comes to write would fail, not wait.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        bound = object.__new__(RDBStorage)  # a copy would connect once more
        bound.__dict__.update(database.__dict__)
        bound.scoped_session = scoped_session(
            sessionmaker(bind=connection, join_transaction_mode="rollback_only")
        )
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
        except Away:
            # It may be to a server that answers, but has become a standby.
            connection.invalidate()
            raise


def attempt(change: Callable[[], Value]) -> Value:
    """Return what comes of a transaction, tried again if it was undone for another's sake."""
    for _ in range(_ATTEMPTS - 1):
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
