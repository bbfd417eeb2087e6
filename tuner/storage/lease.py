"""The lease that makes one driver the only writer of a study in a database.

Ray distributes the trials; one driver at a time writes the study. The driver holds the study's
lease: a system attribute of the study with a fencing token. The token increases at each
acquisition. The driver renews the lease every `RENEW_S`. A lease that was not renewed for
`EXPIRES_S`, by the database's clock, can be acquired by another driver.

Each write is one transaction. It locks the study's row, compares the token and renews the lease. So
a driver that has lost its lease can no longer write, even if it was suspended for a long time.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import InvalidInput
from tuner.storage.database import attempt, check_kind, seconds_now, transaction
from tuner.storage.optuna_internals import create_trial, lock_study, trial_id_of
from tuner.storage.paths import CHECKPOINTS

# The interval of renewal, and the time without renewal after which the lease expires. The
# difference allows for a database that restarts and for a process that swaps.
RENEW_S = 5.0
EXPIRES_S = 60.0

# System attributes of a trial: the id of the driver whose folder holds its checkpoint, and whether
# it is paused at one.
HOLDER = "checkpoint_driver"
PAUSED = "paused"
# System attributes of a study.
_LEASE = "lease"
_DRIVER = "driver:"  # followed by a driver's id: the path of its trials' folders


class LeaseLost(InvalidInput):
    """Another process drives the study now, so this process can no longer write to it."""


@dataclass(frozen=True)
class Worker:
    """A process that may drive a study from the study's folder.

    Attributes:
        id: the id of the folder. All processes that drive the study from it have the same id.
        holder: host and process id.
        folder: path of the study's folder.
        trials: path of the trials' folders, if the study does not name another path.
    """

    id: str
    holder: str
    folder: str
    trials: str


def worker_of(folder: Path, trials: Path) -> Worker:
    """Return the worker for this process. Store an id in the folder if it has none.

    Args:
        folder: the study's folder. The caller holds its lock.
        trials: the path of the trials' folders.
    """
    file = id_file(folder)
    if not file.exists():
        file.write_text(uuid.uuid4().hex)
    holder = f"{socket.gethostname()}:{os.getpid()}"
    id_ = file.read_text().strip()
    return Worker(id_, holder, str(folder.absolute()), str(trials.absolute()))


def id_file(folder: Path) -> Path:
    """Return the file that holds the id of a folder's workers."""
    return folder / ".driver"


@dataclass(frozen=True)
class Lease:
    """A study's lease, as the database stores it.

    Times are seconds since 1970, by the clock of the database.

    Attributes:
        token: a number that increases at each acquisition.
        worker: id of the folder that holds it.
        holder: host and process id.
        folder: path of the study's folder on that host.
        since: time of the acquisition.
        renewed: time of the last renewal; 0 after its release.
        writes: number of the holder's last write.
    """

    token: int
    worker: str
    holder: str
    folder: str
    since: float
    renewed: float
    writes: int = 0

    def is_live(self, now: float) -> bool:
        """Whether the lease has not expired at this time of the database's clock."""
        return now - self.renewed <= EXPIRES_S

    def is_left_by(self, worker: Worker) -> bool:
        """Whether an earlier process from the worker's folder left the lease.

        That process has ended, because the worker holds the folder's lock.
        """
        return (self.worker, self.folder) == (worker.id, worker.folder)


def lease_in(system_attrs: dict[str, Any]) -> Lease | None:
    """Return the lease that a study's system attributes hold; None before the first driver."""
    value = system_attrs.get(_LEASE)
    return Lease(**value) if value else None


def is_driven(system_attrs: dict[str, Any], now: float) -> bool:
    """Whether a driver holds the study's lease.

    Args:
        system_attrs: the system attributes of the study.
        now: seconds since 1970, by the clock of the database.
    """
    lease = lease_in(system_attrs)
    return lease is not None and lease.is_live(now)


def folder_attr(driver: str, trials: str) -> tuple[str, dict[str, Any]]:
    """Return the system attribute with the path of a driver's trials: its key and value.

    Args:
        driver: the driver's id.
        trials: the path of the trials' folders.
    """
    return f"{_DRIVER}{driver}", {"trials": trials}


def folders_in(system_attrs: dict[str, Any]) -> dict[str, str]:
    """Return the path of each driver's trials, by the driver's id."""
    return {
        key.removeprefix(_DRIVER): str(value["trials"])
        for key, value in system_attrs.items()
        if key.startswith(_DRIVER) and isinstance(value, dict) and "trials" in value
    }


def _leases_of_old_drivers(system_attrs: dict[str, Any]) -> Iterator[Lease]:
    """Yield the leases of drivers of an early version 0.1, in which several drivers could run."""
    for key, value in system_attrs.items():
        if key.startswith(_DRIVER) and isinstance(value, dict) and value.get("session"):
            host, _, folder = str(value.get("where", "")).partition(":")
            beat = float(value.get("beat", 0.0))
            yield Lease(0, key.removeprefix(_DRIVER), host, folder, beat, beat)


def _refusal(name: str, lease: Lease, now: float) -> InvalidInput:
    silent_s = now - lease.renewed
    return InvalidInput(
        f"a study has one driver at a time, {name!r} is driven by process {lease.holder} in folder "
        f"{lease.folder} since {_time(lease.since)} (last seen {silent_s:.0f} s ago); wait for it "
        f"or stop it; if it is dead, try again in {EXPIRES_S - silent_s + 1:.0f} s"
    )


def _lost(name: str, lease: Lease | None) -> LeaseLost:
    now = (
        f"process {lease.holder} in folder {lease.folder} drives it since {_time(lease.since)}"
        if lease
        else "its lease is gone"
    )
    return LeaseLost(
        f"a driver must renew the lease of its study every {EXPIRES_S:g} s, the driver of {name!r} "
        f"did not, and {now}; this run ends and can no longer write to the study"
    )


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


class LeasedStudy:
    """A study in a database, for its driver or for a visitor.

    A visitor holds no lease and only adds trials to the study.

    Args:
        database: the database.
        worker: the holder of the lease; None for a visitor.

    Attributes:
        study_id: the study's id in the database; -1 before the study is created or acquired.

    Raises:
        InvalidInput: the kind of the database is not supported.
        LeaseLost: (methods that read or write) another process has acquired the lease.
        DatabaseUnavailable: (likewise) the database does not answer. It may still have made the
            change.
    """

    def __init__(self, database: RDBStorage, worker: Worker | None = None) -> None:
        check_kind(database)
        self._database = database
        self._worker = worker
        self._token = 0
        self._writes = 0
        self.study_id = -1

    def create(self, directions: Sequence[StudyDirection], name: str | None) -> None:
        """Create the study and acquire its lease.

        Args:
            directions: the direction of each objective.
            name: the name of the study; None for a generated name.

        Raises:
            DuplicatedStudyError: a study of that name exists.
        """
        self.acquire(self._database.create_new_study(directions, name))

    def acquire(self, study_id: int) -> None:
        """Acquire a study's lease; a visitor needs none.

        Raises:
            InvalidInput: another driver holds it.
        """
        self.study_id = study_id
        if self._worker is not None:
            self._token = attempt(self._acquire)

    def _acquire(self) -> int:
        assert self._worker is not None, "a visitor has no lease"
        with self._locked(held=False) as database:
            attrs = database.get_study_system_attrs(self.study_id)
            now, held = seconds_now(database), lease_in(attrs)
            former = [*([held] if held else []), *_leases_of_old_drivers(attrs)]
            for each in former:
                if each.is_live(now) and not each.is_left_by(self._worker):
                    name = database.get_study_name_from_id(self.study_id)
                    raise _refusal(name, each, now)
            # This removes the sessions of drivers of versions without a lease. Such a driver stops
            # writing when its session is missing.
            shared = database.get_study_user_attrs(self.study_id).get(CHECKPOINTS)
            folders = {**folders_in(attrs), self._worker.id: shared or self._worker.trials}
            for driver, trials in folders.items():
                database.set_study_system_attr(self.study_id, *folder_attr(driver, trials))
            lease = Lease(
                token=(held.token if held else 0) + 1,
                worker=self._worker.id,
                holder=self._worker.holder,
                folder=self._worker.folder,
                since=now,
                renewed=now,
            )
            self._write_lease(database, lease)
            return lease.token

    def create_trial(self, template: FrozenTrial | None = None) -> tuple[int, int]:
        """Create a trial. Return its id in the database and its number."""

        def create() -> tuple[int, int]:
            with self._locked() as database:
                return create_trial(database, self.study_id, template)

        return attempt(create)

    def write(self, change: Callable[[RDBStorage], None]) -> None:
        """Make a change of the study in one transaction.

        After `DatabaseUnavailable` the caller calls again with the same change. It is not made
        twice.

        Args:
            change: makes the change on the database that it is given.
        """

        def change_all() -> None:
            with self._locked(held=False) as database:
                if self._worker is not None:
                    lease = self._own(database)
                    if lease.writes > self._writes:
                        return  # the change was committed, but the answer was lost
                    self._renew(database, replace(lease, writes=self._writes + 1))
                change(database)

        attempt(change_all)
        self._writes += 1

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in these states by number, or all trials. Renew the lease."""

        def read() -> list[FrozenTrial]:
            with self._locked() as database:
                return database.get_all_trials(self.study_id, deepcopy=False, states=states or None)

        return attempt(read)

    def release(self) -> None:
        """Release the lease, if this driver holds it. Running trials become WAITING."""
        if self._token == 0:
            return

        def end() -> None:
            with self._locked(held=False) as database:
                lease = lease_in(database.get_study_system_attrs(self.study_id))
                if lease is None or lease.token != self._token:
                    return  # the lease was released, but the answer was lost
                for trial in database.get_all_trials(
                    self.study_id, deepcopy=False, states=(TrialState.RUNNING,)
                ):
                    database.set_trial_state_values(trial_id_of(trial), TrialState.WAITING)
                self._write_lease(database, replace(lease, renewed=0.0))

        attempt(end)

    @contextmanager
    def _locked(self, *, held: bool = True) -> Iterator[RDBStorage]:
        """Yield the database in a transaction that locks the study.

        With `held`, a driver must hold the lease, which is renewed.
        """
        with transaction(self._database) as database:
            lock_study(database, self.study_id)
            if held and self._worker is not None:
                self._renew(database, self._own(database))
            yield database

    def _own(self, database: RDBStorage) -> Lease:
        """Return the lease, if it is still this driver's."""
        lease = lease_in(database.get_study_system_attrs(self.study_id))
        if lease is None or lease.token != self._token:
            raise _lost(database.get_study_name_from_id(self.study_id), lease)
        return lease

    def _renew(self, database: RDBStorage, lease: Lease) -> None:
        self._write_lease(database, replace(lease, renewed=seconds_now(database)))

    def _write_lease(self, database: RDBStorage, lease: Lease) -> None:
        database.set_study_system_attr(self.study_id, _LEASE, asdict(lease))
