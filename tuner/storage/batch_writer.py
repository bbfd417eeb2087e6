"""A thread that writes behind: it writes items in batches shortly after they are put."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from tuner.errors import InvalidInput, NotStored

Item = TypeVar("Item")
_MEANWHILE_S = 0.1


class BatchWriter(Generic[Item]):
    """Calls `write` with batches of items, in order, on a thread of its own.

    A batch is all items that were put while the batch before was being written.

    Args:
        write: writes one batch.
        every_s: if no item is put for this many seconds, `write` is called with an empty batch.
            None means never.

    Raises:
        NotStored: on the next `put`, `check`, `flush` or `close` after `write` has failed. Items
            that were put after the last successful batch are then not stored.
        InvalidInput: likewise, if `write` raised InvalidInput.
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
        """Add items to the next batch."""
        with self._changed:
            self._raise_if_broken()
            if self._closed:
                raise NotStored("the study is closed; nothing more can be written")
            self._queue += items
            self._changed.notify_all()

    def check(self) -> None:
        """Raise the error of the thread, if it has failed."""
        with self._changed:
            self._raise_if_broken()

    @property
    def left(self) -> int:
        """The number of items that are not yet in a batch."""
        return len(self._queue)

    def flush(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until all items put so far are written.

        Args:
            meanwhile: is called every 0.1 s during the wait.
        """
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
        """Write the remaining items and end the thread.

        Args:
            meanwhile: is called every 0.1 s during the wait.
        """
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
            except Exception as error:  # any error must reach the thread that puts items
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._busy = False
                self._changed.notify_all()
