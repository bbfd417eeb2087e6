"""The peers keep to their sources, and to what every scheduler owes the comparison."""

from __future__ import annotations

import itertools
import logging
import math
import subprocess
import sys

import optuna
import pytest
from made_up_trials import LEVELS, random_trials, recorded

from tuner import RotationTarget
from tuner.replay.schedulers import NEW, PEERS, Action, OneEpoch, PromotingAsha
from tuner.replay.simulator import prefixes, simulate
from tuner.study.pruners import make_pruner

OPTUNAS = ["hyperband", "median", "percentile", "wilcoxon"]


def test_the_names_are_those_of_the_comparison():
    assert " ".join(PEERS) == (
        "none asha-2 asha-3 asha-4 asha-early asha-promote hyperband median percentile wilcoxon "
        "one-epoch-1 one-epoch-3 random-stop"
    )


@pytest.mark.parametrize("reports_per_epoch", [1, 4])
@pytest.mark.parametrize("nan", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_takes_every_recording_and_repeats_itself(name, mode, nan, reports_per_epoch):
    trials = random_trials(1, 30, 5, nan=nan, reports_per_epoch=reports_per_epoch)
    first, second = (simulate(trials, PEERS[name](5, mode, 4), 8, mode) for _ in range(2))
    assert (first.epochs, first.finished) == (second.epochs, second.finished)
    assert first.selected == second.selected
    assert first.total_epochs <= 30 * 5


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_takes_a_run_of_one_epoch(name):
    trials = random_trials(2, 10, 1)
    replayed = simulate(trials, PEERS[name](1, "max", 0), 3, "max")
    assert len(replayed.finished) == 10


@pytest.mark.parametrize("name", [name for name in PEERS if name not in ("none", "wilcoxon")])
def test_every_peer_but_none_saves_epochs_and_selects_no_better(name):
    trials = random_trials(6, 60, 20)
    everything = simulate(trials, PEERS["none"](20, "max", 0), 8, "max")
    replayed = simulate(trials, PEERS[name](20, "max", 0), 8, "max")
    assert everything.total_epochs == 60 * 20
    assert replayed.total_epochs < 0.8 * everything.total_epochs
    assert replayed.metric <= everything.metric


@pytest.mark.parametrize("name", [name for name in PEERS if name != "random-stop"])
def test_min_of_the_negative_is_max(name):
    trials = random_trials(7, 40, 20, levels=LEVELS.get(name, 16))
    turned = [recorded(t.number, [-metric for metric in t.curve.metric]) for t in trials]
    up = simulate(trials, PEERS[name](20, "max", 3), 8, "max")
    down = simulate(turned, PEERS[name](20, "min", 3), 8, "min")
    assert (up.epochs, up.selected, up.metric) == (down.epochs, down.selected, -down.metric)


# One epoch for everything


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("keep", [1, 3])
def test_after_one_epoch_of_everything_only_the_best_go_on(keep, workers):
    trials = random_trials(8, 40, 20, nan=0.2)
    replayed = simulate(trials, PEERS[f"one-epoch-{keep}"](20, "max", 0), workers, "max")
    assert sorted(replayed.epochs.values()) == [1] * (40 - keep) + [20] * keep
    first = {t.number: t.curve.metric[0] for t in trials if not math.isnan(t.curve.metric[0])}
    worst_kept = min(first[number] for number in replayed.finished)
    assert sum(metric > worst_kept for metric in first.values()) < keep


def test_a_nan_after_one_epoch_goes_on_only_if_there_are_no_others():
    trials = [recorded(0, [math.nan, 0.9]), recorded(1, [-5.0, 0.1])]
    assert simulate(trials, OneEpoch("max", keep=1), 1, "max").finished == {1}
    assert simulate(trials, OneEpoch("max", keep=2), 1, "max").finished == {0, 1}
    assert simulate(trials[:1], OneEpoch("max", keep=1), 1, "max").finished == {0}


def test_nobody_goes_on_before_all_have_done_their_epoch():
    late_and_good = recorded(9, [0.9, 0.9])
    trials = [recorded(n, [0.1, 0.1]) for n in range(3)] + [late_and_good]
    replayed = simulate(trials, OneEpoch("max", keep=1), 3, "max")
    assert replayed.finished == {9}


# Promotion


def test_promotion_follows_the_paper_step_by_step():
    policy = PromotingAsha(4, "max", eta=2)  # rungs at 1 and 2; the third is the whole run
    curves = {
        number: prefixes(recorded(number, [metric] * 4).curve)
        for number, metric in enumerate((0.1, 0.3, 0.2, 0.4))
    }

    def reach(number, epoch):
        return policy.report(number, curves[number][epoch - 1])

    assert policy.choose((), True) == NEW
    assert reach(0, 1) is Action.PAUSE
    assert policy.choose((0,), True) == NEW  # half of one trial is none
    assert reach(1, 1) is Action.PAUSE
    assert policy.choose((0, 1), True) == 1  # the best half of two
    assert policy.choose((0,), True) == NEW  # nobody is promoted twice
    assert reach(1, 2) is Action.PAUSE
    assert reach(2, 1) is Action.PAUSE
    assert policy.choose((0, 1, 2), True) == NEW  # half of three is one, and it is promoted
    assert reach(3, 1) is Action.PAUSE
    assert policy.choose((0, 1, 2, 3), True) == 3
    assert reach(3, 2) is Action.PAUSE
    assert policy.choose((0, 1, 2, 3), True) == 3  # the highest rung is asked first
    assert reach(3, 3) is Action.CONTINUE
    assert policy.choose((0, 1, 2), False) is None


@pytest.mark.parametrize("workers", [1, 8])
def test_of_n_trials_a_quarter_is_promoted_and_of_those_a_quarter_finishes(workers):
    # The later the better: whoever comes is among the best there so far.
    rising = [recorded(n, [n + epoch / 100 for epoch in range(20)]) for n in range(64)]
    replayed = simulate(rising[::-1], PEERS["asha-promote"](20, "max", 0), workers, "max")
    assert set(replayed.epochs.values()) == {1, 4, 20}
    assert replayed.finished == {60, 61, 62, 63}
    assert sum(epoch > 1 for epoch in replayed.epochs.values()) == 16


def test_a_nan_is_promoted_after_everyone_else():
    trials = [recorded(n, [math.nan if n < 4 else -n] * 4) for n in range(8)]
    replayed = simulate(trials, PromotingAsha(4, "max", eta=4), 1, "max")
    # Of the first four, all NaN, the first; then of five the best, and of eight the best two.
    assert replayed.finished == {0, 4, 5}


# Optuna


def in_plain_optuna(name, trials, max_epochs, seed):
    """The same trials by `study.optimize`: the epoch that each reached."""
    reached = {}

    def objective(trial):
        curve = trials[trial.number].curve
        for epoch, metric in enumerate(curve.metric, start=1):
            reached[trials[trial.number].number] = epoch
            trial.report(metric, epoch)
            if epoch < max_epochs and trial.should_prune():
                raise optuna.TrialPruned
        return curve.metric[-1]

    study = optuna.create_study(
        study_name=f"replay-{seed}",
        direction="maximize",
        pruner=make_pruner(name, RotationTarget(), max_epochs),
    )
    study.optimize(objective, n_trials=len(trials))
    return reached


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", OPTUNAS)
def test_a_pruner_decides_as_in_plain_optuna(name, seed):
    # Curves that rise, each at its own level, so that Wilcoxon's test finds a difference too.
    trials = [
        recorded(t.number, [metric / 9 + level / 40 for metric in t.curve.metric])
        for level, t in enumerate(random_trials(seed, 40, 20, levels=2**20))
    ][:: -1 if seed % 2 else 1]
    replayed = simulate(trials, PEERS[name](20, "max", seed), 1, "max")
    assert replayed.epochs == in_plain_optuna(name, trials, 20, seed)
    if seed % 2:  # the best come first
        assert replayed.total_epochs < 40 * 20


def test_optuna_is_quiet_and_its_own_voice_is_left_as_it_was(capfd):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.INFO)
    try:
        for name in OPTUNAS:
            simulate(random_trials(0, 20, 6, nan=0.1), PEERS[name](6, "max", 0), 8, "max")
        assert optuna.logging.get_verbosity() == logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


# Stopping at random


def test_stopping_at_random_knows_nothing_of_the_trials():
    trials = random_trials(9, 60, 20)
    others = [recorded(t.number, [1 - metric for metric in t.curve.metric]) for t in trials]
    runs = [simulate(t, PEERS["random-stop"](20, "max", 5), 8, "max") for t in (trials, others)]
    assert runs[0].epochs == runs[1].epochs


def test_stopping_at_random_is_at_the_rungs_and_by_the_seed():
    trials = random_trials(9, 60, 20)
    runs = [simulate(trials, PEERS["random-stop"](20, "max", seed), 8, "max") for seed in range(4)]
    for one, other in itertools.combinations(runs, 2):
        assert one.epochs != other.epochs
    for run in runs:
        assert set(run.epochs.values()) <= {1, 4, 16, 20}
        assert 60 * 20 / 10 < run.total_epochs < 60 * 20 / 2


def test_replaying_needs_neither_ray_nor_torch_nor_pandas():
    script = (
        "import tuner.replay.simulator, tuner.replay.schedulers, sys; "
        "print(*sorted({'ray', 'torch', 'pandas'} & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert ended.stdout.strip() == ""
