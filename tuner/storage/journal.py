"""The embedded storage: a journal file in the study's folder, written behind the decisions.

Optuna's journal storage answers every read from memory. It learns its state only from the log that
it replays. So writing behind needs only one small backend. The backend returns each log entry at
once. A thread appends the entries to the file in batches, with one fsync per batch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from tuner.storage.batch_writer import BatchWriter


class WriteBehindJournal(BaseJournalBackend):
    """A journal that one process writes in batches. Reads return entries before they are on disk.

    The caller must hold the study's lock, because entries that another process appends later are
    not read. Readers in other processes need no lock.

    Args:
        path: the journal file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        _drop_torn_line(path)
        # A killed writer leaves Optuna's lock file. The study's lock excludes any other writer.
        Path(f"{path}.lock").unlink(missing_ok=True)
        file = JournalFileBackend(str(path))
        self._entries: list[dict[str, Any]] = list(file.read_logs(0))
        self._first = 0  # the number of self._entries[0] in the log
        self._writer = BatchWriter(file.append_logs)
        self.flush = self._writer.flush
        self.close = self._writer.close

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        # The only reader never goes back, so the entries that it has read are dropped.
        del self._entries[: log_number_from - self._first]
        self._first = log_number_from
        return list(self._entries)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        # The same plain JSON that a reader of the file gets; it shares no objects with the caller.
        plain = json.loads(json.dumps(logs))
        self._writer.put(plain)
        self._entries += plain


def read_journal(path: Path) -> JournalStorage:
    """Open a journal for reading, even while another process writes it."""
    return JournalStorage(JournalFileBackend(str(path)))


def _drop_torn_line(path: Path) -> None:
    """Remove an incomplete last line of a killed writer, so that the next entry begins a line."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())
