"""Schedulers side by side: the figures by hand, the draws they share, and what they never see."""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from made_up_trials import random_trials, recorded
from rich.console import Console

import tuner.replay.rotation
from tuner import RotationTarget
from tuner.errors import InvalidInput
from tuner.replay.bench import DEFAULT, FAMILIES, SCHEDULERS, draw, find_schedulers, replay
from tuner.replay.peers import PEERS
from tuner.replay.plot import plotted, write_picture
from tuner.replay.recording import RecordedTrial, Recording
from tuner.replay.summary import print_comparison, to_json
from tuner.rotation import Criteria, Field, decide
from tuner.study.pruners import make_pruner

NAN = math.nan


def recording(trials: list[RecordedTrial], mode: str = "max", partial: int = 0) -> Recording:
    return Recording(
        "made-up", "val_accuracy", mode, trials[0].curve.max_epochs, tuple(trials), partial
    )


def turning_trials(seed: int, count: int, max_epochs: int, **more) -> list[RecordedTrial]:
    """Made-up trials that learn, and turn, each at its own pace, and are tested at the end."""
    draw = random.Random(seed)
    trials = []
    for trial in random_trials(seed, count, max_epochs, levels=2**20, **more):
        pace, level = draw.random(), draw.random()
        curve = replace(
            trial.curve,
            distances=tuple((pace * share,) for share in trial.curve.lr_progress),
            train_loss=tuple(1 - level * share for share in trial.curve.lr_progress),
            metric=tuple(level + metric / 4 for metric in trial.curve.metric),
        )
        trials.append(RecordedTrial(trial.number, curve, draw.random(), trial.params))
    return trials


THREE = [
    recorded(4, [0.5, 0.6, 0.875], test_accuracy=0.8125),
    recorded(7, [0.7, 0.7, 0.625], test_accuracy=0.75),
    recorded(9, [0.1, 0.2, 0.5], test_accuracy=0.875),
]


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
        simulate = tuner.replay.bench.simulate

        def note(trials, policy, workers, mode):
            name = type(policy).__name__
            seen.setdefault(name, []).append([trial.number for trial in trials])
            return simulate(trials, policy, workers, mode)

        monkeypatch.setattr(tuner.replay.bench, "simulate", note)
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
                assert policy.field.max_epochs == 20
                assert policy.field.criteria == replace(pruner.criteria, mode=mode, seed=3)

    @pytest.mark.parametrize("reports_per_epoch", [1, 4])
    def test_without_pausing_it_is_decide_called_by_hand(self, reports_per_epoch):
        trials = turning_trials(6, 40, 9, reports_per_epoch=reports_per_epoch)
        comparison = replay(recording(trials), ["rotation-stop"], trials=40, repeats=3)
        for repeat, outcome in enumerate(comparison.outcomes["rotation-stop"]):
            field, epochs = Field(Criteria(seed=repeat), 9), 0.0
            for trial in draw(trials, 40, 0, repeat):
                for report in range(1, len(trial.curve) + 1):
                    curve = until(trial, report)
                    field = field.with_report(trial.number, curve)
                    if decide(trial.number, curve, field).prune:
                        break
                epochs += curve.epochs[-1]
            assert outcome.epochs == pytest.approx(epochs)
            assert epochs < 40 * 9

    @pytest.mark.parametrize("workers", [1, 4])
    def test_every_trial_fares_as_decide_says(self, monkeypatch, workers):
        said = {}

        def note(number, curve, field, **how):
            verdict = decide(number, curve, field, **how)
            if not how.get("closing"):
                said[number] = (curve.epochs[-1], verdict)
            return verdict

        monkeypatch.setattr(tuner.replay.rotation, "decide", note)
        trials = turning_trials(7, 40, 9, reports_per_epoch=4)
        comparison = replay(recording(trials), ["rotation"], repeats=1, workers=workers)
        (outcome,) = comparison.outcomes["rotation"]
        assert outcome.epochs == sum(epoch for epoch, _ in said.values())
        stopped = [verdict for epoch, verdict in said.values() if epoch < 9]
        assert all(verdict.prune or verdict.wait for verdict in stopped)
        assert 0 < len(stopped) < 40


def until(trial: RecordedTrial, report: int):
    curve = trial.curve
    parts = ("epochs", "lr_progress", "distances", "train_loss", "metric")
    return replace(curve, **{name: getattr(curve, name)[:report] for name in parts})


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


# What is shown


def shown(comparison, width: int = 80) -> str:
    console = Console(width=width, _environ={}, force_terminal=False)
    with console.capture() as capture:
        print_comparison(comparison, console)
    return capture.get()


@pytest.fixture(scope="module")
def comparison():
    trials = turning_trials(8, 30, 9)
    return replay(recording(trials, partial=6), trials=20, repeats=4, workers=2, seed=1)


def test_the_json_holds_every_figure(comparison):
    said = json.loads(to_json(comparison, "some/file.parquet"))
    assert [*said] == ["file", "trials", "repeats", "schedulers"]
    assert (said["file"], said["trials"], said["repeats"]) == ("some/file.parquet", 20, 4)
    assert [*said["schedulers"]] == [*DEFAULT]
    for name, figures in said["schedulers"].items():
        assert " ".join(figures) == (
            "epochs_per_trial speedup val_loss_mean val_loss_p90 test_loss_mean test_loss_se "
            "best_kept"
        )
        for key, value in figures.items():
            assert value == getattr(comparison.schedulers[name], key)


def test_the_table_is_cheapest_first_and_fits_80_columns(comparison):
    lines = shown(comparison).splitlines()
    assert lines[0] == (
        "made-up: 4 random draws of 20 of 30 trials, 9 epochs each, 2 workers, seed 1"
    )
    assert lines[1] == "30 of 36 trials reach the last epoch; the others are left out"
    assert lines[2].startswith("loss: val_accuracy at the end, ")
    rows = [line.split() for line in lines if line.split(" ")[0] in DEFAULT]
    assert {row[0] for row in rows} == {*DEFAULT}
    costs = [comparison.schedulers[row[0]].epochs_per_trial for row in rows]
    assert costs == sorted(costs)
    assert " ".join(rows[-1]) == "none 9.00 1.0 0.000 ± 0.000 0.000 0.000 ± 0.000 100%"
    assert max(map(len, lines[3:])) <= 80
    assert not any("…" in line for line in lines)


def test_nothing_is_left_out_without_a_word_and_no_word_without_need():
    assert "left out" not in shown(replay(recording(THREE), repeats=1))


@pytest.mark.parametrize("width", [80, 120])
def test_every_scheduler_is_named_in_the_plot(comparison, width):
    lines = plotted(comparison, width).plain.splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(lines).replace("●", " ").split()
    assert {*DEFAULT} <= {*words}


@pytest.mark.parametrize(
    "trials",
    [
        [recorded(n, [0.5]) for n in range(2)],  # nothing to save and nothing to lose
        [recorded(n, [0.5, NAN]) for n in range(2)],  # nothing known
        [recorded(n, [n * 1e9, n * 1e9]) for n in range(9)],
        [recorded(n, [n * 1e-9, n * 1e-9]) for n in range(9)],
        [recorded(n, [0.5, math.inf]) for n in range(2)],
    ],
    ids=["one epoch", "no metric", "large", "small", "infinite"],
)
def test_anything_can_be_shown(trials, tmp_path):
    result = replay(recording(trials), repeats=2)
    table = shown(result)
    assert all(name in table for name in DEFAULT)
    assert "…" not in table
    json.loads(to_json(result, "f"))
    write_picture(result, tmp_path / "plot.png")


@pytest.mark.parametrize(("suffix", "starts"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_picture_is_written(comparison, tmp_path, suffix, starts):
    path = tmp_path / f"plot.{suffix}"
    for _ in range(2):  # what is there is replaced
        write_picture(comparison, path)
    content = path.read_bytes()
    assert content.startswith(starts)
    if suffix == "svg":
        for name in DEFAULT:
            assert f"<!-- {name} -->" in content.decode()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("plot.gif", "a plot must be a file that ends in .png or .svg, got "),
        ("plot", "a plot must be a file that ends in .png or .svg, got "),
        ("no/plot.png", "the folder of the plot must exist, got "),
        ("folder.png", "the plot must be writable, got "),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused(comparison, tmp_path, name, why):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InvalidInput, match=why):
        write_picture(comparison, tmp_path / name)


def test_comparing_loads_neither_ray_nor_torch_nor_a_plotting_library():
    script = (
        "import tuner.replay.summary, sys; "
        "print(*sorted({'ray', 'torch', 'pandas', 'matplotlib'} & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stdout.strip() == ""
