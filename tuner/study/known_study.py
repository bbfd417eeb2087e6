"""A study in a database as one process knows it: in memory, with whose each trial is."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from tuner.study import driver as drivers
from tuner.study.driver import DRIVER, Driver, Record
from tuner.study.mirror import RepeatedStorage
from tuner.study.record import CHECKPOINT


@dataclass
class News:
    """What others have done to the study since it was last asked.

    Attributes:
        ended: trials of theirs that have ended.
        lines: what is to be said of them, and of the database.
        changed: whether any trial is new, or is not as it was.
    """

    ended: list[FrozenTrial] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    changed: bool = False


class KnownStudy(RepeatedStorage):
    """One study of a database in memory. Ids are those here; the database has others.

    What the database has is taken in trial by trial, but a trial that this process runs is never
    overwritten.

    Args:
        driver: of the process that runs the study; None for one that only adds to it.
    """

    def __init__(self, driver: Driver | None) -> None:
        super().__init__()
        self.driver = driver
        self._study = 0
        self._stored: dict[int, int] = {}  # trial id here -> trial id in the database
        self._here: dict[int, int] = {}  # and back
        self._mine: set[int] = set()
        self._others: set[int] = set()  # trials of others that have not ended
        self._news = News()

    @property
    def records(self) -> dict[str, Record]:
        """What is known of the study's drivers, by id."""
        return drivers.records_in(self.get_study_system_attrs(self._study))

    @property
    def others(self) -> list[FrozenTrial]:
        """The trials of others that have not ended, and those that wait for anybody, in order."""
        return [self.get_trial(trial_id) for trial_id in sorted(self._others)]

    def is_free(self, trial: FrozenTrial) -> bool:
        """Whether a trial is to be taken up: it waits for anybody, or is this driver's unheard.

        That is one that this process has made or claimed in the database, which went away before it
        said so.
        """
        if trial.state == TrialState.WAITING:
            return True
        unheard = self.driver is not None and trial.system_attrs.get(DRIVER) == self.driver.id
        return unheard and trial._trial_id in self._others

    def _know(self, user_attrs: Mapping[str, Any]) -> None:
        for key, value in user_attrs.items():
            InMemoryStorage.set_study_user_attr(self, self._study, key, value)

    def _know_drivers(self, records: Mapping[str, Record]) -> None:
        for driver_id, record in records.items():
            InMemoryStorage.set_study_system_attr(
                self, self._study, drivers.key_of(driver_id), vars(record)
            )

    def _unknown(self) -> tuple[int, list[int]]:
        """Ids in the database: trials past the first may be new, the others may have changed."""
        with self._lock:
            return max(self._here, default=-1), [self._stored[here] for here in self._others]

    def _take_in(self, trials: Iterable[FrozenTrial]) -> None:
        """Have in memory what the database has of trials of others."""
        for stored in trials:
            trial_id = self._here.get(stored._trial_id)
            if trial_id is None:
                trial_id = self._append(stored._trial_id, stored)
            elif trial_id in self._mine or self._is_as(trial_id, stored):
                continue
            else:
                self._replace(trial_id, stored)
            self._news.changed = True
            with self._lock:
                self._others.add(trial_id)
                if stored.state.is_finished():
                    self._others.discard(trial_id)
                    self._news.ended.append(self.get_trial(trial_id))

    def _is_as(self, trial_id: int, stored: FrozenTrial) -> bool:
        known = self.get_trial(trial_id)
        return known.state.is_finished() or _written(known) == _written(stored)

    def _append(self, stored_id: int, trial: FrozenTrial | None) -> int:
        with self._lock:
            trial_id = InMemoryStorage.create_new_trial(self, self._study, trial)
            self._stored[trial_id], self._here[stored_id] = stored_id, trial_id
            return trial_id

    def _replace(self, trial_id: int, stored: FrozenTrial) -> None:
        trial = copy.copy(stored)
        trial._trial_id = trial_id
        with self._lock:
            self._set_trial(trial_id, trial)
            self._update_cache(trial_id, self._study)

    def _own(self, trial_id: int) -> None:
        with self._lock:
            self._mine.add(trial_id)
            self._others.discard(trial_id)


def _written(trial: FrozenTrial) -> tuple[object, ...]:
    """What differs between two states of a trial; reports never change."""
    return (
        trial.state,
        len(trial.params),
        len(trial.user_attrs),
        len(trial.intermediate_values),
        trial.user_attrs.get(CHECKPOINT),
        trial.system_attrs,
    )
