"""Load a study by name or URL, and pack one as text to send it to another machine.

A packed study is an Optuna journal, also if its storage is a database. A journal is plain JSON, so
unpacking runs no code of the other machine.
"""

from __future__ import annotations

import base64
import math
import tempfile
import textwrap
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import InvalidInput
from tuner.storage.database import (
    DatabaseUnavailable,
    answering,
    close_database,
    does_not_answer,
    open_database,
    seconds_now,
)
from tuner.storage.lease import HOLDER, PAUSED, folders_in, id_file
from tuner.storage.lease import is_driven as has_lease
from tuner.storage.optuna_internals import storage_of, study_id_of
from tuner.storage.paths import CHECKPOINT, CHECKPOINTS, StoragePath
from tuner.study.folder import DEFAULT_FOLDER, StudyFolder, find_study, open_for_reading
from tuner.study.pruners import MAX_EPOCHS, METRIC
from tuner.study.result import State, Status, StudyResult, TrialResult
from tuner.study.schema import (
    ADVICE,
    AUDIT,
    ERROR,
    OPTIMIZER,
    REASON,
    RETRY_OF,
    START,
    curve_of,
    read_config,
    read_target,
    read_test,
    read_warmup,
    seconds_of,
)

NUM_TRIALS = "num_trials"  # study attribute: the number of trials that the job asks for
SPACE = "space"  # study attribute: the search space as canonical JSON
LOG_ID = "log_id"  # study attribute: the id by which a logger finds the study's runs
FIXED_PARAMS = "fixed_params"  # system attribute of an enqueued trial, by Optuna
_NONE: Mapping[int, TrialResult] = MappingProxyType({})

STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    # An interrupted trial is WAITING until a run resumes it from its checkpoint.
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}


def load_study(name_or_url: str, *, folder: Path | str = DEFAULT_FOLDER) -> StudyResult:
    """Read a study that is running or finished.

    Args:
        name_or_url: the name of the study, or ``URL#name`` for a study in a database. ``#name`` may
            be left out if the database holds one study.
        folder: the folder of all studies. It is used only with a name.

    Raises:
        InvalidInput: the study does not exist.

    Example:
        >>> best = load_study("digits").best  # doctest: +SKIP

        The error for an unknown name lists the studies in the folder:

        >>> load_study("digits", folder="no-folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        tuner.errors.InvalidInput: unknown study 'digits'; known: none (in ...)
    """
    with opened(name_or_url, folder) as (study, path):
        return read_result(study, path, is_driven=_has_driver(study, path))


@contextmanager
def opened(
    name_or_url: str, folder: Path | str = DEFAULT_FOLDER
) -> Iterator[tuple[optuna.Study, Path | None]]:
    """Open a study for reading. Yield it with its folder, or None if it was opened by URL.

    Args:
        name_or_url: as for `load_study`.
        folder: as for `load_study`.

    Raises:
        InvalidInput: as for `load_study`.
    """
    if "://" not in name_or_url:
        home = find_study(name_or_url.rstrip("/"), folder)
        storage, path, name = open_for_reading(home), home.path, home.name
    else:
        url, _, name = name_or_url.partition("#")
        storage, path = open_database(url, must_exist=True), None
    try:
        with answering():
            yield open_study(storage, name, path), path
    except DatabaseUnavailable as error:
        raise does_not_answer(error) from error
    finally:
        close_database(storage)


def open_study(storage: BaseStorage, name: str, folder: Path | None) -> optuna.Study:
    """Open a study of a storage by name.

    Args:
        storage: the storage.
        name: the name of the study. If it is unknown, the only study is opened, because a user may
            have renamed the folder. An empty name also means the only study.
        folder: the study's folder; None for a database given by its URL.

    Raises:
        InvalidInput: the study does not exist, or it has several objectives.
    """
    names = sorted(study.study_name for study in storage.get_all_studies())
    if folder and not names:
        raise InvalidInput(
            f"a study must have started before it can be read, {name!r} holds nothing yet; run it"
        )
    if name not in names and ((name and not folder) or len(names) != 1):
        raise InvalidInput(
            f"a database URL must name one of its studies, got {name or 'none'!r}; "
            f"use URL#NAME with one of: {', '.join(names) or 'none there'}"
        )
    study = optuna.load_study(study_name=name if name in names else names[0], storage=storage)
    if len(study.directions) > 1:
        raise InvalidInput(
            f"study {study.study_name!r} must have one objective to be ranked, it has "
            f"{len(study.directions)}; name another study"
        )
    return study


def read_result(
    study: optuna.Study,
    folder: Path | None,
    known: Mapping[int, TrialResult] = _NONE,
    *,
    is_driven: bool = True,
) -> StudyResult:
    """Read an open study.

    Checkpoints are under `folder`, unless the study names another path, or an earlier driver made
    them in another folder.

    Args:
        study: the open study.
        folder: the study's folder, or None.
        known: trials that had ended when they were read, by number. They are not read again.
        is_driven: whether a process runs the study now. Otherwise its running trials are
            interrupted.
    """
    attrs = study.user_attrs
    elsewhere = _text(attrs.get(CHECKPOINTS))
    paths = CheckpointPaths(study, folder)
    trials = study.get_trials(deepcopy=False)
    # A study of plain Optuna does not store the epochs of a whole trial.
    longest = max((trial.last_step or 0 for trial in trials), default=0)
    max_epochs = int(attrs.get(MAX_EPOCHS, max(1, longest)))
    return StudyResult(
        name=study.study_name,
        metric=attrs.get(METRIC, "value"),
        mode="max" if study.direction == optuna.study.StudyDirection.MAXIMIZE else "min",
        max_epochs=max_epochs,
        num_trials=int(attrs.get(NUM_TRIALS, 0)),
        space=attrs.get(SPACE, ""),
        trials=tuple(
            read
            if (read := known.get(trial.number)) and read.curve.max_epochs == max_epochs
            else read_trial(trial, max_epochs, paths.of(trial), folder, is_driven=is_driven)
            for trial in trials
        ),
        checkpoints=elsewhere or None,
        rotation_target=read_target(attrs),
        warmup_epochs=read_warmup(attrs),
    )


def checkpoints_of(study: optuna.Study, folder: Path | None) -> StoragePath | None:
    """Return the path of the trials' folders.

    It is the path that the study names, else the one in `folder`, else None.

    Args:
        study: an open study.
        folder: the study's folder, or None.
    """
    if elsewhere := _text(study.user_attrs.get(CHECKPOINTS)):
        return StoragePath(elsewhere)
    return StoragePath(str(StudyFolder(folder).trials.absolute())) if folder else None


class CheckpointPaths:
    """The paths of the checkpoints of a study's trials.

    A driver keeps the checkpoints of its trials in its own folder. So a study with drivers in
    several folders has several paths.

    Args:
        study: an open study.
        folder: the study's folder, or None. The trials of its own drivers are under it, even after
            the folder was moved.
    """

    def __init__(self, study: optuna.Study, folder: Path | None) -> None:
        self._own = checkpoints_of(study, folder)
        system_attrs = storage_of(study).get_study_system_attrs(study_id_of(study))
        self._folders = folders_in(system_attrs)
        is_named = bool(_text(study.user_attrs.get(CHECKPOINTS)))
        if folder and not is_named and id_file(folder).exists():
            self._folders.pop(id_file(folder).read_text().strip(), None)

    def of(self, trial: FrozenTrial) -> StoragePath | None:
        """Return the path that holds a trial's checkpoint; None if it is unknown."""
        trials = self._folders.get(trial.system_attrs.get(HOLDER, ""))
        return StoragePath(trials) if trials else self._own


def _has_driver(study: optuna.Study, folder: Path | None) -> bool:
    """Whether a process runs the study now."""
    storage = storage_of(study)
    if isinstance(storage, RDBStorage):
        return has_lease(storage.get_study_system_attrs(study_id_of(study)), seconds_now(storage))
    return folder is not None and StudyFolder(folder).is_locked()


def read_trial(
    trial: FrozenTrial,
    max_epochs: int,
    place: StoragePath | None,
    folder: Path | None = None,
    *,
    is_driven: bool = True,
) -> TrialResult:
    """Read one trial.

    Args:
        trial: the trial.
        max_epochs: epochs of a whole trial, >= 1.
        place: the path that holds the trial's checkpoints, or None.
        folder: the study's folder, which holds the traceback of a failed trial, or None.
        is_driven: whether a process runs the study now.
    """
    error, retry_of = trial.user_attrs.get(ERROR), trial.user_attrs.get(RETRY_OF)
    curve = curve_of(trial, max_epochs)
    value = trial.value if trial.value is not None else math.nan
    if math.isnan(value) and trial.last_step is not None:
        value = trial.intermediate_values[trial.last_step]
    checkpoint = trial.user_attrs.get(CHECKPOINT)
    return TrialResult(
        number=trial.number,
        state=STATES[trial.state],
        value=value,
        # An enqueued trial has only its fixed parameters until it runs.
        params=trial.params or dict(trial.system_attrs.get(FIXED_PARAMS, {})),
        curve=curve,
        epochs=curve.epochs[-1] if len(curve) else 0,
        seconds=seconds_of(trial),
        reason=trial.user_attrs.get(REASON, ""),
        checkpoint=str(place / checkpoint) if checkpoint and place else None,
        test=read_test(trial),
        audit=_text(trial.user_attrs.get(AUDIT)),
        advice=_text(trial.user_attrs.get(ADVICE)),
        start=_text(trial.user_attrs.get(START)),
        config=read_config(trial),
        optimizer=_text(trial.user_attrs.get(OPTIMIZER)),
        status=_status(trial, is_driven),
        error=str(folder.absolute() / error) if folder and isinstance(error, str) else None,
        retry_of=retry_of if isinstance(retry_of, int) else None,
    )


def _status(trial: FrozenTrial, is_driven: bool) -> Status:
    if trial.state.is_finished():
        return STATES[trial.state]
    if trial.state == TrialState.WAITING:  # it was enqueued, or handed back when a run ended
        paused = trial.system_attrs.get(PAUSED)
        return "paused" if paused else "interrupted" if trial.params else "waiting"
    if trial.system_attrs.get(PAUSED):
        return "paused"
    return "running" if is_driven else "interrupted"


def _text(value: object) -> str:
    """Return the value if it is text, else "". Other programs may use the attribute's name."""
    return value if isinstance(value, str) else ""


_BEGIN, _END = "-----BEGIN STUDY-----", "-----END STUDY-----"


def pack(home: StudyFolder) -> str:
    """Return a study as lines of text, with the path of its trials' folders on this machine.

    Raises:
        InvalidInput: the storage cannot be opened.
    """
    journal = _copied(home) if home.storage_url.exists() else home.journal.read_bytes()
    content = str(home.trials.absolute()).encode() + b"\n" + journal
    text = base64.b64encode(zlib.compress(content, level=9)).decode()
    return "\n".join([_BEGIN, *textwrap.wrap(text, 1000), _END])


def unpack(text: str, name: str, folder: Path) -> StudyFolder:
    """Write a packed study to a folder of its name.

    Args:
        text: any text that contains the packed study, such as a job's log.
        name: the name of the study.
        folder: the folder of all studies.

    Raises:
        InvalidInput: the text contains no whole study.
    """
    _, _, after = text.partition(_BEGIN)
    packed, end, _ = after.partition(_END)
    if not end:
        raise InvalidInput(f"study {name!r} must arrive whole, it did not; try again")
    home = StudyFolder(folder / name)
    home.path.mkdir(parents=True)
    content = zlib.decompress(base64.b64decode("".join(packed.split())))
    trials, _, journal = content.partition(b"\n")
    home.journal.write_bytes(journal)
    study = optuna.load_study(
        study_name=name, storage=JournalStorage(JournalFileBackend(str(home.journal)))
    )
    # Without this attribute the checkpoints are in the study's folder on the other machine.
    if CHECKPOINTS not in study.user_attrs:
        study.set_user_attr(CHECKPOINTS, trials.decode())
    return home


def _copied(home: StudyFolder) -> bytes:
    """Return the content of a journal with a copy of a study in a database."""
    storage = open_for_reading(home)
    try:
        with tempfile.TemporaryDirectory() as made:
            file = Path(made, "study.log")
            optuna.copy_study(
                from_study_name=home.name,
                from_storage=storage,
                to_storage=JournalStorage(JournalFileBackend(str(file))),
            )
            return file.read_bytes()
    finally:
        close_database(storage)
