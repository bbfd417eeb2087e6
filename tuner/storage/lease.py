"""The lease that makes one driver the only writer of a study.

Each change is one transaction, made of Optuna's own methods. What has to be done by one at a time
holds the study's row: to make a trial, which gives it its number and keeps the limit on how many
there may be; to claim one that nobody runs; to end a driver, dead or alive. What a driver writes of
its own trials holds its record only, and is refused once others have declared it dead, so that
nothing arrives late.

Several may run one study at a time, from any host. Each has a record in the study: whether it
lives, and where its trials' checkpoints are. A trial says whose it is.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from tuner.errors import InvalidInput
from tuner.storage.database import (
    DatabaseUnavailable,
    attempt,
    check_kind,
    seconds_now,
    transaction,
)

# A driver says this often that it lives, and is dead to the others after this long without. Between
# them is room for a database that restarts, and for a process that swaps.
BEAT_S = 5.0
DEAD_AFTER_S = 60.0

# System attributes of a trial: the id of the driver that it belongs to, of the one whose folder
# holds its checkpoint, and whether it is paused at one.
DRIVER = "driver"
HOLDER = "checkpoint_driver"
PAUSED = "paused"
_RECORD = "driver:"  # system attribute of a study, with the driver's id


class LeaseLost(InvalidInput):
    """Another process goes on with what this one was running."""


@dataclass(frozen=True)
class Worker:
    """One study folder, as the other drivers of its study know it.

    Attributes:
        id: the same for every process that runs the study from this folder, one at a time.
        where: host and folder, to be shown.
        trials: where its trials' folders are: a path or a URL.
        is_heir: whether the folder ran the study before drivers had ids, so that trials that are
            nobody's are its own.
    """

    id: str
    where: str
    trials: str
    is_heir: bool = False

    @property
    def key(self) -> str:
        return key_of(self.id)


@dataclass(frozen=True)
class Lease:
    """What the study knows of a driver.

    Attributes:
        session: of the process that runs it; empty when none does.
        beat: when that last said that it lives, in seconds by the database's clock.
    """

    where: str
    trials: str
    session: str
    beat: float

    @classmethod
    def of(cls, value: Any) -> Lease | None:
        """Read a record; None of what is not one."""
        if not isinstance(value, dict) or not {"where", "trials"} <= value.keys():
            return None
        session, beat = str(value.get("session", "")), float(value.get("beat", 0.0))
        return cls(str(value["where"]), str(value["trials"]), session, beat)


def driver_of(folder: Path, trials: Path, *, is_known: bool) -> Worker:
    """Return the driver that runs a study from a folder, which has its id from now on.

    Args:
        folder: the study's, whose lock the caller holds.
        trials: where its trials' folders are.
        is_known: whether the study was run from there before.
    """
    file = id_file(folder)
    is_heir = is_known and not file.exists()
    if not file.exists():
        file.write_text(uuid.uuid4().hex)
    where = f"{socket.gethostname()}:{folder.absolute()}"
    return Worker(file.read_text().strip(), where, str(trials.absolute()), is_heir)


def id_file(folder: Path) -> Path:
    return folder / ".driver"


def key_of(driver_id: str) -> str:
    """Return the system attribute of a study that holds a driver's record."""
    return f"{_RECORD}{driver_id}"


def records_in(system_attrs: dict[str, Any]) -> dict[str, Lease]:
    """Return the drivers that a study's system attributes tell of, by id."""
    found = {
        key.removeprefix(_RECORD): Lease.of(value)
        for key, value in system_attrs.items()
        if key.startswith(_RECORD)
    }
    return {id_: record for id_, record in found.items() if record}


class LeaseTable:
    """Reads the records and says that this driver lives, in transactions of the caller's.

    Args:
        driver: this one; None for a visitor, who has no record.

    Attributes:
        study_id: of the study in the database.
    """

    def __init__(self, driver: Worker | None) -> None:
        self._driver = driver
        self._session = uuid.uuid4().hex
        self.study_id = -1
        self.forget_beat()

    def begin(self, database: RDBStorage) -> None:
        """Write the record of this process, in place of any that this driver was before."""
        if self._driver:
            record = Lease(self._driver.where, self._driver.trials, self._session, 0.0)
            self._beat(database, record)

    def go_on(self, database: RDBStorage) -> None:
        """Hold this driver's record to the transaction's end, and say that it lives if it is time.

        Raises:
            LeaseLost: others have declared it dead, or a process has taken its place.
        """
        if self._driver:
            record = self.own(database, lock=True)
            if self.is_time(BEAT_S / 2):
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
        self._beat_at = -BEAT_S

    def end(self, database: RDBStorage, driver_id: str, record: Lease) -> None:
        """Write that no process runs a driver any more."""
        gone = vars(replace(record, session=""))
        database.set_study_system_attr(self.study_id, key_of(driver_id), gone)

    def own(self, database: RDBStorage, *, lock: bool = False) -> Lease:
        """Return this driver's record, if it is still the one of this process.

        Raises:
            LeaseLost: it is not.
        """
        record = self._own(database, lock)
        if record is None or record.session != self._session:
            raise LeaseLost(
                f"a process that runs a study must say so every {DEAD_AFTER_S:g} s, this "
                "one did not, or another was started in its place; others go on with its trials: "
                "run it again to work with them"
            )
        return record

    def has_left(self, database: RDBStorage) -> bool:
        """Whether no process runs this driver any more."""
        record = self._own(database, lock=False)
        return record is not None and not record.session

    def others(self, database: RDBStorage, *, lock: bool = False) -> dict[str, Lease]:
        """Return the records of the other drivers, by id."""
        key = models.StudySystemAttributeModel.key
        records = self._read(database, key.like(f"{key_of('')}%"), lock)
        if self._driver:
            records.pop(self._driver.id, None)
        return records

    def _own(self, database: RDBStorage, lock: bool) -> Lease | None:
        assert self._driver is not None, "a visitor has no record"
        own = models.StudySystemAttributeModel.key == self._driver.key
        return self._read(database, own, lock).get(self._driver.id)

    def _read(self, database: RDBStorage, which: Any, lock: bool) -> dict[str, Lease]:
        attributes = models.StudySystemAttributeModel
        query = sqlalchemy.select(attributes.key, attributes.value_json).where(
            attributes.study_id == self.study_id, which
        )
        rows = database.scoped_session().execute(query.with_for_update() if lock else query).all()
        return records_in({key: json.loads(value) for key, value in rows})

    def _beat(self, database: RDBStorage, record: Lease) -> None:
        assert self._driver is not None, "a visitor has no record"
        begun = time.monotonic()
        alive = vars(replace(record, beat=seconds_now(database)))
        database.set_study_system_attr(self.study_id, self._driver.key, alive)
        self._beat_at = begun


def any_alive(records: Mapping[str, Lease]) -> bool:
    """Whether a process runs any of these drivers, as far as it has not been declared dead."""
    return any(record.session for record in records.values())


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
        DatabaseUnavailable: the database does not answer; a change may have been made all the same.
            Each may be asked for again, and is then not made twice, but for a trial: that is
            there, with this driver's name.
    """

    def __init__(self, database: RDBStorage, driver: Worker | None = None) -> None:
        check_kind(database)
        self._database = database
        self._driver = driver
        self._attendance = LeaseTable(driver)
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
        except DatabaseUnavailable:
            self._attendance.forget_beat()
            raise

    def say_alive(self, *, now: bool = False) -> None:
        """Let the other drivers know that this one lives, once the time has come or `now`."""
        if now:
            self._attendance.forget_beat()
        if self._driver and self._attendance.is_time(BEAT_S):
            self.write(lambda database: None)

    def news(self, after: int, among: Collection[int]) -> list[FrozenTrial]:
        """Return the trials with these ids in the database, and all with ids greater than `after`,
        in the order of their numbers."""
        with transaction(self._database, writes=False) as database:
            return database._get_trials(self.study_id, None, set(among), after)

    def others(self) -> tuple[dict[str, Lease], float]:
        """Return the other drivers of the study by id, and the time by the database's clock."""
        with transaction(self._database, writes=False) as database:
            return self._attendance.others(database), seconds_now(database)

    def bury(self, driver_id: str, record: Lease) -> list[int]:
        """Leave to anybody the trials of a driver that has been silent too long.

        Returns: their numbers; none if it has come to life, or another has been faster.
        """

        def bury_it() -> list[int]:
            with self._locked() as database:
                known = self._attendance.others(database, lock=True).get(driver_id)
                if known is None or known.session != record.session:
                    return []
                if seconds_now(database) - known.beat <= DEAD_AFTER_S:
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

    def _end(self, database: RDBStorage, driver_id: str, record: Lease) -> list[int]:
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


class FailureDetector:
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
        self._alive: dict[str, Lease] = {}
        self._spared_until = 0.0

    def spare(self) -> None:
        """Let nobody be dead for `DEAD_AFTER_S`: the database was away, and who comes back to it
        later than this process must be heard again before."""
        self._spared_until = self._clock() + DEAD_AFTER_S

    def look(self, records: Mapping[str, Lease], now: float) -> tuple[dict[str, Lease], list[str]]:
        """Return the drivers that are dead, and what is to be said of any.

        Args:
            records: of the other drivers, by id.
            now: the time by the database's clock.
        """
        alive = {id_: record for id_, record in records.items() if record.session}
        lines = [
            f"{record.where} works on this study too"
            for id_, record in alive.items()
            if self._is_new((id_, record.session)) and now - record.beat <= DEAD_AFTER_S
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
            if silent > DEAD_AFTER_S and looked >= 2 * BEAT_S and spared <= 0:
                dead[id_] = record
            elif silent > 3 * BEAT_S and self._is_new(key):
                wait = max(DEAD_AFTER_S - silent, 2 * BEAT_S - looked, spared)
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
        if self._clock() - self._since > DEAD_AFTER_S:
            return list(seen), []
        if before.keys() >= seen.keys():
            return [], []
        return [], [
            f"{len(seen)} trials run that are no known driver's; they are taken up if none of them "
            f"reports for {DEAD_AFTER_S:.0f} s"
        ]


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
    records: dict[str, Lease]
    lines: list[str]
    pulls: int


class Lookout:
    """Says that its driver lives, looks at the others, and leaves to anybody what the dead ran.

    Args:
        shared: the study.
    """

    def __init__(self, shared: SharedStudy) -> None:
        self._shared = shared
        self._presence, self._nobodys = FailureDetector(), Nobodys()
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
            if time.monotonic() - self._answered > DEAD_AFTER_S:
                raise
            return
        with self._lock:
            self._seen.append(seen)
        self._answered = time.monotonic()
        alone = not seen.trials and not any_alive(seen.records)
        every_s = BEAT_S if alone else min(_LOOK_S, BEAT_S)
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
