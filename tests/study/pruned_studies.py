"""Studies of trials that a pruner judges, for the tests of the pruners."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.study.pruners import RotationPruner
from tuner.study.schema import report_rotation

LAYERS = ("first", "hidden", "last")
EPOCHS = 9
BOUNDS: dict[str, Any] = {"warmup_epochs": 1, "early_keep": 0.5, "keep": 0.3, "audit": 0}


def pruner_of(**given: Any) -> RotationPruner:
    return RotationPruner(**{"max_epochs": EPOCHS, **BOUNDS, **given})


def objective(trial: optuna.Trial) -> float:
    """Train a run whose metric (to be made large) and rotation both follow its quality."""
    quality = trial.suggest_float("quality", 0.0, 1.0)
    for epoch in range(1, EPOCHS + 1):
        share = epoch / EPOCHS
        distances = dict.fromkeys(LAYERS, quality * share)
        report_rotation(trial, epoch, distances, lr_progress=share, train_loss=2 - quality * share)
        trial.report(quality * share, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return quality


def optimized(pruner: optuna.pruners.BasePruner, **options: Any) -> optuna.Study:
    study = optuna.create_study(
        storage=options.get("storage"),
        study_name="s",
        load_if_exists=True,
        direction=options.get("direction", "maximize"),
        pruner=pruner,
        sampler=optuna.samplers.RandomSampler(seed=options.get("seed", 0)),
    )
    study.optimize(
        options.get("objective", objective),
        n_trials=options.get("trials", 15),
        n_jobs=options.get("n_jobs", 1),
        catch=options.get("catch", ()),
    )
    return study


def of_state(study: optuna.Study, state: TrialState) -> list[FrozenTrial]:
    return [trial for trial in study.trials if trial.state == state]


def add(study: optuna.Study, metric: float, rotation: float, **how: Any) -> FrozenTrial:
    """Add a trial that stands after its first of nine epochs, and return it."""
    trial = study.ask()
    loss = how.get("train_loss", 1.0)
    report_rotation(trial, 1, dict.fromkeys(LAYERS, rotation), lr_progress=1 / 9, train_loss=loss)
    trial.report(metric, 1)
    if "state" in how:
        study.tell(
            trial,
            metric if how["state"] == TrialState.COMPLETE else None,
            state=how["state"],
        )
    return study.trials[trial.number]


def standing(
    metric: float, rotation: float, peers: list[tuple[float, float]], **how: Any
) -> tuple[optuna.Study, FrozenTrial]:
    """Return a study of peers (metric, rotation), and in it a trial to be judged."""
    study = optuna.create_study(direction=how.pop("direction", "maximize"))
    for peer in peers:
        add(study, *peer, **how)
    return study, add(study, metric, rotation)
