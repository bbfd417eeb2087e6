"""Who works on a study in a database: drivers, one for each folder that it is run from.

Several may run one study at a time, from any host. Each has a record in the study: whether it
lives, and where its trials' checkpoints are. A trial says whose it is.
"""

from __future__ import annotations

import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from tuner.errors import InvalidInput
from tuner.study.places import Place

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


class Superseded(InvalidInput):
    """Another process goes on with what this one was running."""


@dataclass(frozen=True)
class Driver:
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
class Record:
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
    def of(cls, value: Any) -> Record | None:
        """Read a record; None of what is not one."""
        if not isinstance(value, dict) or not {"where", "trials"} <= value.keys():
            return None
        session, beat = str(value.get("session", "")), float(value.get("beat", 0.0))
        return cls(str(value["where"]), str(value["trials"]), session, beat)


def driver_of(folder: Path, trials: Path, *, is_known: bool) -> Driver:
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
    return Driver(file.read_text().strip(), where, str(trials.absolute()), is_heir)


def id_file(folder: Path) -> Path:
    return folder / ".driver"


def key_of(driver_id: str) -> str:
    """Return the system attribute of a study that holds a driver's record."""
    return f"{_RECORD}{driver_id}"


def records_in(system_attrs: dict[str, Any]) -> dict[str, Record]:
    """Return the drivers that a study's system attributes tell of, by id."""
    found = {
        key.removeprefix(_RECORD): Record.of(value)
        for key, value in system_attrs.items()
        if key.startswith(_RECORD)
    }
    return {id_: record for id_, record in found.items() if record}


class Places:
    """Where the folders of a study's trials are; they may differ by driver.

    Args:
        study: an open study.
        own: the place that it names, or that of the folder it is read from, if any.
        folder: that it is read from, if its own driver's trials are under that, wherever it was.
    """

    def __init__(self, study: optuna.Study, own: Place | None, folder: Path | None) -> None:
        self._own = own
        self._records = records_in(study._storage.get_study_system_attrs(study._study_id))
        file = id_file(folder) if folder else None
        if file and file.exists():
            self._records.pop(file.read_text().strip(), None)

    def of(self, trial: FrozenTrial) -> Place | None:
        """Return the place that holds a trial's checkpoint, None if nobody knows."""
        record = self._records.get(trial.system_attrs.get(HOLDER, ""))
        return Place(record.trials) if record else self._own
