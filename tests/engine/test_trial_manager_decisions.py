"""A pruner judges Ray's trials as it judges the same trials in plain Optuna, and in the replay."""

from __future__ import annotations

import pytest
from curve_trials import Unpausable, report_at
from optuna.pruners import PercentilePruner, ThresholdPruner
from plain_optuna import STATES, in_plain_optuna

from tuner import RotationPruner, RotationTarget, load_study, run
from tuner.engine.callbacks import RunCallback
from tuner.replay.recording import RecordedTrial
from tuner.replay.schedulers import RotationPolicy
from tuner.replay.simulator import simulate
from tuner.rotation import PruningConfig, RotationCurve
from tuner.rotation.decision import is_audited

pytestmark = pytest.mark.usefixtures("two_cpus")


@pytest.mark.parametrize(
    ("pruner", "sampler", "prunes"),
    [
        ("rotation", "random", True),
        ("rotation", "tpe", True),
        (RotationPruner(RotationTarget(distance=0.5), warmup_epochs=2, keep=0.25), "random", True),
        (RotationPruner(audit=0.5), "random", True),
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
        trainable=Unpausable,
        pruner=pruner,
        sampler=sampler,
        num_trials=16,
        max_epochs=9,
        max_concurrent=1,
        seed=7,
    )
    result = run(job, observer=RunCallback())
    plain = in_plain_optuna(job)
    assert [(t.params, t.state, t.epochs, t.value, t.reason) for t in result.trials] == [
        (
            trial.params,
            STATES[trial.state],
            trial.last_step,
            trial.intermediate_values[trial.last_step],
            trial.user_attrs.get("reason", ""),
        )
        for trial in plain.trials
    ]
    assert [trial.audit for trial in result.trials] == [
        trial.user_attrs.get("audit", "") for trial in plain.trials
    ]
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert bool(pruned) is prunes
    assert all(trial.reason for trial in pruned)
    assert load_study(job.name, folder=job.folder) == result


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"warmup_epochs": 1, "keep": 0.5},
        {"audit": 0.4, "seed": 2},
        {"warmup_epochs": 2, "keep": 0.2, "audit": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("trials", [6, 24])
def test_trials_that_wait_go_as_far_as_in_the_replay(make_job, settings, trials):
    job = make_job(
        pruner=RotationPruner(**settings),
        num_trials=trials,
        max_epochs=16,
        max_concurrent=1,
        seed=7,
    )
    result = run(job, observer=RunCallback())
    criteria = PruningConfig(metric_name="score", **settings)
    whole = [
        RecordedTrial(t.number, whole_curve(t.params, job.max_epochs), float("nan"), t.params)
        for t in result.trials
    ]
    replayed = simulate(whole, RotationPolicy(job.max_epochs, criteria), 1, "max")
    assert {trial.number: trial.epochs for trial in result.trials} == replayed.epochs
    complete = {trial.number for trial in result.trials if trial.state == "complete"}
    assert complete == replayed.finished
    assert 0 < len(complete) < trials


def test_whom_a_named_pruner_audits_is_drawn_by_the_jobs_seed(make_job):
    def drawn(seed: int) -> set[int]:
        criteria = PruningConfig(seed=seed)
        return {number for number in range(24) if is_audited(number, criteria)}

    assert drawn(14)
    assert not drawn(14) & drawn(0)
    job = make_job(
        trainable=Unpausable, pruner="rotation", num_trials=24, max_concurrent=1, seed=14
    )
    result = run(job, observer=RunCallback())
    audited = {trial.number for trial in result.trials if trial.audit}
    assert audited
    assert audited <= drawn(14)
    assert not drawn(14) & {trial.number for trial in result.trials if trial.state == "pruned"}


def whole_curve(params, max_epochs) -> RotationCurve:
    """Return what a trial of these parameters reports when it is never stopped."""
    curve = RotationCurve(layers=("first", "hidden", "head"), max_epochs=max_epochs)
    for epoch in range(1, max_epochs + 1):
        report = report_at(epoch, {**params, "max_epochs": max_epochs})
        curve = curve.append(
            epoch,
            # As the study stores it.
            {layer: round(report[f"rotation/{layer}"], 6) for layer in curve.layers},
            metric=report["score"],
            train_loss=report["train_loss"],
            lr_progress=report["lr_progress"],
        )
    return curve
