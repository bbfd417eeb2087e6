"""RotationPruner in plain Optuna: what it prunes, what it must be told, and what it audits."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.study.pruned_studies import EPOCHS, objective, of_state, optimized, pruner_of
from tuner.errors import InvalidInput
from tuner.rotation import PruningConfig
from tuner.study.pruners import RotationPruner
from tuner.study.schema import report_rotation


class TestRotationPruner:
    def test_it_prunes_the_worse_runs_each_with_a_reason(self):
        study = optimized(pruner_of())
        pruned = of_state(study, TrialState.PRUNED)
        complete = of_state(study, TrialState.COMPLETE)
        assert len(pruned) >= 5
        assert len(pruned) + len(complete) == 15
        assert study.best_trial.params["quality"] == max(t.params["quality"] for t in study.trials)
        for trial in pruned:
            assert trial.user_attrs["reason"].startswith("peers: ")
            saved = f" Saves {EPOCHS - trial.last_step} of {EPOCHS} epochs."
            assert trial.user_attrs["reason"].endswith(saved)
        assert not [trial for trial in complete if "reason" in trial.user_attrs]

    def test_a_metric_to_be_made_small_prunes_the_same_runs(self):
        def loss(trial: optuna.Trial) -> float:
            class Negated:
                """The trial, with its metric's sign turned."""

                def __getattr__(self, name: str) -> Any:
                    return getattr(trial, name)

                def report(self, value: float, step: int) -> None:
                    trial.report(-value, step)

            return -objective(Negated())

        largest = optimized(pruner_of())
        smallest = optimized(pruner_of(), direction="minimize", objective=loss)
        pruned = [trial.last_step for trial in largest.trials]
        assert [trial.last_step for trial in smallest.trials] == pruned
        assert [trial.state for trial in smallest.trials] == [t.state for t in largest.trials]

    def test_without_rotation_it_ranks_by_the_metric_alone(self):
        def plain(trial: optuna.Trial) -> float:
            quality = trial.suggest_float("quality", 0.0, 1.0)
            for epoch in range(1, EPOCHS + 1):
                trial.report(quality * epoch, epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return quality

        pruned = of_state(optimized(pruner_of(), objective=plain), TrialState.PRUNED)
        assert len(pruned) >= 5
        for trial in pruned:
            assert trial.user_attrs["reason"].startswith("peers: ")
            assert " Compared by value; " in trial.user_attrs["reason"]

    def test_the_study_may_say_how_long_a_run_is_and_what_the_metric_is_called(self):
        study = optuna.create_study(
            direction="maximize",
            pruner=pruner_of(max_epochs=None),
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        study.set_user_attr("max_epochs", EPOCHS)
        study.set_user_attr("metric", "val_accuracy")
        study.optimize(objective, n_trials=15)
        reasons = [trial.user_attrs["reason"] for trial in of_state(study, TrialState.PRUNED)]
        assert reasons
        assert all("val_accuracy" in reason for reason in reasons)

    def test_it_must_be_told_how_long_a_run_is(self):
        study = optuna.create_study(pruner=RotationPruner())
        trial = study.ask()
        report_rotation(trial, 1, {"a": 0.1})
        with pytest.raises(
            InvalidInput, match=r"got none; use RotationPruner\(max_epochs=\.\.\.\)"
        ):
            trial.should_prune()

    @pytest.mark.parametrize(
        ("bounds", "told"),
        [
            ({"max_epochs": 0}, "max_epochs must be >= 1, got 0; use 1"),
            ({"warmup_epochs": 0}, "warmup_epochs must be > 0, got 0; use 0.25"),
            ({"keep": 0}, r"keep must be in \(0, 1\], got 0; leave it out for"),
            ({"early_keep": 2}, r"early_keep must be in \(0, 1\], got 2; leave it out for"),
            ({"audit": 1}, r"audit must be in \[0, 1\), got 1; use 0"),
            ({"seed": -1}, "seed must be >= 0, got -1; use 0"),
        ],
    )
    def test_a_broken_bound_is_one_line(self, bounds, told):
        with pytest.raises(InvalidInput, match=f"^{told}"):
            RotationPruner(**bounds)

    def test_a_bound_left_out_is_the_one_that_criteria_have(self):
        assert RotationPruner().criteria == PruningConfig()


class TestAudit:
    def test_a_trial_to_be_pruned_is_trained_to_its_end_with_the_reason_as_audit(self):
        study = optimized(pruner_of(audit=0.999999))
        assert len(of_state(study, TrialState.COMPLETE)) == 15
        assert not [trial for trial in study.trials if "reason" in trial.user_attrs]
        audited = [trial for trial in study.trials if "audit" in trial.user_attrs]
        assert len(audited) >= 5
        assert all(" Saves " in trial.user_attrs["audit"] for trial in audited)

    def test_its_first_reason_is_kept(self):
        study = optuna.create_study(direction="maximize", pruner=pruner_of(audit=0.999999))
        for metric in (0.9, 0.8, 0.7):
            peer = study.ask()
            for epoch in (1, 2):
                peer.report(metric, epoch)
        trial = study.ask()
        kept, later = [], []
        for epoch in (1, 2):
            trial.report(0.1, epoch)
            assert not trial.should_prune()
            kept.append(study.trials[3].user_attrs["audit"])
            later.append(study.pruner.verdict(study, study.trials[3]))
        assert [verdict.audit for verdict in later] == [True, True]
        assert [verdict.reason[-20:] for verdict in later] == [
            "Saves 8 of 9 epochs.",
            "Saves 7 of 9 epochs.",
        ]
        assert kept == [later[0].reason] * 2

    def test_a_study_is_audited_by_its_seed(self):
        def audited(seed: int) -> list[int]:
            study = optimized(pruner_of(audit=0.5, seed=seed), trials=20)
            return [trial.number for trial in study.trials if "audit" in trial.user_attrs]

        assert audited(1) == audited(1)
        assert audited(1) != audited(2)
