"""A pruner judges Ray's trials as it judges the same trials in plain Optuna."""

from __future__ import annotations

import optuna
import pytest
from curve_trials import report_at
from optuna.pruners import PercentilePruner, ThresholdPruner
from optuna.trial import TrialState

from tuner import RotationPruner, RotationTarget, TuningJob, load_study, report_rotation, run
from tuner.engine.observer import Observer
from tuner.study.pruners import explain, make_pruner
from tuner.study.samplers import sampler_for_trial

pytestmark = pytest.mark.usefixtures("two_cpus")


def in_plain_optuna(job: TuningJob) -> optuna.Study:
    """Run a job's trials one after the other with ask and tell, as Optuna's documentation does."""
    study = optuna.create_study(
        study_name=job.name,
        direction="maximize",
        pruner=make_pruner(job.pruner, job.rotation_target, job.max_epochs),
    )
    study.set_user_attr("metric", job.metric)
    study.set_user_attr("max_epochs", job.max_epochs)
    for number in range(job.num_trials):
        study.sampler = sampler_for_trial(job.sampler, job.seed, number)
        trial = study.ask()
        config = {**job.search_space(trial), "max_epochs": job.max_epochs}
        for epoch in range(1, job.max_epochs + 1):
            report = report_at(epoch, config)
            rotation = {
                key.removeprefix("rotation/"): value
                for key, value in report.items()
                if key.startswith("rotation/")
            }
            clocks = {key: report[key] for key in ("lr_progress", "train_loss", "epoch_s")}
            report_rotation(trial, epoch, rotation, **clocks)
            trial.report(report["score"], epoch)
            if epoch < job.max_epochs and trial.should_prune():
                if "reason" not in study.trials[number].user_attrs:
                    trial.set_user_attr("reason", explain(study, trial, "score", job.max_epochs))
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, report["score"])
    return study


@pytest.mark.parametrize(
    ("pruner", "sampler", "prunes"),
    [
        ("rotation", "random", True),
        ("rotation", "tpe", True),
        (RotationPruner(RotationTarget(distance=0.5), warmup_epochs=2, eta=4), "random", True),
        ("none", "random", False),
        ("median", "random", True),
        ("asha", "random", True),
        ("hyperband", "tpe", True),
        ("wilcoxon", "random", True),
        (ThresholdPruner(lower=0.2, n_warmup_steps=2), "random", True),
        (PercentilePruner(50.0, n_warmup_steps=2, interval_steps=3), "random", True),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_verdicts_are_those_of_plain_optuna(make_job, pruner, sampler, prunes):
    job = make_job(
        pruner=pruner, sampler=sampler, num_trials=24, max_epochs=9, max_concurrent=1, seed=7
    )
    result = run(job, observer=Observer())
    plain = in_plain_optuna(job)
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    assert [(t.params, t.state, t.epochs, t.value, t.reason) for t in result.trials] == [
        (
            trial.params,
            states[trial.state],
            trial.last_step,
            trial.intermediate_values[trial.last_step],
            trial.user_attrs.get("reason", ""),
        )
        for trial in plain.trials
    ]
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert bool(pruned) is prunes
    assert all(trial.reason for trial in pruned)
    assert load_study(job.name, folder=job.folder) == result
