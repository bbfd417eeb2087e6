"""Schedulers side by side: the figures by hand, the draws they share, and their names."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict

import pytest
from made_up_recordings import THREE, recording, turning_trials
from made_up_trials import recorded

import tuner.replay.compare
from tuner.errors import InvalidInput
from tuner.replay.compare import DEFAULT, FAMILIES, SCHEDULERS, draw, find_schedulers, replay
from tuner.replay.render import to_json
from tuner.replay.schedulers import PEERS

NAN = math.nan


class TestFigures:
    def test_three_trials_by_hand(self):
        # One epoch of each, then only 7, the best after it, goes on, whatever the order; 4 was it.
        comparison = replay(recording(THREE), ["one-epoch-1", "none"], repeats=4)
        assert (comparison.trials, comparison.repeats) == (3, 4)
        assert asdict(comparison.schedulers["one-epoch-1"]) == {
            "epochs_per_trial": 5 / 3,
            "speedup": pytest.approx(9 / 5),
            "val_loss_mean": 0.25,
            "val_loss_se": 0.0,
            "val_loss_p90": 0.25,
            "test_loss_mean": 0.0625,
            "test_loss_se": 0.0,
            "best_kept": 0.0,
        }
        assert asdict(comparison.schedulers["none"]) == {
            "epochs_per_trial": 3.0,
            "speedup": 1.0,
            "val_loss_mean": 0.0,
            "val_loss_se": 0.0,
            "val_loss_p90": 0.0,
            "test_loss_mean": 0.0,
            "test_loss_se": 0.0,
            "best_kept": 1.0,
        }

    def test_worse_is_positive_if_less_is_better_too(self):
        turned = [
            recorded(t.number, [-m for m in t.curve.metric], test_accuracy=-t.test_accuracy)
            for t in THREE
        ]
        up = replay(recording(THREE), ["one-epoch-1"], repeats=3)
        down = replay(recording(turned, "min"), ["one-epoch-1"], repeats=3)
        assert up.schedulers == down.schedulers

    @pytest.mark.parametrize("workers", [1, 8])
    def test_the_figures_are_those_of_the_repeats(self, workers):
        trials = turning_trials(3, 30, 9)
        names = [name for name in SCHEDULERS if name != "wilcoxon"]
        known = {trial.number: trial for trial in trials}
        comparison = replay(recording(trials), names, trials=20, repeats=7, workers=workers)
        assert [*comparison.schedulers] == names
        for name in names:
            figures, outcomes = comparison.schedulers[name], comparison.outcomes[name]
            baseline = comparison.outcomes["none"]
            losses = [o.val_loss for o in outcomes]
            tests = [o.test_loss for o in outcomes]
            for outcome, none in zip(outcomes, baseline, strict=True):
                best, selected = known[outcome.best], known[outcome.selected]
                assert outcome.best == none.selected
                assert outcome.val_loss == best.curve.metric[-1] - selected.curve.metric[-1] >= 0
                assert outcome.test_loss == best.test_accuracy - selected.test_accuracy
            cost = sum(o.epochs for o in outcomes)
            assert figures.epochs_per_trial == pytest.approx(cost / 7 / 20)
            assert figures.speedup == pytest.approx(sum(o.epochs for o in baseline) / cost)
            assert figures.val_loss_mean == pytest.approx(statistics.fmean(losses))
            assert figures.val_loss_se == pytest.approx(statistics.stdev(losses) / 7**0.5)
            assert figures.test_loss_mean == pytest.approx(statistics.fmean(tests))
            assert figures.test_loss_se == pytest.approx(statistics.stdev(tests) / 7**0.5)
            # The 90th percentile is 0.9 * 6 = 5.4 of the way from the first of seven to the last.
            sixth, last = sorted(losses)[5:]
            assert figures.val_loss_p90 == pytest.approx(sixth + 0.4 * (last - sixth))
            assert figures.best_kept == sum(o.best_kept for o in outcomes) / 7

    def test_a_trial_that_diverged_is_never_selected(self):
        # Promotion finishes neither; the better after one epoch would have diverged.
        trials = [recorded(0, [0.9] * 4 + [NAN]), recorded(1, [0.5] * 5)]
        comparison = replay(recording(trials), ["none", "asha-promote"], repeats=5)
        for outcomes in comparison.outcomes.values():
            assert {outcome.selected for outcome in outcomes} == {1}
        assert comparison.schedulers["asha-promote"].val_loss_mean == 0
        assert comparison.schedulers["asha-promote"].best_kept == 0

    def test_repeats_in_which_all_diverged_count_only_for_the_epochs(self):
        trials = [recorded(n, [0.5, NAN]) for n in range(3)] + [recorded(3, [0.5, 0.5])]
        comparison = replay(recording(trials), ["none"], trials=2, repeats=30)
        alive = [not math.isnan(outcome.val_loss) for outcome in comparison.outcomes["none"]]
        assert 0 < sum(alive) < 30
        assert comparison.schedulers["none"].best_kept == 1
        assert comparison.schedulers["none"].epochs_per_trial == 2
        figures = replay(recording(trials[:3]), ["none"], repeats=2).schedulers["none"]
        assert math.isnan(figures.val_loss_mean)
        assert math.isnan(figures.best_kept)
        assert figures.epochs_per_trial == 2

    def test_one_repeat_has_no_standard_error(self):
        figures = replay(recording(THREE), ["asha-2"], repeats=1).schedulers["asha-2"]
        assert math.isnan(figures.val_loss_se)
        assert not math.isnan(figures.val_loss_mean)


class TestDraws:
    def test_every_scheduler_gets_the_same_trials_in_the_same_order(self, monkeypatch):
        seen: dict[str, list[list[int]]] = {}
        simulate = tuner.replay.compare.simulate

        def note(trials, policy, workers, mode):
            name = type(policy).__name__
            seen.setdefault(name, []).append([trial.number for trial in trials])
            return simulate(trials, policy, workers, mode)

        monkeypatch.setattr(tuner.replay.compare, "simulate", note)
        trials = turning_trials(1, 12, 3)
        replay(recording(trials), ["rotation", "one-epoch-1"], trials=8, repeats=5)
        assert seen["RotationPolicy"] == seen["OneEpoch"] == seen["NeverStop"]
        assert len({tuple(order) for order in seen["OneEpoch"]}) == 5
        for order in seen["OneEpoch"]:
            assert len(set(order)) == 8

    def test_a_scheduler_fares_the_same_whatever_it_is_compared_with(self):
        source = recording(turning_trials(2, 20, 9))
        together = replay(source, repeats=2)
        for name in DEFAULT:
            assert replay(source, [name], repeats=2).schedulers == {name: together.schedulers[name]}

    def test_a_draw_is_by_the_seed_and_the_repeat(self):
        trials = turning_trials(1, 30, 1)
        draws = [
            tuple(trial.number for trial in draw(trials, 10, seed, repeat))
            for seed in range(3)
            for repeat in range(3)
        ]
        assert len(set(draws)) == 9
        assert draws[5] == tuple(trial.number for trial in draw(trials, 10, 1, 2))
        everything = draw(trials, 99, 0, 0)
        assert sorted(t.number for t in everything) == sorted(t.number for t in trials)

    def test_the_same_seed_gives_the_same_json_and_another_does_not(self):
        source = recording(turning_trials(4, 20, 9))
        first, again, other = (
            to_json(replay(source, trials=10, repeats=3, seed=seed), "f") for seed in (5, 5, 6)
        )
        assert first == again != other

    def test_every_step_is_told(self):
        steps = []
        replay(recording(THREE), ["none", "asha-2"], repeats=3, advance=lambda: steps.append(1))
        assert len(steps) == 6


class TestNames:
    def test_there_are_the_peers_and_three_of_our_own(self):
        assert [*SCHEDULERS] == [*PEERS, "rotation", "rotation-stop", "rotation-only"]
        assert {*SCHEDULERS} - {*DEFAULT} == {"wilcoxon"}

    def test_a_family_stands_for_its_members_and_each_counts_once(self):
        assert find_schedulers(["asha-3", " asha", "none", "none"]) == (
            "asha-3",
            "asha-2",
            "asha-4",
            "none",
        )
        assert find_schedulers(["one-epoch"]) == ("one-epoch-1", "one-epoch-3")
        assert find_schedulers(["all"]) == tuple(SCHEDULERS)
        for family in FAMILIES.values():
            assert {*family} <= {*SCHEDULERS}

    @pytest.mark.parametrize(
        ("name", "first"), [("rotatoin", "rotation"), ("hyberband", "hyperband"), ("", "all")]
    )
    def test_an_unknown_one_is_refused_with_the_nearest_first(self, name, first):
        with pytest.raises(InvalidInput, match=f"unknown scheduler '{name}'; known: {first}, "):
            replay(recording(THREE), ["none", name])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"trials": 1}, "trials must be >= 2, got 1; use "),
        ({"repeats": 0}, "repeats must be >= 1, got 0; use "),
        ({"workers": 0}, "workers must be >= 1, got 0; use "),
        ({"seed": -1}, "seed must be >= 0, got -1; use "),
    ],
    ids=str,
)
def test_a_number_outside_its_range_is_refused(given, why):
    with pytest.raises(InvalidInput, match=why):
        replay(recording(THREE), **given)


def test_one_whole_trial_is_too_few():
    with pytest.raises(InvalidInput, match=r"at least 2 trials .* made-up has 1 of 6; record more"):
        replay(recording(THREE[:1], partial=5))
