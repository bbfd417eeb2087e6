"""Which of the drivers of a study live, as one of them sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from optuna.trial import FrozenTrial, TrialState

from tuner.study import driver as drivers
from tuner.study.driver import DRIVER, Record


class Presence:
    """Watches the other drivers' records.

    A driver is dead when it has been silent for `DEAD_AFTER_S` by the database's clock, and for two
    beats while this process looked: a clock that is set forward kills nobody. After the database
    was away it takes `DEAD_AFTER_S` of looking.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[object, float] = {}  # what was seen -> when first
        self._told: set[object] = set()
        self._alive: dict[str, Record] = {}
        self._spared_until = 0.0

    def spare(self) -> None:
        """Let nobody be dead for `DEAD_AFTER_S`: the database was away, and who comes back to it
        later than this process must be heard again before."""
        self._spared_until = self._clock() + drivers.DEAD_AFTER_S

    def look(
        self, records: Mapping[str, Record], now: float
    ) -> tuple[dict[str, Record], list[str]]:
        """Return the drivers that are dead, and what is to be said of any.

        Args:
            records: of the other drivers, by id.
            now: the time by the database's clock.
        """
        alive = {id_: record for id_, record in records.items() if record.session}
        lines = [
            f"{record.where} works on this study too"
            for id_, record in alive.items()
            if self._is_new((id_, record.session)) and now - record.beat <= drivers.DEAD_AFTER_S
        ]
        lines += [
            f"{before.where} works on this study no longer"
            for id_, before in self._alive.items()
            if id_ not in alive and (id_, before.session) in self._told
        ]
        seen = {(id_, record.session, record.beat): self._clock() for id_, record in alive.items()}
        self._since = {key: self._since.get(key, at) for key, at in seen.items()}
        dead = {}
        for id_, record in alive.items():
            key = (id_, record.session, record.beat)
            silent = now - record.beat
            looked = self._clock() - self._since[key]
            spared = self._spared_until - self._clock()
            if silent > drivers.DEAD_AFTER_S and looked >= 2 * drivers.BEAT_S and spared <= 0:
                dead[id_] = record
            elif silent > 3 * drivers.BEAT_S and self._is_new(key):
                wait = max(drivers.DEAD_AFTER_S - silent, 2 * drivers.BEAT_S - looked, spared)
                lines.append(
                    f"{record.where} has been silent for {silent:.0f} s; its trials are taken up "
                    f"in {wait:.0f} s if it stays so"
                )
        self._alive = {id_: record for id_, record in alive.items() if id_ not in dead}
        return dead, lines

    def _is_new(self, key: object) -> bool:
        new = key not in self._told
        self._told.add(key)
        return new


class Nobodys:
    """Watches the trials that run and are no driver's, but an older version's or plain Optuna's.

    Nobody knows whether what runs them lives, so they are left alone while any of them reports.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[int, int] = {}
        self._since = 0.0

    def spare(self) -> None:
        """Begin anew: the database was away, and nobody could report."""
        self._since = self._clock()

    def look(self, trials: Iterable[FrozenTrial]) -> tuple[list[int], list[str]]:
        """Return the ids of those to be taken up, and what is to be said."""
        seen = {
            trial._trial_id: len(trial.user_attrs) + len(trial.intermediate_values)
            for trial in trials
            if trial.state == TrialState.RUNNING and DRIVER not in trial.system_attrs
        }
        before, self._seen = self._seen, seen
        if seen != before:
            self._since = self._clock()
        if not seen:
            return [], []
        if self._clock() - self._since > drivers.DEAD_AFTER_S:
            return list(seen), []
        if before.keys() >= seen.keys():
            return [], []
        return [], [
            f"{len(seen)} trials run that are no known driver's; they are taken up if none of them "
            f"reports for {drivers.DEAD_AFTER_S:.0f} s"
        ]
