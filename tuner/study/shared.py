"""One study in an SQL database, which several processes change at a time.

Each change is one transaction, made of Optuna's own methods. What has to be done by one at a time
holds the study's row: to make a trial, which gives it its number and keeps the limit on how many
there may be; to claim one that nobody runs; to end a driver, dead or alive. What a driver writes of
its own trials holds its record only, and is refused once others have declared it dead, so that
nothing arrives late.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.study import driver as drivers
from tuner.study.attendance import Attendance, any_alive
from tuner.study.driver import DRIVER, Driver, Record
from tuner.study.outage import Away
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
        Away: the database does not answer; a change may have been made all the same. Each may be
            asked for again, and is then not made twice, but for a trial: that is there, with this
            driver's name.
    """

    def __init__(self, database: RDBStorage, driver: Driver | None = None) -> None:
        check_kind(database)
        self._database = database
        self._driver = driver
        self._attendance = Attendance(driver)
        self.study_id = -1
        self.joined = False

    def create_study(self, directions: Sequence[StudyDirection], name: str | None) -> int:
        """Make the study and join it; return its id in the database.

        Raises:
            DuplicatedStudyError: there is one of that name.
        """
        return self.join(self._database.create_new_study(directions, name))

    def join(self, study_id: int) -> int:
        """Work on a study from now on, in place of any process that this driver was before."""
        self.study_id = self._attendance.study_id = study_id
        if self._driver:
            with self._locked(alive=False) as database:
                self._attendance.begin(database)
        self.joined = True
        return study_id

    def keep_trials_at(self, trials: str) -> None:
        """Let the other drivers know where the folders of this one's trials are."""
        self._attendance.move(trials)
        self.say_alive()

    def agree(self, attrs: Mapping[str, Any], *, over: bool) -> dict[str, Any]:
        """Set user attributes of the study that it lacks, unless it has others than these, and
        return all it then has.

        `over` sets them anew where no trial was made yet, and no other driver works on it.
        """

        def set_them() -> dict[str, Any]:
            with self._locked() as database:
                kept = database.get_study_user_attrs(self.study_id)
                others = self._attendance.others(database)
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
                    # Or this driver has been, and was not told.
                    trial = database.get_trial(trial_id)
                    return trial if self._is_its_own(trial) else None
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
                self._attendance.go_on(database)
                change(database)

        try:
            attempt(change_all)
        except Away:
            self._attendance.forget_beat()
            raise

    def say_alive(self, *, now: bool = False) -> None:
        """Let the other drivers know that this one lives, once the time has come or `now`."""
        if now:
            self._attendance.forget_beat()
        if self._driver and self._attendance.is_time(drivers.BEAT_S):
            self.write(lambda database: None)

    def news(self, after: int, among: Collection[int]) -> list[FrozenTrial]:
        """Return the trials with these ids in the database, and all with ids greater than `after`,
        in the order of their numbers."""
        with transaction(self._database, writes=False) as database:
            return database._get_trials(self.study_id, None, set(among), after)

    def others(self) -> tuple[dict[str, Record], float]:
        """Return the other drivers of the study by id, and the time by the database's clock."""
        with transaction(self._database, writes=False) as database:
            return self._attendance.others(database), seconds_now(database)

    def bury(self, driver_id: str, record: Record) -> list[int]:
        """Leave to anybody the trials of a driver that has been silent too long.

        Returns: their numbers; none if it has come to life, or another has been faster.
        """

        def bury_it() -> list[int]:
            with self._locked() as database:
                known = self._attendance.others(database, lock=True).get(driver_id)
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

    def leave(self, again: bool = False) -> None:
        """Work on the study no longer; what has not ended is left to anybody.

        Args:
            again: whether this was asked for before, and may have been done.
        """
        if self._driver is None or not self.joined:
            return
        driver_id = self._driver.id

        def end() -> None:
            with self._locked(alive=False) as database:
                if not (again and self._attendance.has_left(database)):
                    self._end(database, driver_id, self._attendance.own(database))

        attempt(end)

    def _is_anothers(self, trial: FrozenTrial) -> bool:
        own = self._driver.id if self._driver else None
        return bool(trial.system_attrs.get(DRIVER, own) != own)

    def _is_its_own(self, trial: FrozenTrial) -> bool:
        return self._driver is not None and trial.system_attrs.get(DRIVER) == self._driver.id

    def _put_name_on(self, database: RDBStorage, trial_id: int) -> None:
        if self._driver:
            database.set_trial_system_attr(trial_id, DRIVER, self._driver.id)

    def _end(self, database: RDBStorage, driver_id: str, record: Record) -> list[int]:
        self._attendance.end(database, driver_id, record)
        return self._release(database, lambda trial: trial.system_attrs.get(DRIVER) == driver_id)

    def _release(self, database: RDBStorage, wanted: Callable[[FrozenTrial], bool]) -> list[int]:
        running = database.get_all_trials(
            self.study_id, deepcopy=False, states=(TrialState.RUNNING,)
        )
        released = [trial for trial in running if wanted(trial)]
        for trial in released:
            database.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        return [trial.number for trial in released]

    def _count(self, database: RDBStorage) -> int:
        trials = models.TrialModel
        query = sqlalchemy.select(sqlalchemy.func.count(trials.trial_id)).where(
            trials.study_id == self.study_id
        )
        return int(database.scoped_session().execute(query).scalar_one())

    @contextmanager
    def _locked(self, *, alive: bool = True) -> Iterator[RDBStorage]:
        """A transaction that is the only one to hold the study; this driver must be `alive`."""
        with transaction(self._database) as database:
            session = database.scoped_session()
            models.StudyModel.find_or_raise_by_id(self.study_id, session, for_update=True)
            if alive and self._driver:
                self._attendance.own(database)
            yield database


def to_set(attrs: Mapping[str, Any], kept: Mapping[str, Any], *, free: bool) -> dict[str, Any]:
    """Return which attributes a study gets that has those `kept`, and may be set anew if `free`."""
    if not free and any(kept.get(key, value) != value for key, value in attrs.items()):
        return {}
    return {key: value for key, value in attrs.items() if key not in kept or kept[key] != value}
