"""Studies that were made up, in a real storage."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.study.folder import StudyFolder, open_for_writing
from tuner.study.result import StudyResult, TrialResult
from tuner.study.schema import LAYERS

_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}


def store(result: StudyResult, folder: Path, url: str | None = None) -> None:
    """Store a study as `tuner.run` would: under a folder, or in a database by its URL alone."""
    if url is not None:
        _add(result, url)
        return
    home = StudyFolder(folder / result.name)
    home.path.mkdir(parents=True)
    with home.locked(), open_for_writing(home, None) as storage:
        _add(result, storage)


def _add(result: StudyResult, storage: str | optuna.storages.BaseStorage) -> None:
    study = optuna.create_study(
        storage=storage,
        study_name=result.name,
        direction="maximize" if result.mode == "max" else "minimize",
    )
    for name in ("metric", "max_epochs", "num_trials", "space"):
        study.set_user_attr(name, getattr(result, name))
    names = {name for trial in result.trials for name in trial.params}
    spaces = {name: _distribution(name, result) for name in names}
    study.add_trials(_trial(trial, spaces) for trial in result.trials)


def _distribution(name: str, result: StudyResult) -> BaseDistribution:
    values = [trial.params[name] for trial in result.trials if name in trial.params]
    if all(type(value) is float for value in values):
        return FloatDistribution(min(values), max(values))
    return CategoricalDistribution(sorted(set(values), key=str))


def _trial(trial: TrialResult, spaces: dict[str, BaseDistribution]) -> FrozenTrial:
    curve = trial.curve
    reports = {
        f"rotation:{epoch:g}": {
            "distances": list(curve.distances[at]),
            "lr_progress": curve.lr_progress[at],
            "train_loss": curve.train_loss[at],
            "epoch_s": trial.seconds / len(curve),
        }
        for at, epoch in enumerate(curve.epochs)
    }
    return create_trial(
        state=_STATES[trial.state],
        value=trial.value if trial.state == "complete" else None,
        params=trial.params,
        distributions={name: spaces[name] for name in trial.params},
        intermediate_values=dict(zip(map(int, curve.epochs), curve.metric, strict=True)),
        user_attrs={
            LAYERS: list(curve.layers),
            **reports,
            **({"reason": trial.reason} if trial.reason else {}),
            **({"audit": trial.audit} if trial.audit else {}),
            **({"test": trial.test} if trial.test else {}),
        },
    )
