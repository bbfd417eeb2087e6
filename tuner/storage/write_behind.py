"""A study in an SQL database, written behind the decisions from a copy in memory.

A report to a database takes milliseconds (20 in SQLite; see also docs/log.md). So no decision waits
for the database. The study is read into memory when it is opened, and every change is made there. A
thread repeats the changes on the database in the same order. It also renews the lease, looks for
enqueued trials and waits for a database that does not answer. Only the creation of a trial calls
the database first. Another process may enqueue a trial at the same time, and the two trials need
different numbers.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from tuner.storage import lease
from tuner.storage.batch_writer import BatchWriter
from tuner.storage.database import DatabaseUnavailable, OutageState, RetryPolicy, answering
from tuner.storage.lease import HOLDER, LeasedStudy, Worker
from tuner.storage.optuna_internals import study_id_of, trial_id_of
from tuner.storage.paths import CHECKPOINT, CHECKPOINTS


class ReplicatingStorage(InMemoryStorage):
    """Makes every change in memory, and passes it to the subclass if it succeeds.

    The subclass creates studies and trials.
    """

    @abstractmethod
    def _later(self, method: str, item_id: int, *rest: Any) -> None:
        """Repeat the call of a storage's method later.

        Args:
            method: the name of the method.
            item_id: the id of the study or the trial in memory.
            rest: the further arguments.
        """

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
    """The news of a study since the last `refresh`.

    Attributes:
        enqueued: ids of the trials to run that another process has enqueued.
        lines: lines about the database to show.
    """

    enqueued: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


Change = tuple[str, int, tuple[Any, ...]]  # the method, the id of the study or trial, the rest
AtomicChange = tuple[Change, ...]  # made together or not at all

# A transaction locks the study, and processes that enqueue a trial wait for its end. It renews the
# lease once. So it is limited to about this many changes (docs/log.md, 2026-11-26).
_PIECE = 200


def pieces(changes: Sequence[AtomicChange]) -> Iterator[list[Change]]:
    """Yield the changes in order, in one list for each transaction."""
    piece: list[Change] = []
    for together in changes:
        piece += together
        if len(piece) >= _PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def is_of_trial(change: Change) -> bool:
    """Whether a change belongs to a trial, not to the study."""
    return change[0].startswith("set_trial")


def repeat(changes: Sequence[Change], database: RDBStorage) -> None:
    """Make the changes on the database. Their ids must be those of the database."""
    for method, item_id, rest in changes:
        getattr(database, method)(item_id, *rest)


Value = TypeVar("Value")
_TICK_S = 1.0
# An outage is over when fewer changes than this are unwritten.
_FEW = 50


class WriteBehindDatabase(ReplicatingStorage):
    """One study of a database in memory. A thread repeats its changes on the database.

    Ids in memory differ from ids in the database. Trials that another process enqueues are added
    only by `refresh` and when a trial is created. So the study does not change during a decision.

    Args:
        database: the database.
        name: the name of the study; the study need not exist yet.
        worker: the process that drives the study and holds its lease. None for a visitor, which
            only adds trials and does not wait for a database that does not answer.
        say: is called with a line of text while a thread waits for the database. That thread calls
            it.

    Raises:
        InvalidInput: the kind of the database is not supported, or another process drives the
            study.
        NotStored: (methods that change the study) this change or an earlier one was not written.
        LeaseLost: (likewise) another process has acquired the study's lease.
        DatabaseUnavailable: (creating a trial) the database does not answer; try again later.
    """

    def __init__(
        self,
        database: RDBStorage,
        name: str,
        worker: Worker | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__()
        self._database = database
        self._worker = worker
        self._outage = OutageState(None if worker else 0.0)
        self._retry = RetryPolicy(self._outage, say)
        self._leased = LeasedStudy(database, worker)
        self._study = -1
        self._stored: dict[int, int] = {}  # trial id in memory -> trial id in the database
        self._here: dict[int, int] = {}  # trial id in the database -> trial id in memory
        self._delta = StudyDelta()
        self._waiting: list[FrozenTrial] = []  # enqueued trials that the thread has found
        self._may_have_created = False  # whether the database may have a trial that memory lacks
        self._renewed_at = time.monotonic()
        self._open(name)
        self._writer: BatchWriter[AtomicChange] = BatchWriter(
            self._repeat, every_s=min(_TICK_S, lease.RENEW_S) if worker else None
        )

    def flush(self) -> None:
        """Wait until all changes so far are written."""
        with self._retry.waiting():
            self._writer.flush(self._retry.mention)

    def close(self) -> None:
        """Write the remaining changes and release the lease."""
        with self._retry.waiting():
            self._writer.close(self._retry.mention)
        self._retry.patiently(self._leased.release)
        self._retry.mention()

    def refresh(self) -> StudyDelta:
        """Add enqueued trials to the study in memory, and return the news."""
        self._writer.check()
        with suppress(DatabaseUnavailable):  # they are added later
            self._enqueue(self._waiting)
        self._delta.lines += self._outage.lines()
        delta, self._delta = self._delta, StudyDelta()
        return delta

    def _open(self, name: str) -> None:
        """Read the study into memory, if it exists."""
        with answering():
            for study in self._database.get_all_studies():
                if study.study_name != name:
                    continue
                study_id = study_id_of(study)
                self._leased.acquire(study_id)
                self._study = InMemoryStorage.create_new_study(self, study.directions, name)
                for key, value in self._database.get_study_user_attrs(study_id).items():
                    InMemoryStorage.set_study_user_attr(self, self._study, key, value)
                for key, value in self._database.get_study_system_attrs(study_id).items():
                    InMemoryStorage.set_study_system_attr(self, self._study, key, value)
                for trial in self._leased.trials():
                    self._append(trial_id_of(trial), trial)

    def _unknown(self, stored: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials that are in the database but not in memory."""
        return [trial for trial in stored if trial_id_of(trial) not in self._here]

    def _append(self, stored_id: int, trial: FrozenTrial | None) -> int:
        trial_id = InMemoryStorage.create_new_trial(self, self._study, trial)
        self._stored[trial_id], self._here[stored_id] = stored_id, trial_id
        return trial_id

    def _enqueue(self, stored: Iterable[FrozenTrial]) -> None:
        """Add the trials that only the database has, and report those that must run.

        A RUNNING trial that is not in memory was created by this driver, but the answer was lost.
        """
        new, known = self._unknown(stored), len(self._here)
        if [trial.number for trial in new] != list(range(known, known + len(new))):
            # Another process has also added trials that need not run.
            new = self._unknown(self._now(self._leased.trials))
        for trial in new:
            trial_id = self._append(trial_id_of(trial), trial)
            created = trial.state == TrialState.RUNNING and self._may_have_created
            if trial.state == TrialState.WAITING or created:
                self._delta.enqueued.append(trial_id)

    def _later(self, method: str, item_id: int, *rest: Any) -> None:
        self._writer.put([((method, item_id, rest),)])

    def _repeat(self, changes: list[AtomicChange]) -> None:
        """Repeat changes on the database and renew the lease. The writer's thread calls it."""
        if self._study < 0:  # the study does not exist yet
            return
        for piece in pieces(changes):
            stored = [self._as_stored(each) for each in piece]
            self._outage.wait_for(partial(self._leased.write, partial(repeat, stored)))
        if self._worker:
            self._renew()
            if self._writer.left < _FEW:
                self._outage.end()

    def _as_stored(self, change: Change) -> Change:
        method, item_id, rest = change
        return method, self._stored[item_id] if is_of_trial(change) else self._leased.study_id, rest

    def _renew(self) -> None:
        """If a renewal is due, renew the lease and look for enqueued trials.

        After an error of the database it is tried again until the lease expires.
        """
        unheard_s = time.monotonic() - self._renewed_at
        if unheard_s < lease.RENEW_S and not self._outage.is_on:
            return
        try:
            self._waiting = self._outage.wait_for(partial(self._leased.trials, TrialState.WAITING))
        except (SQLAlchemyError, StorageInternalError):
            if unheard_s > lease.EXPIRES_S:
                raise
        else:
            self._renewed_at = time.monotonic()

    def _now(self, change: Callable[[], Value]) -> Value:
        """Make a change on the database at once, or raise `DatabaseUnavailable`."""
        self._writer.check()
        return self._retry.at_once(change)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        self._writer.check()
        try:
            self._retry.patiently(partial(self._leased.create, list(directions), study_name))
        except DuplicatedStudyError:
            assert study_name is not None, "Optuna makes up names that are free"
            if self._study < 0:  # another process has created it meanwhile
                self._open(study_name)
            raise
        self._study = InMemoryStorage.create_new_study(self, directions, study_name)
        return self._study

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if self._may_have_created:
            unfinished = partial(self._leased.trials, TrialState.RUNNING, TrialState.WAITING)
            self._enqueue(self._now(unfinished))
            for trial_id in self._delta.enqueued:
                if self.get_trial(trial_id).state == TrialState.RUNNING:
                    self._delta.enqueued.remove(trial_id)
                    self._may_have_created = False
                    return trial_id
        self._may_have_created = True
        stored_id, number = self._now(partial(self._leased.create_trial, template_trial))
        if number == len(self._here):
            trial_id = self._append(stored_id, template_trial)
        else:
            self._enqueue(self._now(self._leased.trials))
            trial_id = self._here[stored_id]
            self._delta.enqueued.remove(trial_id)
        self._may_have_created = False
        return trial_id

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_user_attr(study_id, key, value)
        if key == CHECKPOINTS and self._worker:
            self.set_study_system_attr(study_id, *lease.folder_attr(self._worker.id, value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        InMemoryStorage.set_trial_user_attr(self, trial_id, key, value)
        changes: list[Change] = [("set_trial_user_attr", trial_id, (key, value))]
        if key == CHECKPOINT and self._worker:
            # In one transaction, so that the checkpoint and its driver always agree.
            InMemoryStorage.set_trial_system_attr(self, trial_id, HOLDER, self._worker.id)
            changes.append(("set_trial_system_attr", trial_id, (HOLDER, self._worker.id)))
        self._writer.put([tuple(changes)])
