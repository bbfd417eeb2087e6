"""The private names of Optuna that `tuner` uses, each with the reason.

No other module of `tuner` uses a private name of Optuna. They were tested with Optuna 5.0.0;
pyproject.toml excludes later minor versions until somebody has tested them.

- `Study._storage`, `Study._study_id`, `FrozenStudy._study_id`, `Trial._trial_id` and
  `FrozenTrial._trial_id`: only the storage reads and writes some data, and it needs these ids.
- `Study._thread_local`: `Study.ask` clears this cache, but it cannot run an existing trial.
- `Study._get_trials`: samplers call it, so a sampler's view of the trials overrides it.
- `Trial._suggest`: the public methods do not take a distribution.
- `BaseDistribution._contains`: there is no public way to ask whether a value is in a range.
- `RDBStorage.scoped_session`: it is undocumented. It puts several changes into one transaction.
- `RDBStorage._get_prepared_new_trial`: the public `create_new_trial` sleeps between its attempts.
- `optuna.storages._rdb.models`: only a lock on the study's row serialises its writers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.study import Study
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial
from sqlalchemy import Connection
from sqlalchemy.orm import scoped_session, sessionmaker


def storage_of(study: Study) -> BaseStorage:
    """Return the storage that an open study reads and writes."""
    return study._storage


def is_in_range(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution can give a value, in its external form."""
    return distribution._contains(distribution.to_internal_repr(value))


def study_id_of(study: Study | FrozenStudy) -> int:
    """Return a study's id in its storage."""
    return study._study_id


def trial_id_of(trial: optuna.Trial | FrozenTrial) -> int:
    """Return a trial's id in its storage."""
    return trial._trial_id


def stored_trial(trial: optuna.Trial) -> FrozenTrial:
    """Return a trial as the storage holds it now."""
    return trial.study._storage.get_trial(trial._trial_id)


def trial_to_run(study: Study, trial_id: int) -> optuna.Trial:
    """Return an existing trial of the study to run now, as `Study.ask` does for a new trial."""
    study._thread_local.cached_all_trials = None
    return optuna.Trial(study, trial_id)


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """Return a trial's value of a parameter, drawn from a distribution."""
    return trial._suggest(name, distribution)


def study_as_shown(study: Study, show: Callable[[FrozenTrial], FrozenTrial]) -> Study:
    """Return a view of a study for a sampler, in which `show` replaces each trial.

    Args:
        study: the study.
        show: returns the trial that the sampler sees in place of the given one.
    """
    shown: Any = object.__new__(_ShownStudy)
    shown.__dict__.update(study.__dict__, show=show)
    return shown  # type: ignore[no-any-return]


class _ShownStudy(Study):
    show: Callable[[FrozenTrial], FrozenTrial]

    def _get_trials(
        self, deepcopy: bool = True, states: Any = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy=deepcopy, states=None, use_cache=use_cache)
        shown = [self.show(trial) for trial in trials]
        return [trial for trial in shown if states is None or trial.state in states]


def within(database: RDBStorage, connection: Connection) -> RDBStorage:
    """Return the same database, with all its methods in the connection's transaction.

    The caller commits and removes its `scoped_session`.
    """
    bound = object.__new__(RDBStorage)  # a copy would open another connection
    bound.__dict__.update(database.__dict__)
    bound.scoped_session = scoped_session(
        sessionmaker(bind=connection, join_transaction_mode="rollback_only")
    )
    return bound


def lock_study(database: RDBStorage, study_id: int) -> None:
    """Lock a study's row until the transaction ends. Other transactions that lock it wait.

    Raises:
        KeyError: the study does not exist.
    """
    models.StudyModel.find_or_raise_by_id(study_id, database.scoped_session(), for_update=True)


def create_trial(
    database: RDBStorage, study_id: int, template: FrozenTrial | None = None
) -> tuple[int, int]:
    """Create a trial in a transaction that locks the study. Return its id and its number."""
    session = database.scoped_session()
    created = database._get_prepared_new_trial(study_id, template, session)
    session.flush()
    return int(str(created.trial_id)), int(str(created.number))
