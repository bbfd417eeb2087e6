"""The embedded storage: a journal file in the study's folder, written behind the decisions.

Optuna's journal storage answers every read from memory and knows its state only by the log that it
replays. So writing behind needs one small backend, which hands each log entry back at once while a
thread appends what has gathered to the file with one fsync per batch.
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
    """A journal that one process writes, in batches behind what it has already been told.

    The caller must hold the experiment's lock: entries that another process appends after this one
    has opened the file are not seen. Readers in other processes need no lock.
    """

    def __init__(self, path: Path) -> None:
        _drop_torn_line(path)
        # A killed writer leaves Optuna's lock behind; whoever holds the experiment's is alone.
        Path(f"{path}.lock").unlink(missing_ok=True)
        file = JournalFileBackend(str(path))
        self._entries: list[dict[str, Any]] = list(file.read_logs(0))
        self._first = 0  # the number of self._entries[0] in the log
        self._writer = BatchWriter(file.append_logs)
        self.flush = self._writer.flush
        self.close = self._writer.close

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        # Its one reader never goes back, so what it has read is dropped.
        del self._entries[: log_number_from - self._first]
        self._first = log_number_from
        return list(self._entries)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        # As a reader of the file would see them: plain JSON, sharing nothing with the caller.
        plain = json.loads(json.dumps(logs))
        self._writer.put(plain)
        self._entries += plain


def read_journal(path: Path) -> JournalStorage:
    """Open a journal for reading, even while another process is writing it."""
    return JournalStorage(JournalFileBackend(str(path)))


def _drop_torn_line(path: Path) -> None:
    """Cut a last line that a killed writer left without its end: the next would run into it."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())
