"""Studies to read and trials to make them of, for the tests of the study and of its report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from tuner.rotation import RotationCurve
from tuner.study.folder import StudyFolder, open_for_writing
from tuner.study.result import StudyResult, TrialResult
from tuner.study.schema import report_rotation

NAN = math.nan
# The ranking's columns, up to the parameters; the reason is last.
RANKING = [
    "rank",
    "trial",
    "state",
    "val_accuracy",
    "rotation_min",
    "rotation_min_layer",
    "rotation_mean",
    "epochs",
    "seconds",
]


def trial_result(number: int, state: str, value: float = NAN, **changes: Any) -> TrialResult:
    """Return a trial that has trained `epochs` (5) of 10 epochs and turned its two layers."""
    epochs = changes.pop("epochs", 5)
    curve = RotationCurve(layers=("first", "last"), max_epochs=max(10, int(epochs)))
    for epoch in range(1, int(epochs) + 1):
        distances = {"first": 0.01 * epoch, "last": 0.02 * epoch}
        curve = curve.append(epoch, distances, metric=value, train_loss=1 / epoch)
    fields: dict[str, Any] = {
        "params": {"lr": 0.1 * (number + 1)},
        "curve": curve,
        "epochs": epochs,
        "seconds": 1.5,
        "reason": "",
        "checkpoint": None,
    }
    return TrialResult(number=number, state=state, value=value, **{**fields, **changes})


def study_result(*trials: TrialResult, mode: str = "max", **changes: Any) -> StudyResult:
    fields: dict[str, Any] = {
        "name": "example",
        "metric": "val_accuracy",
        "max_epochs": 10,
        "num_trials": len(trials),
        "space": "",
    }
    return StudyResult(mode=mode, trials=trials, **{**fields, **changes})


def make_study(folder: Path, name: str = "example", url: str | None = None) -> StudyFolder:
    """Make a study of four trials, as `tuner.run` leaves it: 0 complete, 1 pruned, 2 failed and 3
    interrupted."""
    home = StudyFolder(folder / name)
    home.path.mkdir(parents=True)
    with open_for_writing(home, url) as storage:
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
        for key, value in {"metric": "val_accuracy", "max_epochs": 4, "num_trials": 4}.items():
            study.set_user_attr(key, value)
        ends = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING)
        for number, end in enumerate(ends):
            trial = study.ask()
            trial.suggest_float("lr", 0.1, 1.0)
            trial.suggest_categorical("optimizer", ["sgd", "adam"])
            for epoch in range(1, 5 if end is TrialState.COMPLETE else 3):
                report(trial, epoch, 0.1 * epoch + 0.01 * number)
            if end is TrialState.COMPLETE:
                trial.set_user_attr("checkpoint", "trial_0/checkpoint_000003")
                study.tell(trial, 0.4)
            elif end is TrialState.WAITING:
                storage.set_trial_state_values(trial._trial_id, end)
            else:
                trial.set_user_attr("reason", f"because it was {end.name.lower()}")
                study.tell(trial, state=end)
    return home


def report(trial: optuna.Trial, epoch: int, value: float) -> None:
    distances = {"first": 0.1 * epoch, "last": 0.2 * epoch}
    report_rotation(trial, epoch, distances, lr_progress=epoch / 4, train_loss=1.0, epoch_s=0.5)
    trial.report(value, epoch)


def change_everything(storage: BaseStorage, name: str = "everything") -> None:
    """Make every kind of change that a storage knows, to a study made there."""
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], name)
    storage.set_study_user_attr(study_id, "metric", "val_accuracy")
    storage.set_study_user_attr(study_id, "nested", {"list": [1, 2.5, None, "text"]})
    storage.set_study_user_attr(study_id, "metric", "val_loss")
    storage.set_study_system_attr(study_id, "system", [1, 2])

    trial = storage.create_new_trial(study_id)
    drawn = (
        ("lr", 0.01, FloatDistribution(1e-4, 1.0, log=True)),
        ("momentum", 0.3, FloatDistribution(0.0, 0.9, step=0.3)),
        ("layers", 3.0, IntDistribution(1, 8)),
        ("optimizer", 1.0, CategoricalDistribution(["sgd", None, True, 2.5])),
    )
    for param, internal, distribution in drawn:
        storage.set_trial_param(trial, param, internal, distribution)
    for step, value in ((1, 0.5), (2, -0.25), (4, math.inf), (5, NAN)):
        storage.set_trial_intermediate_value(trial, step, value)
    storage.set_trial_user_attr(trial, "rotation:1", {"distances": [0.1, None]})
    storage.set_trial_system_attr(trial, "rung", 3)
    storage.set_trial_state_values(trial, TrialState.COMPLETE, [0.75])

    for state in (TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING):
        trial = storage.create_new_trial(study_id)
        storage.set_trial_user_attr(trial, "reason", state.name)
        storage.set_trial_state_values(trial, state)
    storage.create_new_trial(study_id)

    template = {"params": {"lr": 0.5}, "distributions": {"lr": drawn[0][2]}}
    storage.create_new_trial(study_id, create_trial(value=0.5, user_attrs={"a": 1}, **template))
    storage.create_new_trial(
        study_id,
        create_trial(
            state=TrialState.WAITING, system_attrs={"fixed_params": {"lr": 0.25}}, **template
        ),
    )


def content(storage: BaseStorage, name: str = "everything") -> dict[str, Any]:
    """Return everything that a storage holds of a study but the times, as text to compare."""
    (study,) = (study for study in storage.get_all_studies() if study.study_name == name)
    return {
        "directions": study.directions,
        "user": storage.get_study_user_attrs(study._study_id),
        "system": storage.get_study_system_attrs(study._study_id),
        "trials": [
            {
                "number": trial.number,
                "state": trial.state,
                "values": trial.values,
                # A NaN equals nothing, so these are compared as they are written.
                "intermediate": repr(sorted(trial.intermediate_values.items())),
                "params": trial.params,
                "distributions": trial.distributions,
                "user": trial.user_attrs,
                "system": trial.system_attrs,
            }
            for trial in storage.get_all_trials(study._study_id)
        ],
    }
