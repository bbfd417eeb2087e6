"""A study in an SQL database, written behind the decisions from a copy in memory.

A report to a database costs milliseconds (SQLite 20, FIELD measurements in docs/log.md), so no
decision waits for one. The study is read into memory when it is opened, and every change is made
there. A thread repeats the changes on the database in the same order; it also renews the lease,
looks for enqueued trials and waits for a database that has gone away. Only the creation of a trial
asks the database first, because whoever enqueues one at the same time needs another number.
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
    """Makes every change in memory, and hands on those that memory has not refused, in order.

    The subclass creates studies and trials.
    """

    @abstractmethod
    def _later(self, method: str, item_id: int, *rest: Any) -> None:
        """Hand on the call of a storage's method; `item_id` is the study's or the trial's here."""

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
    """What is new in the study since it was last asked for.

    Attributes:
        enqueued: ids of the trials to run that another process has enqueued.
        lines: to show, about the database.
    """

    enqueued: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


Change = tuple[str, int, tuple[Any, ...]]  # the method, the study's or trial's id, the rest
AtomicChange = tuple[Change, ...]  # made together or not at all

# A transaction holds the study, so that whoever enqueues a trial waits for its end; and it renews
# the lease once (log of 2026-11-26).
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
    """Whether a change is one of a trial, not of the study."""
    return change[0].startswith("set_trial")


def repeat(changes: Sequence[Change], database: RDBStorage) -> None:
    """Make the changes; their ids are the database's."""
    for method, item_id, rest in changes:
        getattr(database, method)(item_id, *rest)


Value = TypeVar("Value")
_TICK_S = 1.0
# The database is back when no more changes than these wait to be written.
_FEW = 50


class WriteBehindDatabase(ReplicatingStorage):
    """One study of a database in memory, whose changes a thread repeats on the database.

    Ids are those in memory; the database has others. Trials that another process enqueues are added
    only on `refresh` and when a trial is created, so that nothing changes during a decision.

    Args:
        database: where the study is kept.
        name: the study's name there; it need not exist yet.
        worker: the process that drives the study and holds its lease; None for a visitor that only
            adds to it, and that does not wait for a database that has gone away.
        say: is called with a line, by the thread that waits, while it waits for the database.

    Raises:
        InvalidInput: the database is of an unknown kind, or another process drives the study.
        NotStored: (all that changes the study) something could not be written, now or before.
        LeaseLost: (likewise) another process has acquired the study's lease.
        DatabaseUnavailable: (creating a trial) the database is waited for: ask later.
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
        self._stored: dict[int, int] = {}  # trial id here -> trial id in the database
        self._here: dict[int, int] = {}  # and back
        self._delta = StudyDelta()
        self._waiting: list[FrozenTrial] = []  # what the thread has found in the database
        self._may_have_created = False  # a trial that is unknown here
        self._renewed_at = time.monotonic()
        self._open(name)
        self._writer: BatchWriter[AtomicChange] = BatchWriter(
            self._repeat, every_s=min(_TICK_S, lease.RENEW_S) if worker else None
        )

    def flush(self) -> None:
        """Return once everything put so far is written."""
        with self._retry.waiting():
            self._writer.flush(self._retry.mention)

    def close(self) -> None:
        """Write what is left, and release the lease."""
        with self._retry.waiting():
            self._writer.close(self._retry.mention)
        self._retry.patiently(self._leased.release)
        self._retry.mention()

    def refresh(self) -> StudyDelta:
        """Return what is new, and add enqueued trials to the study here."""
        self._writer.check()
        with suppress(DatabaseUnavailable):  # they are added later
            self._enqueue(self._waiting)
        self._delta.lines += self._outage.lines()
        delta, self._delta = self._delta, StudyDelta()
        return delta

    def _open(self, name: str) -> None:
        """Read the study, if it is there."""
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
        """Return the trials that only the database has."""
        return [trial for trial in stored if trial_id_of(trial) not in self._here]

    def _append(self, stored_id: int, trial: FrozenTrial | None) -> int:
        trial_id = InMemoryStorage.create_new_trial(self, self._study, trial)
        self._stored[trial_id], self._here[stored_id] = stored_id, trial_id
        return trial_id

    def _enqueue(self, stored: Iterable[FrozenTrial]) -> None:
        """Add the trials that only the database has, and hand on those that are to run.

        What runs there and is unknown here was created by this driver, which never got the answer.
        """
        new, known = self._unknown(stored), len(self._here)
        if [trial.number for trial in new] != list(range(known, known + len(new))):
            # Another process has added others, which need not run.
            new = self._unknown(self._now(self._leased.trials))
        for trial in new:
            trial_id = self._append(trial_id_of(trial), trial)
            created = trial.state == TrialState.RUNNING and self._may_have_created
            if trial.state == TrialState.WAITING or created:
                self._delta.enqueued.append(trial_id)

    def _later(self, method: str, item_id: int, *rest: Any) -> None:
        self._writer.put([((method, item_id, rest),)])

    def _repeat(self, changes: list[AtomicChange]) -> None:
        """Repeat changes on the database, and renew the lease: on the writer's thread."""
        if self._study < 0:  # there is no study yet, and nothing to write
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
        """Renew the lease if it is due, and look for trials that wait.

        A database that fails is asked again for as long as the lease lives.
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
        """Change the database before anything else is done, or raise `DatabaseUnavailable`."""
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
            if self._study < 0:  # another process has created it since
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
            # Together with the folder that holds it.
            InMemoryStorage.set_trial_system_attr(self, trial_id, HOLDER, self._worker.id)
            changes.append(("set_trial_system_attr", trial_id, (HOLDER, self._worker.id)))
        self._writer.put([tuple(changes)])
