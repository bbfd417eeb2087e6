"""A study in an SQL database, written behind the decisions like the embedded journal.

A report to a database costs milliseconds (SQLite 20, FIELD measurements in docs/log.md), so nothing
waits for one: the study is read into memory when it is opened, every change is made there, and a
thread repeats the changes on the database in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from tuner.errors import InvalidInput
from tuner.study.writer import BatchWriter


def open_database(url: str, *, must_exist: bool = False) -> RDBStorage:
    """Open an SQL database by URL, e.g. ``postgresql://host/db`` or ``sqlite:///study.db``.

    Raises:
        InvalidInput: the URL is not one, its driver is not installed, or nothing answers there; or
            it `must_exist` and is the path of an SQLite file that does not.
    """
    file = url.removeprefix("sqlite:///")
    if must_exist and file != url and not Path(file).exists():
        raise InvalidInput(f"a database must exist to be read, got {url!r}; check the path")
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        shown, why = _without_passwords(url, error)
        raise InvalidInput(
            f"storage must be the URL of a database that answers, got {shown} ({why}); "
            "use e.g. sqlite:///study.db, or leave it out for a file beside the experiment"
        ) from error


def close_database(storage: BaseStorage) -> None:
    """Close the connections of a storage that has any."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _without_passwords(url: str, error: Exception) -> tuple[str, str]:
    """Return the URL and the first line of what went wrong, as they may be shown."""
    why = next(iter(str(error).strip().splitlines()), type(error).__name__)
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        secret = "@" in url or "?" in url
        return ("the given URL", type(error).__name__) if secret else (repr(url), why)
    hidden = [key for key in parsed.query if "pass" in key.lower()]
    for part in (parsed.password, *(parsed.query[key] for key in hidden)):
        if part:
            why = why.replace(str(part), "***")
    shown = parsed.difference_update_query(hidden).render_as_string(hide_password=True)
    return repr(shown), why


class WriteBehindDatabase(InMemoryStorage):
    """One study of a database in memory, whose changes a thread repeats on the database.

    Args:
        database: where the study is kept.
        name: the study's name there; it need not exist yet.
    """

    def __init__(self, database: BaseStorage, name: str) -> None:
        super().__init__()
        self._database = database
        self._stored_trial: dict[int, int] = {}  # trial id here -> trial id in the database
        self._stored_study: dict[int, int] = {}
        self._writer: BatchWriter[tuple[str, int, tuple[Any, ...]]] | None = None
        for study in database.get_all_studies():
            if study.study_name == name:
                self._read(study._study_id, study.directions, name)
        self._writer = BatchWriter(self._repeat)
        self.flush = self._writer.flush
        self.close = self._writer.close

    def _read(self, stored_id: int, directions: Sequence[StudyDirection], name: str) -> None:
        study_id = super().create_new_study(directions, name)
        self._stored_study[study_id] = stored_id
        for key, value in self._database.get_study_user_attrs(stored_id).items():
            super().set_study_user_attr(study_id, key, value)
        for key, value in self._database.get_study_system_attrs(stored_id).items():
            super().set_study_system_attr(study_id, key, value)
        for trial in self._database.get_all_trials(stored_id):
            trial_id = super().create_new_trial(study_id, trial)
            self._stored_trial[trial_id] = trial._trial_id

    def _later(self, method: str, item_id: int, *rest: Any) -> None:
        if self._writer:
            self._writer.put([(method, item_id, rest)])

    def _repeat(self, changes: list[tuple[str, int, tuple[Any, ...]]]) -> None:
        for method, item_id, rest in changes:
            if method == "create_new_study":
                self._stored_study[item_id] = self._database.create_new_study(*rest)
            elif method == "create_new_trial":
                study_id, template = rest
                self._stored_trial[item_id] = self._database.create_new_trial(
                    self._stored_study[study_id], template
                )
            else:
                stored = self._stored_trial if "_trial_" in method else self._stored_study
                getattr(self._database, method)(stored[item_id], *rest)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        study_id = super().create_new_study(directions, study_name)
        self._later("create_new_study", study_id, list(directions), study_name)
        return study_id

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = super().create_new_trial(study_id, template_trial)
        self._later("create_new_trial", trial_id, study_id, template_trial)
        return trial_id

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
