"""A thread that writes behind: what is handed to it is on disk a moment later, in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from tuner.errors import InvalidInput, NotStored

Item = TypeVar("Item")
_MEANWHILE_S = 0.1


class BatchWriter(Generic[Item]):
    """Applies `write` to what gathers while the previous batch is being written, in order.

    Args:
        write: takes a batch.
        every_s: seconds after which it is called with an empty batch where nothing has gathered;
            None for never.

    Raises:
        NotStored: on the next `put`, `flush` or `close`, once `write` has failed with any error.
            What was handed over since the last successful batch is then not stored.
        InvalidInput: likewise, where that was the error.
    """

    def __init__(
        self, write: Callable[[list[Item]], None], *, every_s: float | None = None
    ) -> None:
        self._write = write
        self._every_s = every_s
        self._queue: list[Item] = []
        self._busy = False
        self._closed = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="study-writer", daemon=True)
        self._thread.start()

    def put(self, items: list[Item]) -> None:
        with self._changed:
            self._raise_if_broken()
            if self._closed:
                raise NotStored("the study is closed; nothing more can be written")
            self._queue += items
            self._changed.notify_all()

    def check(self) -> None:
        """Raise what has gone wrong, if anything has."""
        with self._changed:
            self._raise_if_broken()

    @property
    def left(self) -> int:
        """How many items wait to be written, besides the batch that is being written."""
        return len(self._queue)

    def flush(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Return once everything put so far is written; `meanwhile` is called while it waits."""
        while True:
            with self._changed:
                done = self._changed.wait_for(
                    lambda: self._error or not (self._queue or self._busy), _MEANWHILE_S
                )
                self._raise_if_broken()
            if done:
                return
            meanwhile()

    def close(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Write what is left and end the thread; `meanwhile` is called while it waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(_MEANWHILE_S)
            meanwhile()
        self._raise_if_broken()

    def _raise_if_broken(self) -> None:
        if isinstance(self._error, InvalidInput):
            raise self._error
        if self._error:
            raise NotStored(f"the study could not be written: {self._error}") from self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed, self._every_s)
                batch, self._queue = self._queue, []
                if not batch and self._closed:
                    return
                self._busy = True
            try:
                self._write(batch)
            except Exception as error:  # whatever it is, the deciding thread must hear of it
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._busy = False
                self._changed.notify_all()
