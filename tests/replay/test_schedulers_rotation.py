"""Rotation replayed is judged as in a job, and no scheduler sees the test split."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest
from made_up_recordings import THREE, recording, turning_trials

import tuner.rotation.promotion
from tuner import RotationTarget
from tuner.replay.compare import SCHEDULERS, draw, replay
from tuner.replay.recording import RecordedTrial
from tuner.replay.render import to_json
from tuner.rotation import HalvingState, PruningConfig, decide
from tuner.study.pruners import make_pruner

NAN = math.nan


class TestTheTestSplit:
    @pytest.mark.parametrize("workers", [1, 5])
    def test_no_scheduler_sees_it(self, workers):
        trials = turning_trials(5, 24, 9)
        accuracies = [trial.test_accuracy for trial in trials]
        random.Random(0).shuffle(accuracies)
        shuffled = [
            replace(trial, test_accuracy=accuracy)
            for trial, accuracy in zip(trials, accuracies, strict=True)
        ]
        unknown = [replace(trial, test_accuracy=NAN) for trial in trials]
        known, other, none = (
            replay(recording(t), ["all"], trials=16, repeats=2, workers=workers)
            for t in (trials, shuffled, unknown)
        )
        assert [*known.outcomes] == [*SCHEDULERS]
        for name, outcomes in known.outcomes.items():
            for one, two, three in zip(
                outcomes, other.outcomes[name], none.outcomes[name], strict=True
            ):
                assert replace(two, test_loss=one.test_loss) == one
                assert replace(three, test_loss=one.test_loss) == one
        assert known.schedulers != other.schedulers

    def test_it_is_null_where_it_is_unknown(self):
        trials = [replace(trial, test_accuracy=NAN) for trial in THREE]
        said = json.loads(to_json(replay(recording(trials), ["asha-2"], repeats=2), "f"))
        figures = said["schedulers"]["asha-2"]
        assert (figures["test_loss_mean"], figures["test_loss_se"]) == (None, None)
        assert None not in {figures["val_loss_mean"], figures["best_kept"]}


class TestRotation:
    def test_it_is_judged_as_a_job_is_by_default(self):
        pruner = make_pruner("rotation", RotationTarget(), 20)
        for name in ("rotation", "rotation-stop", "rotation-only"):
            for mode in ("min", "max"):
                policy = SCHEDULERS[name](20, mode, 3)
                assert policy.promotion.state.max_epochs == 20
                assert policy.promotion.state.config == replace(pruner.criteria, mode=mode, seed=3)

    @pytest.mark.parametrize("reports_per_epoch", [1, 4])
    def test_without_pausing_it_is_decide_called_by_hand(self, reports_per_epoch):
        trials = turning_trials(6, 40, 9, reports_per_epoch=reports_per_epoch)
        comparison = replay(recording(trials), ["rotation-stop"], trials=40, repeats=3)
        for repeat, outcome in enumerate(comparison.outcomes["rotation-stop"]):
            state, epochs = HalvingState(PruningConfig(seed=repeat), 9), 0.0
            for trial in draw(trials, 40, 0, repeat):
                for report in range(1, len(trial.curve) + 1):
                    curve = until(trial, report)
                    state = state.with_report(trial.number, curve)
                    if decide(trial.number, curve, state).prune:
                        break
                epochs += curve.epochs[-1]
            assert outcome.epochs == pytest.approx(epochs)
            assert epochs < 40 * 9

    @pytest.mark.parametrize("workers", [1, 4])
    def test_every_trial_fares_as_decide_says(self, monkeypatch, workers):
        said = {}

        def note(number, curve, state, **how):
            verdict = decide(number, curve, state, **how)
            if not how.get("final"):
                said[number] = (curve.epochs[-1], verdict)
            return verdict

        monkeypatch.setattr(tuner.rotation.promotion, "decide", note)
        trials = turning_trials(7, 40, 9, reports_per_epoch=4)
        comparison = replay(recording(trials), ["rotation"], repeats=1, workers=workers)
        (outcome,) = comparison.outcomes["rotation"]
        assert outcome.epochs == sum(epoch for epoch, _ in said.values())
        stopped = [verdict for epoch, verdict in said.values() if epoch < 9]
        assert all(verdict.prune or verdict.pause for verdict in stopped)
        assert 0 < len(stopped) < 40


def until(trial: RecordedTrial, report: int):
    curve = trial.curve
    parts = ("epochs", "lr_progress", "distances", "train_loss", "metric")
    return replace(curve, **{name: getattr(curve, name)[:report] for name in parts})
