"""What the other drivers of a study do, looked for on the thread that writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from tuner.study import driver as drivers
from tuner.study.attendance import any_alive
from tuner.study.driver import Record
from tuner.study.presence import Nobodys, Presence
from tuner.study.shared import SharedStudy

# While others work on the study it is looked at this often, but for a tenth of the time at most.
_LOOK_S = 1.0
_LOOKING_SHARE = 0.1


@dataclass(frozen=True)
class Seen:
    """What one look has found.

    Attributes:
        trials: of others, those that were asked for and the new ones.
        records: of the other drivers, by id.
        lines: what is to be said of them.
        pulls: as it was given to the look.
    """

    trials: list[FrozenTrial]
    records: dict[str, Record]
    lines: list[str]
    pulls: int


class Lookout:
    """Says that its driver lives, looks at the others, and leaves to anybody what the dead ran.

    Args:
        shared: the study.
    """

    def __init__(self, shared: SharedStudy) -> None:
        self._shared = shared
        self._presence, self._nobodys = Presence(), Nobodys()
        self._next = 0.0
        self._answered = time.monotonic()
        self._seen: list[Seen] = []
        self._lock = threading.Lock()

    def seen(self) -> Sequence[Seen]:
        """Return what was found since this was last asked, in order."""
        if not self._seen:
            return ()
        with self._lock:
            seen, self._seen = self._seen, []
            return seen

    def look(self, after: int, among: Collection[int], pulls: int, *, back: bool = False) -> None:
        """Look, if it is time: for trials with these ids in the database, or greater than `after`.

        A database that fails is asked again, for as long as this driver is not dead. When it comes
        `back`, having been away for all, it is the time, and nobody is dead yet.

        Raises:
            Away: it is away.
        """
        begun = time.monotonic()
        if begun < self._next and not back:
            return
        if back:
            self._presence.spare()
            self._nobodys.spare()
            self._shared.say_alive(now=True)
        try:
            seen = self._look(after, among, pulls)
        except (SQLAlchemyError, StorageInternalError):
            if time.monotonic() - self._answered > drivers.DEAD_AFTER_S:
                raise
            return
        with self._lock:
            self._seen.append(seen)
        self._answered = time.monotonic()
        alone = not seen.trials and not any_alive(seen.records)
        every_s = drivers.BEAT_S if alone else min(_LOOK_S, drivers.BEAT_S)
        self._next = begun + max(every_s, (self._answered - begun) / _LOOKING_SHARE)

    def _look(self, after: int, among: Collection[int], pulls: int) -> Seen:
        self._shared.say_alive()
        trials = self._shared.news(after, among)
        records, now = self._shared.others()
        dead, lines = self._presence.look(records, now)
        for driver_id, record in dead.items():
            taken = self._shared.bury(driver_id, record)
            lines.append(f"{record.where} is taken for dead; trials to take up: {_listed(taken)}")
        nobodys, more = self._nobodys.look(trials)
        lines += more
        if nobodys:
            taken = self._shared.leave_to_anybody(nobodys)
            lines.append(f"nobody seems to run trials {_listed(taken)}; they are taken up")
        return Seen(trials, records, lines, pulls)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
