"""Every pruner there is a name for, and the reason given for those that give none."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from tests.study.pruned_studies import EPOCHS, of_state, optimized
from tuner.errors import InvalidInput
from tuner.rotation import PruningConfig, RotationTarget
from tuner.study.pruners import PRUNERS, RotationPruner, explain, make_pruner


class TestNamedPruners:
    @pytest.mark.parametrize("name", PRUNERS)
    def test_each_runs_a_plain_study_to_its_end(self, name):
        study = optimized(make_pruner(name, RotationTarget(), EPOCHS), trials=24)
        pruned = of_state(study, TrialState.PRUNED)
        assert len(pruned) + len(of_state(study, TrialState.COMPLETE)) == 24
        assert bool(pruned) == (name != "none")
        told = [trial for trial in pruned if "reason" in trial.user_attrs]
        assert told == (pruned if name == "rotation" else [])

    @pytest.mark.parametrize("name", ["median", "percentile"])
    def test_the_first_epoch_is_compared_too_once_five_trials_are_complete(self, name):
        study = optuna.create_study(
            direction="maximize", pruner=make_pruner(name, RotationTarget(), EPOCHS)
        )
        pruned = []
        for metric in (0.5, 0.6, 0.7, 0.8, 0.1, 0.1):
            trial = study.ask()
            trial.report(metric, 1)
            pruned.append(trial.should_prune())
            study.tell(trial, metric)
        assert pruned == [False] * 5 + [True]

    def test_target_epochs_and_seed_reach_the_rotation_pruner(self):
        target = RotationTarget(distance=0.5)
        pruner = make_pruner("rotation", target, 7, seed=3)
        assert isinstance(pruner, RotationPruner)
        assert pruner.criteria == PruningConfig(target=target, seed=3)
        assert pruner.max_epochs == 7

    def test_a_pruner_given_as_an_object_is_used_as_it_is(self):
        mine = optuna.pruners.ThresholdPruner(upper=1)
        assert make_pruner(mine, RotationTarget(), 7) is mine

    def test_an_unknown_name_lists_the_nearest_first(self):
        with pytest.raises(InvalidInput, match="unknown pruner 'hyperbend'; known: hyperband, "):
            make_pruner("hyperbend", RotationTarget(), 7)


class TestExplain:
    @pytest.mark.parametrize(
        ("direction", "others", "text"),
        [
            ("maximize", [0.6, 0.4, 0.1], "rank 2 of 4"),
            ("minimize", [0.6, 0.4, 0.1], "rank 3 of 4"),
            ("maximize", [], "the first"),
            ("maximize", [0.5, 0.5], "rank 1 of 3"),
        ],
    )
    def test_it_tells_the_pruner_the_metric_and_its_rank(self, direction, others, text):
        study = optuna.create_study(direction=direction, pruner=optuna.pruners.MedianPruner())
        for value in others:
            study.ask().report(value, 3)
        study.ask().report(0.9, 1)  # elsewhere, so not compared
        trial = study.ask()
        trial.report(0.9, 1)
        trial.report(0.5, 3)
        assert explain(study, trial, "val_accuracy", 10) == (
            f"MedianPruner: val_accuracy 0.5 at epoch 3, {text}. Saves 7 of 10 epochs."
        )

    def test_it_says_so_when_nothing_was_reported(self):
        study = optuna.create_study(pruner=optuna.pruners.NopPruner())
        assert explain(study, study.ask(), "loss", 10) == "NopPruner: nothing reported yet"
