"""A study in an SQL database, written behind the decisions from a copy in memory.

A report to a database costs milliseconds (SQLite 20, FIELD measurements in docs/log.md), so nothing
waits for one: the study is read into memory when it is opened, every change is made there, and a
thread repeats the changes on the database in the same order. Only what others must not do at the
same time goes to the database first: a new trial, and the claim of one that waits. The same thread
looks for what the others have done, and waits for a database that has gone away.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.storage import lease as drivers
from tuner.storage.batch_writer import BatchWriter
from tuner.storage.database import OutageState, RetryPolicy, answering
from tuner.storage.lease import DRIVER, HOLDER, Lease, Lookout, SharedStudy, Worker, any_alive
from tuner.storage.paths import CHECKPOINT


class ReplicatingStorage(InMemoryStorage):
    """Makes every change in memory, and hands on those that memory has not refused, in order.

    How studies and trials are made is the subclass's.
    """

    @abstractmethod
    def _later(self, method: str, item_id: int, *rest: Any) -> None:
        """Take the call of a method of storages; `item_id` is the study's or the trial's here."""

    def delete_study(self, study_id: int) -> None:
        super().delete_study(study_id)
        self._later("delete_study", study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_user_attr(study_id, key, value)
        self._later("set_study_user_attr", study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_system_attr(study_id, key, value)
        self._later("set_study_system_attr", study_id, key, value)

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        self._later("set_trial_param", trial_id, param_name, param_value_internal, distribution)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        if changed:
            self._later("set_trial_state_values", trial_id, state, values)
        return changed

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._later("set_trial_intermediate_value", trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_user_attr(trial_id, key, value)
        self._later("set_trial_user_attr", trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, value)
        self._later("set_trial_system_attr", trial_id, key, value)


@dataclass
class StudyDelta:
    """What others have done to the study since it was last asked.

    Attributes:
        ended: trials of theirs that have ended.
        lines: what is to be said of them, and of the database.
        changed: whether any trial is new, or is not as it was.
    """

    ended: list[FrozenTrial] = field(default_factory=list)
    enqueued: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    changed: bool = False


class CachedStudy(ReplicatingStorage):
    """One study of a database in memory. Ids are those here; the database has others.

    What the database has is taken in trial by trial, but a trial that this process runs is never
    overwritten.

    Args:
        driver: of the process that runs the study; None for one that only adds to it.
    """

    def __init__(self, driver: Worker | None) -> None:
        super().__init__()
        self.driver = driver
        self._study = 0
        self._stored: dict[int, int] = {}  # trial id here -> trial id in the database
        self._here: dict[int, int] = {}  # and back
        self._mine: set[int] = set()
        self._others: set[int] = set()  # trials of others that have not ended
        self._news = StudyDelta()

    @property
    def records(self) -> dict[str, Lease]:
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

    def _know_drivers(self, records: Mapping[str, Lease]) -> None:
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


Change = tuple[str, int, tuple[Any, ...]]  # the method, the study's or trial's id, the rest
AtomicChange = tuple[Change, ...]  # what is of no use apart

# A transaction holds a driver's record, so that it cannot say that it lives (log of 2026-11-26).
_PIECE = 200


def pieces(changes: Sequence[AtomicChange]) -> Iterator[list[Change]]:
    """Yield the changes, in order, by as many as one transaction may make."""
    piece: list[Change] = []
    for together in changes:
        piece += together
        if len(piece) >= _PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def is_of_trial(change: Change) -> bool:
    """Whether it is a trial that a change is of, or else the study."""
    return change[0].startswith("set_trial")


def repeat(changes: Sequence[Change], database: RDBStorage) -> None:
    """Make the changes; their ids are the database's."""
    for method, item_id, rest in changes:
        getattr(database, method)(item_id, *rest)


def is_committed(changes: Sequence[Change], database: RDBStorage, driver: str) -> bool:
    """Whether a transaction of these changes, whose end its driver was not told, was committed.

    All of them were made or none, so the first that can tell tells of all. Nobody but its driver
    writes to a trial, so until they are made the trials that they end or release run and are the
    driver's, and have none of the parameters that are set. To set attributes and to report cannot
    tell, but makes no difference when it is done twice.
    """
    for method, item_id, rest in changes:
        if method == "set_trial_state_values":
            trial = database.get_trial(item_id)
            return trial.state != TrialState.RUNNING or trial.system_attrs.get(DRIVER) != driver
        if method == "set_trial_param":
            return rest[0] in database.get_trial(item_id).params
    return False


Value = TypeVar("Value")
_TICK_S = 1.0
# The database is back when no more changes than these wait to be written.
_FEW = 50


class WriteBehindDatabase(CachedStudy):
    """One study of a database in memory, whose changes a thread repeats on the database.

    What others change is taken in only when it is asked for (`refresh`), when a trial is made and
    when one is claimed, so that nothing changes in the middle of a decision. A trial that this
    process runs is never overwritten.

    Args:
        database: where the study is kept.
        name: the study's name there; it need not exist yet.
        driver: of the process that runs the study; None for one that only adds to it, and that does
            not wait for a database that has gone away.
        say: is called with a line, by the thread that waits, where all waits for the database.

    Attributes:
        left: trials of this driver that an earlier process of it had not ended, in order.

    Raises:
        InvalidInput: the database is of an unknown kind.
        NotStored: (all that changes the study) something could not be written, now or before.
        Away: (what makes trials, claims them or refreshes) the database is waited for: ask later.
        Superseded: (likewise) others go on with this driver's trials.
    """

    def __init__(
        self,
        database: RDBStorage,
        name: str,
        driver: Worker | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__(driver)
        self.left: list[int] = []
        self._database = database
        self._outage = OutageState(None if driver else 0.0)
        self._asking = RetryPolicy(self._outage, say)
        self._shared = SharedStudy(database, driver)
        self._lookout = Lookout(self._shared)
        self._pulls = 0
        self._handed_on: set[int] = set()
        self._read(name)
        self._writer: BatchWriter[AtomicChange] = BatchWriter(
            self._repeat, every_s=min(_TICK_S, drivers.BEAT_S) if driver else None
        )

    def flush(self) -> None:
        """Return once everything put so far is written."""
        with self._asking.waiting():
            self._writer.flush(self._asking.mention)

    def close(self) -> None:
        """Write what is left, and let the other drivers know that this one has gone."""
        with self._asking.waiting():
            self._writer.close(self._asking.mention)
        self._now(lambda again: self._shared.leave(again))
        self._asking.mention()

    def _read(self, name: str) -> None:
        """Read the study, if it is there, and take what an earlier process of this driver left."""
        with answering():
            found = [s for s in self._database.get_all_studies() if s.study_name == name]
            for study in found:
                self._study = InMemoryStorage.create_new_study(self, study.directions, name)
                self._shared.join(study._study_id)
                self._know(self._database.get_study_user_attrs(study._study_id))
                for key, value in self._database.get_study_system_attrs(study._study_id).items():
                    InMemoryStorage.set_study_system_attr(self, self._study, key, value)
                self._take_in(self._shared.news(-1, ()))
                self._news = StudyDelta()
                self.left = [each for each in sorted(self._others) if self._inherits(each)]

    def _inherits(self, trial_id: int) -> bool:
        """Take a trial that an earlier process of this driver has left, if it is one."""
        if self.driver is None:
            return False
        trial = self.get_trial(trial_id)
        nobodys = self.driver.id if self.driver.is_heir else None
        if trial.system_attrs.get(DRIVER, nobodys) != self.driver.id:
            return False
        stored = self._shared.inherit(self._stored[trial_id])
        if stored is not None:
            self._own(trial_id)
            self._replace(trial_id, stored)
        return stored is not None

    def agree(self, attrs: Mapping[str, Any], *, over: bool = False) -> dict[str, Any]:
        """Set user attributes of the study that it lacks, unless it has others than these, and
        return all that it has then: what drivers that begin at the same time have to agree on.

        `over` sets them anew where no trial was made yet, and no other driver works on it.
        """
        self.flush()
        agreed = self._now(lambda _: self._shared.agree(attrs, over=over))
        self._know(agreed)
        return agreed

    def is_alone(self) -> bool:
        """Whether no other process works on the study, as far as the database knows."""
        return not any_alive(self._now(lambda _: self._shared.others())[0])

    def keep_trials_at(self, trials: str) -> None:
        """Let the other drivers know where the folders of this one's trials are."""
        if self.driver:
            self._now(lambda _: self._shared.keep_trials_at(trials))
            own = Lease(self.driver.where, trials, session="", beat=0.0)
            self._know_drivers({self.driver.id: own})

    def refresh(self, *, now: bool = False) -> StudyDelta:
        """Take in what others have done, as far as it was looked for, or all of it `now`."""
        self._writer.check()
        if now:
            self._writer.flush(self._outage.check)
            self._at_once(self._pull)
        self._news.lines += self._outage.lines()
        for seen in self._lookout.seen():
            self._know_drivers(seen.records)
            self._news.lines += seen.lines
            if seen.pulls == self._pulls:  # else what was pulled since is newer
                self._take_in(seen.trials)
        news, self._news = self._news, StudyDelta()
        free = [each._trial_id for each in self.others if self.is_free(each)]
        news.enqueued = [each for each in free if each not in self._handed_on]
        self._handed_on.update(free)
        return news

    def settle(self) -> None:
        """Write what is left and take in all that others have done, whenever that can be done."""
        self.flush()
        self._now(lambda _: self._pull())

    def _pull(self) -> None:
        """Take in all that others have done to the trials, in this moment."""
        self._pulls += 1
        self._take_in(self._shared.news(*self._unknown()))

    def _later(self, method: str, item_id: int, *rest: Any) -> None:
        self._put((method, item_id, rest))

    def _put(self, *together: Change) -> None:
        for change in together:
            if is_of_trial(change):
                self._own(change[1])
        self._writer.put([together])

    def _repeat(self, changes: list[AtomicChange]) -> None:
        """Repeat changes on the database, and look for others' there: on the writer's thread."""
        if not self._shared.joined:  # there is no study yet, and nothing to be written
            return
        for piece in pieces(changes):
            self._outage.wait_for(partial(self._store, [self._as_stored(each) for each in piece]))
        if self.driver:
            self._outage.wait_for(self._look)
            if self._writer.left < _FEW:
                self._outage.end()

    def _as_stored(self, change: Change) -> Change:
        method, item_id, rest = change
        return method, self._stored[item_id] if is_of_trial(change) else self._shared.study_id, rest

    def _store(self, changes: list[Change], again: bool) -> None:
        def make(database: RDBStorage) -> None:
            if not (again and self.driver and is_committed(changes, database, self.driver.id)):
                repeat(changes, database)

        self._shared.write(make, touches_study=not all(map(is_of_trial, changes)))

    def _look(self, again: bool) -> None:
        back = again or self._outage.is_on
        self._lookout.look(*self._unknown(), self._pulls, back=back)

    def _now(self, change: Callable[[bool], Value]) -> Value:
        """Change the database before anything else is done, as soon as it answers."""
        self._writer.check()
        return self._asking.patiently(change)

    def _at_once(self, change: Callable[[], Value]) -> Value:
        """Change the database before anything else is done, or raise `Away`."""
        self._writer.check()
        return self._asking.at_once(change)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        try:
            self._now(lambda _: self._shared.create_study(list(directions), study_name))
        except DuplicatedStudyError:
            assert study_name is not None, "Optuna makes up names that are free"
            if not self._studies:  # another process has made it since
                self._read(study_name)
            raise
        self._study = InMemoryStorage.create_new_study(self, directions, study_name)
        return self._study

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = self.create_trial_within(None, template_trial)
        assert trial_id is not None, "there is no limit"
        return trial_id

    def create_trial_within(
        self, limit: int | None, template: FrozenTrial | None = None
    ) -> int | None:
        """Make a trial and return its id; None if the study has `limit` trials by now."""
        return self._at_once(partial(self._create, limit, template))

    def _create(self, limit: int | None, template: FrozenTrial | None) -> int | None:
        made = self._shared.create_trial(template, limit)
        if made and made.number == len(self._here) and not (self.driver and self._others):
            trial_id = self._append(made.trial_id, template)
            if self.driver and template is None:
                InMemoryStorage.set_trial_system_attr(self, trial_id, DRIVER, self.driver.id)
        else:
            self._pull()
            if made is None:
                return None
            trial_id = self._here[made.trial_id]
        self._own(trial_id)
        return trial_id

    def _claim(self, trial_id: int) -> bool:
        """Take up a trial that waits for anybody; False if another was faster."""
        self._writer.flush(self._outage.check)
        stored = self._shared.claim(self._stored[trial_id])
        if stored is None:
            self._pull()
            return False
        self._know_drivers(self._shared.others()[0])
        self._own(trial_id)
        self._replace(trial_id, stored)
        return True

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if state != TrialState.RUNNING:
            return super().set_trial_state_values(trial_id, state, values)
        trial = self.get_trial(trial_id)
        self.check_trial_is_updatable(trial_id, trial.state)
        return self.is_free(trial) and self._at_once(partial(self._claim, trial_id))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        InMemoryStorage.set_trial_user_attr(self, trial_id, key, value)
        changes: list[Change] = [("set_trial_user_attr", trial_id, (key, value))]
        if key == CHECKPOINT and self.driver:
            # With it, where that is: the two are of no use apart.
            InMemoryStorage.set_trial_system_attr(self, trial_id, HOLDER, self.driver.id)
            changes.append(("set_trial_system_attr", trial_id, (HOLDER, self.driver.id)))
        self._put(*changes)
