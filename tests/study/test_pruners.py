"""RotationPruner in plain Optuna, and every pruner there is a name for."""

from __future__ import annotations

import math
import pickle
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import InvalidInput
from tuner.rotation import Criteria, Field, RotationTarget, Verdict, decide
from tuner.study.journal import WriteBehindJournal
from tuner.study.pruners import PRUNERS, RotationPruner, explain, make_pruner
from tuner.study.record import curve_of, report_rotation, report_test

NAN = math.nan
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


class TestRotationPruner:
    def test_it_prunes_the_worse_runs_each_with_a_reason(self):
        study = optimized(pruner_of())
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
            assert trial.user_attrs["reason"].startswith("peers: place ")
            assert " by value, where the best " in trial.user_attrs["reason"]

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
        assert RotationPruner().criteria == Criteria()

    def test_a_pruner_that_served_one_study_judges_another_afresh(self):
        used = pruner_of()
        optimized(used, trials=9)
        studies = []
        for pruner in (used, pruner_of()):
            study, trial = standing(0.5, 0.5, [(0.6, 0.9), (0.4, 0.1), (0.7, 0.2)])
            studies.append(pruner.verdict(study, trial))
        assert studies[0] == studies[1]

    def test_one_that_has_served_a_study_pickles_without_what_it_knows(self):
        used = pruner_of(keep=0.7, seed=3)
        study = optimized(used, trials=9)
        copied = pickle.loads(pickle.dumps(used))
        assert (copied.criteria, copied.max_epochs) == (used.criteria, used.max_epochs)
        assert_same(copied.field(study), used.field(study))
        assert len(pickle.dumps(used)) < 2000


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


def verdict(study: optuna.Study, trial: FrozenTrial, **given: Any) -> Verdict:
    return pruner_of(**given).verdict(study, trial)


class TestPeers:
    PEERS = ((0.6, 0.5), (0.7, 0.6), (0.8, 0.7))

    def test_the_last_of_four_is_pruned_and_the_first_goes_on(self):
        last = verdict(*standing(0.1, 0.1, list(self.PEERS)))
        first = verdict(*standing(0.9, 0.9, list(self.PEERS)))
        assert last.prune
        assert "place 4 of 4 at epoch 1 by value" in last.reason
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
        assert "place 4 of 4" in before.reason

    def test_pruned_and_running_peers_are_counted(self):
        study, trial = standing(0.1, 0.1, list(self.PEERS), state=TrialState.PRUNED)
        add(study, 0.5, 0.5)
        assert "place 5 of 5" in verdict(study, trial).reason

    def test_the_rotation_of_diverged_peers_sets_no_pace(self):
        study, trial = standing(0.5, 0.1, [(0.1, 0.9)] * 3, train_loss=math.inf)
        assert verdict(study, trial) == Verdict(False, "", verdict(study, trial).forecast)
        (rung,) = (rung for rung in pruner_of().field(study).rungs if rung.epoch == 1)
        assert np.isnan(rung.merits[:3, 2]).all()

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
        criteria = Criteria(metric_name="value", **BOUNDS)
        curves = {peer.number: curve_of(peer, EPOCHS) for peer in study.trials}
        field = Field(criteria, EPOCHS).with_curves(curves)
        for options in ({}, {"may_wait": True}, {"closing": True}):
            for number, curve in curves.items():
                expected = decide(number, curve, field, **options)
                assert pruner_of().verdict(study, study.trials[number], **options) == expected

    def test_a_diverged_trial_is_pruned_within_an_epoch(self):
        study = optuna.create_study(direction="maximize")
        trial = study.ask()
        report_rotation(trial, 0.25, dict.fromkeys(LAYERS, 0.1), train_loss=math.inf)
        result = verdict(study, study.trials[0])
        assert result.prune
        assert result.reason.startswith("diverged: the train loss is inf after epoch 0.25; saves ")

    def test_reports_within_the_first_epoch_are_compared_by_train_loss(self):
        study = optuna.create_study(direction="maximize")
        for loss in (1.0, 1.1, 1.2, 2.0):
            trial = study.ask()
            report_rotation(trial, 0.25, dict.fromkeys(LAYERS, 0.1), train_loss=loss)
        worst, best = (verdict(study, study.trials[at], warmup_epochs=0.25) for at in (3, 0))
        assert "peers: place 4 of 4 at epoch 0.25 by train loss" in worst.reason
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


class TestAudit:
    def test_a_trial_to_be_pruned_is_trained_to_its_end_with_the_reason_as_audit(self):
        study = optimized(pruner_of(audit=0.999999))
        assert len(of_state(study, TrialState.COMPLETE)) == 15
        assert not [trial for trial in study.trials if "reason" in trial.user_attrs]
        audited = [trial for trial in study.trials if "audit" in trial.user_attrs]
        assert len(audited) >= 5
        assert all("; saves " in trial.user_attrs["audit"] for trial in audited)

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
        assert [verdict.reason[-19:] for verdict in later] == [
            "saves 8 of 9 epochs",
            "saves 7 of 9 epochs",
        ]
        assert kept == [later[0].reason] * 2

    def test_a_study_is_audited_by_its_seed(self):
        def audited(seed: int) -> list[int]:
            study = optimized(pruner_of(audit=0.5, seed=seed), trials=20)
            return [trial.number for trial in study.trials if "audit" in trial.user_attrs]

        assert audited(1) == audited(1)
        assert audited(1) != audited(2)


def assert_same(field: Field, other: Field) -> None:
    assert (field.criteria, field.max_epochs) == (other.criteria, other.max_epochs)
    for mine, theirs in zip(field.rungs, other.rungs, strict=True):
        assert mine.epoch == theirs.epoch
        for column in ("numbers", "merits", "scores"):
            np.testing.assert_array_equal(getattr(mine, column), getattr(theirs, column))
    np.testing.assert_array_equal(field.weights.mean, other.weights.mean)
    assert field.weights.trials == other.weights.trials


def at_once(study: optuna.Study, pruner: RotationPruner) -> Field:
    """Return the field built from all trials of a study in one go, the failed left out."""
    criteria = pruner.field(study).criteria
    counted = [trial for trial in study.trials if trial.state != TrialState.FAIL]
    curves = {trial.number: curve_of(trial, EPOCHS) for trial in counted}
    return Field(criteria, EPOCHS).with_curves(curves)


class TestWhatItKnowsOfAStudy:
    def test_the_field_it_builds_as_reports_come_is_the_one_built_at_once(self):
        pruner = pruner_of()

        def checked(trial: optuna.Trial) -> float:
            try:
                return objective(trial)
            finally:
                assert_same(pruner.field(trial.study), at_once(trial.study, pruner))

        study = optimized(pruner, objective=checked, trials=25)
        field = pruner.field(study)
        assert_same(field, at_once(study, pruner))
        assert_same(field, pruner_of().field(study))
        assert field.started == 25

    def test_with_nothing_new_it_is_the_very_same(self):
        pruner = pruner_of()
        study = optimized(pruner)
        assert pruner.field(study) is pruner.field(study)

    def test_a_report_whose_metric_comes_later_is_read_again(self):
        pruner = pruner_of()
        study = optuna.create_study(direction="maximize", pruner=pruner)
        trial = study.ask()
        report_rotation(trial, 1, dict.fromkeys(LAYERS, 0.1), train_loss=1.0)
        assert pruner.field(study).started == 0
        trial.report(0.5, 1)
        assert_same(pruner.field(study), at_once(study, pruner))
        assert pruner.field(study).started == 1

    def test_trials_that_fail_are_left_out_though_they_were_counted_while_they_ran(self):
        def failing(trial: optuna.Trial) -> float:
            value = objective(trial)
            if trial.number % 3 == 2:
                raise ArithmeticError
            return value

        pruner = pruner_of(audit=0.999999)
        with_failures = optimized(pruner, objective=failing, trials=12, catch=ArithmeticError)
        assert len(of_state(with_failures, TrialState.FAIL)) == 4
        field = pruner.field(with_failures)
        assert field.started == 8
        assert_same(field, at_once(with_failures, pruner))

    def test_trials_of_another_process_are_seen_as_they_come(self, tmp_path: Path):
        def opened(pruner: RotationPruner) -> optuna.Study:
            backend = JournalFileBackend(str(tmp_path / "shared.log"))
            return optuna.create_study(
                storage=JournalStorage(backend),
                study_name="shared",
                direction="maximize",
                load_if_exists=True,
                pruner=pruner,
                sampler=optuna.samplers.RandomSampler(),
            )

        pruners = [pruner_of(), pruner_of()]
        here, there = (opened(pruner) for pruner in pruners)
        for _ in range(4):
            here.optimize(objective, n_trials=2)
            mine, theirs = here.ask(), there.ask()
            for trial in (theirs, mine):  # both run on, side by side
                report_rotation(trial, 1, dict.fromkeys(LAYERS, 0.1), train_loss=1.0)
                trial.report(0.5, 1)
                trial.should_prune()
            there.optimize(objective, n_trials=1)
            for study, pruner in zip((here, there), pruners, strict=True):
                assert_same(pruner.field(study), at_once(study, pruner))
            there.tell(theirs, state=TrialState.FAIL)
            here.tell(mine, state=TrialState.PRUNED)
            for study, pruner in zip((here, there), pruners, strict=True):
                assert_same(pruner.field(study), at_once(study, pruner))
        assert_same(pruners[0].field(here), pruners[1].field(there))
        assert pruners[0].field(here).started == 16

    def test_a_resumed_study_goes_on_as_it_would_have(self, tmp_path: Path):
        whole = optimized(pruner_of(), trials=20)
        params = iter([trial.params for trial in whole.trials])
        for trials in (7, 13):
            with closing(WriteBehindJournal(tmp_path / "study.log")) as journal:
                pruner = pruner_of()
                study = optuna.create_study(
                    storage=JournalStorage(journal),
                    study_name="s",
                    direction="maximize",
                    load_if_exists=True,
                    pruner=pruner,
                )
                for _ in range(trials):
                    study.enqueue_trial(next(params))
                study.optimize(objective, n_trials=trials)
                ended = [(trial.state, trial.user_attrs.get("reason")) for trial in study.trials]
                assert_same(pruner.field(study), at_once(study, pruner))
        assert ended == [(trial.state, trial.user_attrs.get("reason")) for trial in whole.trials]

    def test_trials_in_several_threads_lose_no_report(self):
        pruner = pruner_of(keep=0.9)
        study = optimized(pruner, trials=40, n_jobs=4)
        assert_same(pruner.field(study), at_once(study, pruner))
        assert pruner.field(study).started == 40


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
        assert (pruner.criteria.target, pruner.max_epochs) == (target, 7)

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
