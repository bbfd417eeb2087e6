"""Reports that come faster than they are fetched: handed over together, judged one by one."""

from __future__ import annotations

import sys

import pytest
from curve_trials import Curve, logged, report_at
from optuna.pruners import ThresholdPruner
from ray import cloudpickle, tune
from ray.tune.result import SHOULD_CHECKPOINT
from thread_counts import Counting, assert_computes_on, counting

from tuner import run
from tuner.engine import buffered_trainable as batching
from tuner.engine.buffered_trainable import buffer_reports
from tuner.engine.callbacks import RunCallback

# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

CONFIG = {"height": 0.9, "speed": 0.3, "turn": 1.0, "max_epochs": 50}


@pytest.fixture
def _long_batches(monkeypatch):
    """Batches that hold every report of a short trial, however busy the machine is."""
    monkeypatch.setattr(batching, "BATCH_S", 5.0)


@pytest.fixture
def _results_outside_home(tmp_path, monkeypatch):
    """Ray makes a folder for every trainable, in the home folder unless told otherwise."""
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path))


class Crashing(Curve):
    """Fails in its fourth epoch, within one batch."""

    def report(self):
        if self.epoch == 4:
            raise RuntimeError("the disk is full")
        return super().report()


class SavingThird(Curve):
    """Asks for a checkpoint at its third report, and ends with its fifth."""

    def report(self):
        last = self.epoch == 5
        return {**super().report(), SHOULD_CHECKPOINT: self.epoch == 3, "done": last}


class Ending(Curve):
    def report(self):
        return {**super().report(), "done": self.epoch == self.config["ends_at"]}


@pytest.mark.usefixtures("_results_outside_home")
def test_a_slow_trial_hands_over_every_report_by_itself():
    trial = buffer_reports(Curve)(config={**CONFIG, "pause_s": 2 * batching.BATCH_S})
    assert [len(trial.train_buffered()) for _ in range(3)] == [1, 1, 1]


@pytest.mark.usefixtures("_results_outside_home", "_long_batches")
def test_a_batch_ends_with_the_trial():
    trial = buffer_reports(Ending)(config={**CONFIG, "ends_at": 7})
    reports = trial.train_buffered()
    assert [report["epoch"] for report in reports] == list(range(1, 8))
    assert [report["score"] for report in reports] == [
        report_at(epoch, CONFIG)["score"] for epoch in range(1, 8)
    ]


@pytest.mark.usefixtures("_results_outside_home", "_long_batches")
def test_a_batch_ends_at_a_report_that_asks_for_a_checkpoint():
    trial = buffer_reports(Curve)(config={**CONFIG, "saves": True})
    assert [report["epoch"] for report in trial.train_buffered()] == [1]


@pytest.mark.usefixtures("_results_outside_home", "_long_batches")
def test_a_report_that_asks_for_a_checkpoint_comes_by_itself():
    trial = buffer_reports(SavingThird)(config=CONFIG)
    batches = [[report["epoch"] for report in trial.train_buffered()] for _ in range(3)]
    assert batches == [[1, 2], [3], [4, 5]]
    # Ray has the checkpoint written before it asks for more: it must hold no more than epoch 3.
    trial.reset(CONFIG)
    assert [report["epoch"] for report in trial.train_buffered()] == [1, 2]
    assert trial.epoch == 3


@pytest.mark.usefixtures("_results_outside_home", "_long_batches")
def test_the_first_report_at_a_place_to_pause_comes_by_itself():
    in_epochs = lambda result: result["epoch"] / 4  # noqa: E731
    trial = buffer_reports(Ending, (0.25, 1.1, 2.5), in_epochs)(config={**CONFIG, "ends_at": 12})
    batches = [[report["epoch"] for report in trial.train_buffered()] for _ in range(6)]
    assert batches == [[1], [2, 3, 4], [5], [6, 7, 8, 9], [10], [11, 12]]


@pytest.mark.usefixtures("_results_outside_home", "_long_batches")
def test_a_report_that_is_held_back_is_lost_with_the_trial_that_made_it():
    trial = buffer_reports(SavingThird)(config=CONFIG)
    trial.train_buffered()
    trial.reset(CONFIG)
    assert [report["epoch"] for report in trial.train_buffered()] == [1, 2]


@pytest.mark.usefixtures("_results_outside_home", "_long_batches")
def test_what_was_reported_before_a_crash_is_handed_over():
    trial = buffer_reports(Crashing)(config=CONFIG)
    assert [report["epoch"] for report in trial.train_buffered()] == [1, 2, 3]
    with pytest.raises(RuntimeError, match="the disk is full"):
        trial.train_buffered()
    trial.reset(CONFIG)
    assert [report["epoch"] for report in trial.train_buffered()] == [1, 2, 3]


@pytest.mark.parametrize("trainable", [Curve, Crashing], ids=["trains on", "crashes after it"])
@pytest.mark.usefixtures("two_cpus", "_long_batches")
def test_what_follows_the_report_that_prunes_is_not_recorded(make_job, tmp_path, trainable):
    log = tmp_path / "log"
    curve = {**CONFIG, "max_epochs": 9, "log": str(log)}
    scores = [report_at(epoch, curve)["score"] for epoch in range(1, 10)]
    job = make_job(
        trainable=type("Named", (_ended(trainable),), {}),
        search_space=lambda trial: {**curve, "ends_at": 9, "odd": trial.suggest_int("odd", 0, 9)},
        num_trials=1,
        pruner=ThresholdPruner(upper=scores[1]),
    )
    (trial,) = run(job, observer=RunCallback()).trials
    # The third report is the first above the threshold, and the trial was past it when it was told.
    assert logged(log)[-1][1] > 3
    assert (trial.state, trial.epochs) == ("pruned", 3)
    assert trial.curve.metric == pytest.approx(scores[:3])
    assert trial.reason.startswith("ThresholdPruner: score")


def _ended(trainable):
    """The trainable, ending by itself: a batch of 5 s would otherwise last 5 s."""

    class Ends(trainable):
        def report(self):
            return {**super().report(), "done": self.epoch == self.config["ends_at"]}

    return Ends


@pytest.mark.usefixtures("two_cpus", "_long_batches")
def test_functions_are_batched_too(make_job):
    def five(config):
        for epoch in range(1, 6):
            tune.report({"score": config["turn"] * epoch})

    result = run(make_job(trainable=five, metric="score"), observer=RunCallback())
    for trial in result.trials:
        assert (trial.state, trial.epochs) == ("complete", 5)
        assert trial.curve.metric == pytest.approx([trial.params["turn"] * n for n in range(1, 6)])


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize(("trainable", "cpus", "threads"), [(Counting, 0.5, 1), (counting, 2.0, 2)])
def test_a_trial_computes_on_as_many_threads_as_it_reserves(make_job, trainable, cpus, threads):
    """Where no shell sets OMP_NUM_THREADS; the process has imported torch before the trial."""
    assert_computes_on(threads, make_job, trainable=trainable, cpus_per_trial=cpus)
