"""How RotationPruner judges one trial among the others of a study."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.study.pruned_studies import BOUNDS, EPOCHS, LAYERS, add, pruner_of, standing
from tuner.rotation import HalvingState, PruningConfig, Verdict, decide
from tuner.study.schema import curve_of, report_rotation, report_test

NAN = math.nan


def verdict(study: optuna.Study, trial: FrozenTrial, **given: Any) -> Verdict:
    return pruner_of(**given).verdict(study, trial)


class TestPeers:
    PEERS = ((0.6, 0.5), (0.7, 0.6), (0.8, 0.7))

    def test_the_last_of_four_is_pruned_and_the_first_goes_on(self):
        last = verdict(*standing(0.1, 0.1, list(self.PEERS)))
        first = verdict(*standing(0.9, 0.9, list(self.PEERS)))
        assert last.prune
        assert last.reason.startswith(
            "peers: 4th of 4 at epoch 1; the best 2 go on. Compared by value"
        )
        assert not first.prune
        assert first.reason == ""

    def test_in_a_study_to_be_made_small_it_is_the_other_way_round(self):
        peers = [(metric, 0.5) for metric, _ in self.PEERS]
        small = verdict(*standing(0.1, 0.5, peers, direction="minimize"))
        large = verdict(*standing(0.9, 0.5, peers, direction="minimize"))
        assert (small.prune, large.prune) == (False, True)

    @pytest.mark.parametrize(
        "odd_one_out", [{"metric": NAN}, {"state": TrialState.FAIL}], ids=["nan", "failed"]
    )
    def test_a_peer_that_is_no_number_or_has_failed_is_not_counted(self, odd_one_out):
        study, trial = standing(0.1, 0.1, list(self.PEERS))
        before = verdict(study, trial)
        for _ in range(5):
            add(study, **{"metric": 0.01, "rotation": 0.01, **odd_one_out})
        assert verdict(study, trial) == before
        assert "4th of 4" in before.reason

    def test_pruned_and_running_peers_are_counted(self):
        study, trial = standing(0.1, 0.1, list(self.PEERS), state=TrialState.PRUNED)
        add(study, 0.5, 0.5)
        assert "5th of 5" in verdict(study, trial).reason

    def test_the_rotation_of_diverged_peers_sets_no_pace(self):
        study, trial = standing(0.5, 0.1, [(0.1, 0.9)] * 3, train_loss=math.inf)
        assert verdict(study, trial) == Verdict(False, "", verdict(study, trial).forecast)
        (rung,) = (rung for rung in pruner_of().state(study).rungs if rung.epoch == 1)
        assert np.isnan(rung.features[:3, 2]).all()

    def test_a_trial_that_has_not_reported_goes_on(self):
        study = optuna.create_study()
        study.ask()
        assert not verdict(study, study.trials[0]).prune

    def test_steps_counted_from_0_say_nothing_at_0(self):
        study = optuna.create_study(direction="maximize")
        for metric in (0.9, 0.8, 0.7, 0.1):
            study.ask().report(metric, 0)
        assert not verdict(study, study.trials[3]).prune

    def test_a_verdict_changes_nothing(self):
        study, trial = standing(0.1, 0.1, list(self.PEERS))
        before = repr(study.trials)
        pruner = pruner_of()
        assert pruner.verdict(study, trial) == pruner.verdict(study, trial)
        assert repr(study.trials) == before
        assert pruner.prune(study, trial)
        assert study.trials[3].user_attrs["reason"] == pruner.verdict(study, trial).reason

    def test_it_is_decide_that_judges(self):
        study, _ = standing(0.1, 0.1, list(self.PEERS))
        config = PruningConfig(metric_name="value", **BOUNDS)
        curves = {peer.number: curve_of(peer, EPOCHS) for peer in study.trials}
        state = HalvingState(config, EPOCHS).with_curves(curves)
        for options in ({}, {"may_pause": True}, {"final": True}):
            for number, curve in curves.items():
                expected = decide(number, curve, state, **options)
                assert pruner_of().verdict(study, study.trials[number], **options) == expected

    def test_a_diverged_trial_is_pruned_within_an_epoch(self):
        study = optuna.create_study(direction="maximize")
        trial = study.ask()
        report_rotation(trial, 0.25, dict.fromkeys(LAYERS, 0.1), train_loss=math.inf)
        result = verdict(study, study.trials[0])
        assert result.prune
        assert result.reason.startswith("diverged: train loss inf at epoch 0.25. Saves ")

    def test_reports_within_the_first_epoch_are_compared_by_train_loss(self):
        study = optuna.create_study(direction="maximize")
        for loss in (1.0, 1.1, 1.2, 2.0):
            trial = study.ask()
            report_rotation(trial, 0.25, dict.fromkeys(LAYERS, 0.1), train_loss=loss)
        worst, best = (verdict(study, study.trials[at], warmup_epochs=0.25) for at in (3, 0))
        assert worst.reason.startswith("peers: 4th of 4 at epoch 0.25; ")
        assert " Compared by train loss" in worst.reason
        assert not best.prune

    def test_what_a_trial_scored_on_the_test_split_changes_no_verdict(self):
        study, _ = standing(0.1, 0.1, list(self.PEERS))
        pruner = pruner_of()
        before = [pruner.verdict(study, peer) for peer in study.trials]
        curves = repr([curve_of(peer, EPOCHS) for peer in study.trials])
        for peer in study.trials:
            report_test(optuna.Trial(study, peer._trial_id), {"test_accuracy": 1 - peer.number})
        assert all("test" in peer.user_attrs for peer in study.trials)
        assert repr([curve_of(peer, EPOCHS) for peer in study.trials]) == curves
        assert [pruner.verdict(study, peer) for peer in study.trials] == before
        assert [pruner_of().verdict(study, peer) for peer in study.trials] == before
