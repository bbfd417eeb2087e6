"""How the thread that decides asks a database: as soon as it answers, or now or never."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from tuner.errors import NotStored
from tuner.study.outage import Away, Outage, answering

Value = TypeVar("Value")


class Asking:
    """Asks on behalf of a thread that must not wait while trials train, but may before and after.

    Args:
        outage: whether the database is away, as another thread finds out too.
        say: is called with a line while this one waits.

    Raises:
        NotStored: (all that asks) the database fails, or was waited for long enough.
    """

    def __init__(self, outage: Outage, say: Callable[[str], None]) -> None:
        self._outage = outage
        self._say = say

    def patiently(self, change: Callable[[bool], Value]) -> Value:
        """Return what comes of a change, once the database answers.

        Args:
            change: is told whether it may have been made before.
        """
        with self.waiting(), _stored():
            return self._outage.wait_for(change, self.mention)

    def at_once(self, change: Callable[[], Value]) -> Value:
        """Return what comes of a change.

        Raises:
            Away: the database does not answer, or has not yet been told all that it has missed.
        """
        self._outage.check()
        try:
            with _stored():
                return change()
        except Away as away:
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
