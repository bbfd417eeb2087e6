"""RotationPruner in plain Optuna, and every pruner there is a name for."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import InvalidInput
from tuner.rotation import RotationTarget, Verdict
from tuner.study.pruners import PRUNERS, RotationPruner, explain, make_pruner
from tuner.study.record import report_rotation

NAN = math.nan
LAYERS = ("first", "hidden", "last")
EPOCHS = 9


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
        direction=options.get("direction", "maximize"),
        pruner=pruner,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    study.optimize(options.get("objective", objective), n_trials=options.get("trials", 15))
    return study


def of_state(study: optuna.Study, state: TrialState) -> list[FrozenTrial]:
    return [trial for trial in study.trials if trial.state == state]


class TestRotationPruner:
    def test_it_prunes_the_worse_runs_each_with_a_reason(self):
        study = optimized(RotationPruner(max_epochs=EPOCHS))
        pruned = of_state(study, TrialState.PRUNED)
        complete = of_state(study, TrialState.COMPLETE)
        assert len(pruned) >= 5
        assert len(pruned) + len(complete) == 15
        assert study.best_trial.params["quality"] == max(t.params["quality"] for t in study.trials)
        for trial in pruned:
            assert trial.user_attrs["reason"].startswith(("peers: place", "target out of reach: "))
            assert (
                f"; saves {EPOCHS - trial.last_step} of {EPOCHS} epochs"
                in (trial.user_attrs["reason"])
            )
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

        largest = optimized(RotationPruner(max_epochs=EPOCHS))
        smallest = optimized(
            RotationPruner(max_epochs=EPOCHS), direction="minimize", objective=loss
        )
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

        pruned = of_state(
            optimized(RotationPruner(max_epochs=EPOCHS), objective=plain), TrialState.PRUNED
        )
        assert len(pruned) >= 5
        for trial in pruned:
            assert trial.user_attrs["reason"].startswith("peers: place ")
            assert " by value at epoch " in trial.user_attrs["reason"]

    def test_the_study_may_say_how_long_a_run_is_and_what_the_metric_is_called(self):
        study = optuna.create_study(
            direction="maximize",
            pruner=RotationPruner(),
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
            ({"max_epochs": 0}, "max_epochs must be >= 1, got 0"),
            ({"warmup_epochs": -1}, "warmup_epochs must be >= 0, got -1"),
            ({"eta": 1}, "eta must be >= 2, got 1"),
        ],
    )
    def test_a_broken_bound_is_one_line(self, bounds, told):
        with pytest.raises(InvalidInput, match=f"^{told}; use "):
            RotationPruner(**bounds)

    def test_a_pruner_that_served_one_study_judges_another_afresh(self):
        used = RotationPruner(max_epochs=EPOCHS)
        optimized(used, trials=9)
        fresh = RotationPruner(max_epochs=EPOCHS)
        studies = []
        for pruner in (used, fresh):
            study, trial = standing(0.5, 0.5, [(0.6, 0.9), (0.4, 0.1), (0.7, 0.2)])
            studies.append(pruner.verdict(study, trial))
        assert studies[0] == studies[1]


def add(study: optuna.Study, metric: float, rotation: float, **how: Any) -> FrozenTrial:
    """Add a trial that stands after its first of nine epochs, and return it."""
    trial = study.ask()
    loss = how.get("train_loss", 1.0)
    report_rotation(trial, 1, dict.fromkeys(LAYERS, rotation), lr_progress=1 / 9, train_loss=loss)
    trial.report(metric, 1)
    if "state" in how:
        study.tell(trial, metric if how["state"] == TrialState.COMPLETE else None, **how)
    return study.trials[trial.number]


def standing(
    metric: float, rotation: float, peers: list[tuple[float, float]], **how: Any
) -> tuple[optuna.Study, FrozenTrial]:
    """Return a study of peers (metric, rotation), and in it a trial to be judged."""
    study = optuna.create_study(direction=how.pop("direction", "maximize"))
    for peer in peers:
        add(study, *peer, **how)
    return study, add(study, metric, rotation)


def verdict(study: optuna.Study, trial: FrozenTrial) -> Verdict:
    return RotationPruner(max_epochs=EPOCHS).verdict(study, trial)


class TestPeers:
    PEERS = ((0.6, 0.5), (0.7, 0.6), (0.8, 0.7))

    def test_the_last_of_four_is_pruned_and_the_first_goes_on(self):
        last = verdict(*standing(0.1, 0.1, list(self.PEERS)))
        first = verdict(*standing(0.9, 0.9, list(self.PEERS)))
        assert last.prune
        assert "place 4 of 4 by value and rotation at epoch 1" in last.reason
        assert not first.prune
        assert first.reason == ""

    def test_in_a_study_to_be_made_small_it_is_the_other_way_round(self):
        small = verdict(*standing(0.1, 0.5, list(self.PEERS), direction="minimize"))
        large = verdict(*standing(0.9, 0.5, list(self.PEERS), direction="minimize"))
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
        assert "place 4 of 4" in before.reason

    def test_pruned_and_running_peers_are_counted(self):
        study, trial = standing(0.1, 0.45, list(self.PEERS), state=TrialState.PRUNED)
        add(study, 0.5, 0.5)
        assert "place 5 of 5" in verdict(study, trial).reason

    def test_the_rotation_of_diverged_peers_sets_no_pace(self):
        diverged = verdict(*standing(0.1, 0.1, list(self.PEERS), train_loss=math.inf))
        assert "place 4 of 4 by value at epoch 1" in diverged.reason

    def test_a_trial_that_has_not_reported_goes_on(self):
        study = optuna.create_study()
        study.ask()
        assert not verdict(study, study.trials[0]).prune

    def test_a_verdict_changes_nothing(self):
        study, trial = standing(0.1, 0.1, list(self.PEERS))
        before = repr(study.trials)
        pruner = RotationPruner(max_epochs=EPOCHS)
        assert pruner.verdict(study, trial) == pruner.verdict(study, trial)
        assert repr(study.trials) == before
        assert pruner.prune(study, trial)
        assert study.trials[3].user_attrs["reason"] == pruner.verdict(study, trial).reason

    def test_a_diverged_trial_is_pruned_within_an_epoch(self):
        study = optuna.create_study(direction="maximize")
        trial = study.ask()
        report_rotation(trial, 0.25, dict.fromkeys(LAYERS, 0.1), train_loss=math.inf)
        result = verdict(study, study.trials[0])
        assert result.prune
        assert result.reason.startswith("diverged: the train loss is inf after epoch 0.25; saves ")


class TestNamedPruners:
    @pytest.mark.parametrize("name", PRUNERS)
    def test_each_runs_a_plain_study_to_its_end(self, name):
        study = optimized(make_pruner(name, RotationTarget(), EPOCHS), trials=24)
        pruned = of_state(study, TrialState.PRUNED)
        assert len(pruned) + len(of_state(study, TrialState.COMPLETE)) == 24
        assert bool(pruned) == (name != "none")
        told = [trial for trial in pruned if "reason" in trial.user_attrs]
        assert told == (pruned if name == "rotation" else [])

    def test_the_target_reaches_the_rotation_pruner(self):
        target = RotationTarget(distance=0.5)
        pruner = make_pruner("rotation", target, 7)
        assert isinstance(pruner, RotationPruner)
        assert (pruner.target, pruner.max_epochs) == (target, 7)

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
            ("maximize", [0.6, 0.4, 0.1], "is 2 of 4 at this epoch"),
            ("minimize", [0.6, 0.4, 0.1], "is 3 of 4 at this epoch"),
            ("maximize", [], "is the first here"),
            ("maximize", [0.5, 0.5], "is 1 of 3 at this epoch"),
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
            f"MedianPruner: val_accuracy 0.5 at epoch 3 {text}; saves 7 of 10 epochs"
        )

    def test_it_says_so_when_nothing_was_reported(self):
        study = optuna.create_study(pruner=optuna.pruners.NopPruner())
        assert explain(study, study.ask(), "loss", 10) == "NopPruner: nothing reported yet"
