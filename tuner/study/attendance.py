"""The drivers' records in the database of a study: which this process has to keep, and others'."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy
from optuna.storages import RDBStorage
from optuna.storages._rdb import models

from tuner.study import driver as drivers
from tuner.study.driver import Driver, Record, Superseded, records_in
from tuner.study.transaction import seconds_now


class Attendance:
    """Reads the records and says that this driver lives, in transactions of the caller's.

    Args:
        driver: this one; None for a visitor, who has no record.

    Attributes:
        study_id: of the study in the database.
    """

    def __init__(self, driver: Driver | None) -> None:
        self._driver = driver
        self._session = uuid.uuid4().hex
        self.study_id = -1
        self.forget_beat()

    def begin(self, database: RDBStorage) -> None:
        """Write the record of this process, in place of any that this driver was before."""
        if self._driver:
            record = Record(self._driver.where, self._driver.trials, self._session, 0.0)
            self._beat(database, record)

    def go_on(self, database: RDBStorage) -> None:
        """Hold this driver's record to the transaction's end, and say that it lives if it is time.

        Raises:
            Superseded: others have declared it dead, or a process has taken its place.
        """
        if self._driver:
            record = self.own(database, lock=True)
            if self.is_time(drivers.BEAT_S / 2):
                self._beat(database, replace(record, trials=self._driver.trials))

    def move(self, trials: str) -> None:
        """Say at the next time, which is now, that the trials' folders are elsewhere."""
        if self._driver:
            self._driver = replace(self._driver, trials=trials)
            self.forget_beat()

    def is_time(self, every_s: float) -> bool:
        """Whether this driver has last said that it lives so many seconds ago, or more."""
        return time.monotonic() - self._beat_at >= every_s

    def forget_beat(self) -> None:
        """Take it that nobody has heard that this driver lives."""
        self._beat_at = -drivers.BEAT_S

    def end(self, database: RDBStorage, driver_id: str, record: Record) -> None:
        """Write that no process runs a driver any more."""
        gone = vars(replace(record, session=""))
        database.set_study_system_attr(self.study_id, drivers.key_of(driver_id), gone)

    def own(self, database: RDBStorage, *, lock: bool = False) -> Record:
        """Return this driver's record, if it is still the one of this process.

        Raises:
            Superseded: it is not.
        """
        record = self._own(database, lock)
        if record is None or record.session != self._session:
            raise Superseded(
                f"a process that runs a study must say so every {drivers.DEAD_AFTER_S:g} s, this "
                "one did not, or another was started in its place; others go on with its trials: "
                "run it again to work with them"
            )
        return record

    def has_left(self, database: RDBStorage) -> bool:
        """Whether no process runs this driver any more."""
        record = self._own(database, lock=False)
        return record is not None and not record.session

    def others(self, database: RDBStorage, *, lock: bool = False) -> dict[str, Record]:
        """Return the records of the other drivers, by id."""
        key = models.StudySystemAttributeModel.key
        records = self._read(database, key.like(f"{drivers.key_of('')}%"), lock)
        if self._driver:
            records.pop(self._driver.id, None)
        return records

    def _own(self, database: RDBStorage, lock: bool) -> Record | None:
        assert self._driver is not None, "a visitor has no record"
        own = models.StudySystemAttributeModel.key == self._driver.key
        return self._read(database, own, lock).get(self._driver.id)

    def _read(self, database: RDBStorage, which: Any, lock: bool) -> dict[str, Record]:
        attributes = models.StudySystemAttributeModel
        query = sqlalchemy.select(attributes.key, attributes.value_json).where(
            attributes.study_id == self.study_id, which
        )
        rows = database.scoped_session().execute(query.with_for_update() if lock else query).all()
        return records_in({key: json.loads(value) for key, value in rows})

    def _beat(self, database: RDBStorage, record: Record) -> None:
        assert self._driver is not None, "a visitor has no record"
        begun = time.monotonic()
        alive = vars(replace(record, beat=seconds_now(database)))
        database.set_study_system_attr(self.study_id, self._driver.key, alive)
        self._beat_at = begun


def any_alive(records: Mapping[str, Record]) -> bool:
    """Whether a process runs any of these drivers, as far as it has not been declared dead."""
    return any(record.session for record in records.values())
