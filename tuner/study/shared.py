"""One study in an SQL database, which several processes change at a time.

Each change is one transaction, made of Optuna's own methods. What has to be done by one at a time
holds the study's row: to make a trial, which gives it its number and keeps the limit on how many
there may be; to claim one that nobody runs; to end a driver, dead or alive. What a driver writes of
its own trials holds its record only, and is refused once others have declared it dead, so that
nothing arrives late.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.study import driver as drivers
from tuner.study.driver import DRIVER, Driver, Record, Superseded, records_in
from tuner.study.transaction import attempt, check_kind, seconds_now, transaction

Value = TypeVar("Value")


class Made(NamedTuple):
    """A trial that was made: its id in the database, and its number in the study."""

    trial_id: int
    number: int


class SharedStudy:
    """A study as one driver changes it in the database.

    Args:
        database: where it is.
        driver: which one; None for a visitor, who only adds to the study.

    Attributes:
        study_id: its id in the database.
        joined: whether this driver works on it.

    Raises:
        InvalidInput: the database is of a kind that nobody has tried this on.
        Superseded: (all that changes the study) others have declared this driver dead, or a process
            has taken its place.
    """

    def __init__(self, database: RDBStorage, driver: Driver | None = None) -> None:
        check_kind(database)
        self._database = database
        self._driver = driver
        self._session = uuid.uuid4().hex
        self.study_id = -1
        self.joined = False
        self._beat_at = -drivers.BEAT_S

    def create_study(self, directions: Sequence[StudyDirection], name: str | None) -> int:
        """Make the study and join it; return its id in the database.

        Raises:
            DuplicatedStudyError: there is one of that name.
        """
        return self.join(self._database.create_new_study(directions, name))

    def join(self, study_id: int) -> int:
        """Work on a study from now on, in place of any process that this driver was before."""
        self.study_id = study_id
        if self._driver:
            with self._locked(alive=False) as database:
                record = Record(self._driver.where, self._driver.trials, self._session, 0.0)
                self._beat(database, record)
        self.joined = True
        return study_id

    def keep_trials_at(self, trials: str) -> None:
        """Let the other drivers know where the folders of this one's trials are."""
        if self._driver and trials != self._driver.trials:
            self._driver = replace(self._driver, trials=trials)
            self._beat_at = -drivers.BEAT_S
            self.write(lambda database: None)

    def agree(self, attrs: Mapping[str, Any], *, over: bool) -> dict[str, Any]:
        """Set user attributes of the study that it lacks, unless it has others than these, and
        return all it then has.

        `over` sets them anew where no trial was made yet, and no other driver works on it.
        """

        def set_them() -> dict[str, Any]:
            with self._locked() as database:
                kept = database.get_study_user_attrs(self.study_id)
                others = self._records(database)
                free = over and not self._count(database) and not any_alive(others)
                for key, value in to_set(attrs, kept, free=free).items():
                    database.set_study_user_attr(self.study_id, key, value)
                return database.get_study_user_attrs(self.study_id)

        return attempt(set_them)

    def create_trial(
        self, template: FrozenTrial | None = None, limit: int | None = None
    ) -> Made | None:
        """Make a trial of this driver, or one as the template; None if there are `limit` trials."""

        def make() -> Made | None:
            with self._locked() as database:
                if limit is not None and self._count(database) >= limit:
                    return None
                session = database.scoped_session()
                made = database._get_prepared_new_trial(self.study_id, template, session)
                session.flush()
                trial_id, number = int(str(made.trial_id)), int(str(made.number))
                if self._driver and template is None:
                    name = json.dumps(self._driver.id)
                    session.add(
                        models.TrialSystemAttributeModel(
                            trial_id=trial_id, key=DRIVER, value_json=name
                        )
                    )
                return Made(trial_id, number)

        return attempt(make)

    def claim(self, trial_id: int) -> FrozenTrial | None:
        """Take up a trial that waits for anybody; None if another was faster."""

        def take() -> FrozenTrial | None:
            with self._locked() as database:
                if not database.set_trial_state_values(trial_id, TrialState.RUNNING):
                    return None
                self._put_name_on(database, trial_id)
                return database.get_trial(trial_id)

        try:
            return attempt(take)
        except UpdateFinishedTrialError:
            return None

    def inherit(self, trial_id: int) -> FrozenTrial | None:
        """Go on with a trial that an earlier process of this driver has left, which may have run.

        Returns: None if another has taken it up.
        """

        def take() -> FrozenTrial | None:
            with self._locked() as database:
                trial = database.get_trial(trial_id)
                if trial.state == TrialState.WAITING:
                    database.set_trial_state_values(trial_id, TrialState.RUNNING)
                elif trial.state != TrialState.RUNNING or self._is_anothers(trial):
                    return None
                self._put_name_on(database, trial_id)
                return database.get_trial(trial_id)

        return attempt(take)

    def write(self, change: Callable[[RDBStorage], None], *, touches_study: bool = False) -> None:
        """Change trials of this driver, and the study itself if so, all or nothing.

        It also says that this driver lives, when the time has come.
        """

        def change_all() -> None:
            with self._locked() if touches_study else transaction(self._database) as database:
                if self._driver:
                    record = self._own(database, lock=True)
                    if time.monotonic() - self._beat_at >= drivers.BEAT_S / 2:
                        self._beat(database, replace(record, trials=self._driver.trials))
                change(database)

        attempt(change_all)

    def say_alive(self) -> None:
        """Let the other drivers know that this one lives, once the time has come."""
        if time.monotonic() - self._beat_at >= drivers.BEAT_S:
            self.write(lambda database: None)

    def news(self, after: int, among: Collection[int]) -> list[FrozenTrial]:
        """Return the trials with these ids in the database, and all with ids greater than `after`,
        in the order of their numbers."""
        with transaction(self._database, writes=False) as database:
            return database._get_trials(self.study_id, None, set(among), after)

    def others(self) -> tuple[dict[str, Record], float]:
        """Return the other drivers of the study by id, and the time by the database's clock."""
        with transaction(self._database, writes=False) as database:
            return self._records(database), seconds_now(database)

    def bury(self, driver_id: str, record: Record) -> list[int]:
        """Leave to anybody the trials of a driver that has been silent too long.

        Returns: their numbers; none if it has come to life, or another has been faster.
        """

        def bury_it() -> list[int]:
            with self._locked() as database:
                known = self._records(database, lock=True).get(driver_id)
                if known is None or known.session != record.session:
                    return []
                if seconds_now(database) - known.beat <= drivers.DEAD_AFTER_S:
                    return []
                return self._end(database, driver_id, known)

        return attempt(bury_it)

    def leave_to_anybody(self, trial_ids: Collection[int]) -> list[int]:
        """Let trials wait that run and are no driver's; return their numbers."""

        def leave() -> list[int]:
            with self._locked() as database:
                return self._release(
                    database,
                    lambda trial: DRIVER not in trial.system_attrs and trial._trial_id in trial_ids,
                )

        return attempt(leave)

    def leave(self) -> None:
        """Work on the study no longer; what has not ended is left to anybody."""
        if self._driver is None or not self.joined:
            return

        def end() -> None:
            with self._locked() as database:
                record = self._own(database)
                assert self._driver is not None, "a visitor has no record"
                self._end(database, self._driver.id, record)

        attempt(end)

    def _is_anothers(self, trial: FrozenTrial) -> bool:
        own = self._driver.id if self._driver else None
        return bool(trial.system_attrs.get(DRIVER, own) != own)

    def _put_name_on(self, database: RDBStorage, trial_id: int) -> None:
        if self._driver:
            database.set_trial_system_attr(trial_id, DRIVER, self._driver.id)

    def _end(self, database: RDBStorage, driver_id: str, record: Record) -> list[int]:
        gone = vars(replace(record, session=""))
        database.set_study_system_attr(self.study_id, drivers.key_of(driver_id), gone)
        return self._release(database, lambda trial: trial.system_attrs.get(DRIVER) == driver_id)

    def _release(self, database: RDBStorage, wanted: Callable[[FrozenTrial], bool]) -> list[int]:
        running = database.get_all_trials(
            self.study_id, deepcopy=False, states=(TrialState.RUNNING,)
        )
        released = [trial for trial in running if wanted(trial)]
        for trial in released:
            database.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        return [trial.number for trial in released]

    def _beat(self, database: RDBStorage, record: Record) -> None:
        assert self._driver is not None, "a visitor has no record"
        begun = time.monotonic()
        alive = vars(replace(record, beat=seconds_now(database)))
        database.set_study_system_attr(self.study_id, self._driver.key, alive)
        self._beat_at = begun

    def _count(self, database: RDBStorage) -> int:
        trials = models.TrialModel
        query = sqlalchemy.select(sqlalchemy.func.count(trials.trial_id)).where(
            trials.study_id == self.study_id
        )
        return int(database.scoped_session().execute(query).scalar_one())

    def _own(self, database: RDBStorage, *, lock: bool = False) -> Record:
        """Return this driver's record, if it is still the one of this process."""
        assert self._driver is not None, "a visitor has no record"
        own = models.StudySystemAttributeModel.key == self._driver.key
        record = self._read(database, own, lock).get(self._driver.id)
        if record is None or record.session != self._session:
            raise Superseded(
                f"a process that runs a study must say so every {drivers.DEAD_AFTER_S:g} s, this "
                "one did not, or another was started in its place; others go on with its trials: "
                "run it again to work with them"
            )
        return record

    def _records(self, database: RDBStorage, *, lock: bool = False) -> dict[str, Record]:
        """Return the records of the other drivers."""
        key = models.StudySystemAttributeModel.key
        records = self._read(database, key.like(f"{drivers.key_of('')}%"), lock)
        if self._driver:
            records.pop(self._driver.id, None)
        return records

    def _read(self, database: RDBStorage, which: Any, lock: bool) -> dict[str, Record]:
        attributes = models.StudySystemAttributeModel
        query = sqlalchemy.select(attributes.key, attributes.value_json).where(
            attributes.study_id == self.study_id, which
        )
        rows = database.scoped_session().execute(query.with_for_update() if lock else query).all()
        return records_in({key: json.loads(value) for key, value in rows})

    @contextmanager
    def _locked(self, *, alive: bool = True) -> Iterator[RDBStorage]:
        """A transaction that is the only one to hold the study; this driver must be `alive`."""
        with transaction(self._database) as database:
            session = database.scoped_session()
            models.StudyModel.find_or_raise_by_id(self.study_id, session, for_update=True)
            if alive and self._driver:
                self._own(database)
            yield database


def any_alive(records: Mapping[str, Record]) -> bool:
    """Whether a process runs any of these drivers, as far as it has not been declared dead."""
    return any(record.session for record in records.values())


def to_set(attrs: Mapping[str, Any], kept: Mapping[str, Any], *, free: bool) -> dict[str, Any]:
    """Return which attributes a study gets that has those `kept`, and may be set anew if `free`."""
    if not free and any(kept.get(key, value) != value for key, value in attrs.items()):
        return {}
    return {key: value for key, value in attrs.items() if key not in kept or kept[key] != value}
