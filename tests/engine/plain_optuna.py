"""The same study without this service: Optuna's ask and tell, one trial after the other."""

from __future__ import annotations

import optuna
from curve_trials import report_at
from optuna.trial import TrialState

from tuner import TuningJob, report_rotation
from tuner.study.pruners import explain, make_pruner
from tuner.study.samplers import sampler_for_trial

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}


def in_plain_optuna(job: TuningJob) -> optuna.Study:
    """Run a job's trials one after the other with ask and tell, as Optuna's documentation does."""
    study = optuna.create_study(
        study_name=job.name,
        direction="maximize",
        pruner=make_pruner(job.pruner, job.rotation_target, job.max_epochs, job.seed),
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
