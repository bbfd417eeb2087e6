"""Trials that wait at a rung: what they report is whole, whoever goes on and whatever happens."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from curve_trials import Curve, Interrupting, Unpausable, logged, report_at, space
from optuna.samplers import GridSampler
from ray import cloudpickle, tune

from tuner import RotationPruner, load_study, resume, run
from tuner.engine.callbacks import RunCallback

pytestmark = pytest.mark.usefixtures("two_cpus")
# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

EPOCHS = 12  # rungs at 0.25, 1, 2 and 4


class Quarters(Curve):
    """Reports four times an epoch, each within 3 ms, so that several reports make a batch."""

    def report(self):
        done = self.epoch / 4
        report = report_at(done, self.config)
        if not done.is_integer():
            del report["epoch"], report["score"]
        return {**report, "done": done == self.config["max_epochs"]}


class Counted(Curve):
    """Counts neither its epochs nor its progress."""

    def report(self):
        report = super().report()
        del report["epoch"], report["progress"]
        return report


class Unsavable(Curve):
    """Trial 2 cannot be saved."""

    def save_checkpoint(self, checkpoint_dir):
        if self.number == 2:
            raise OSError("no space left")
        super().save_checkpoint(checkpoint_dir)


class Unlucky(Curve):
    """Trial 2 crashes in its second epoch."""

    def report(self):
        if self.number == 2 and self.epoch == 2:
            raise RuntimeError("the disk is full")
        return super().report()


class Watching(RunCallback):
    """Keeps what it is told, and how many trials ran at most."""

    def __init__(self):
        self.running: set[int] = set()
        self.most = 0
        self.paused_numbers: list[int] = []
        self.events: list[tuple[str, int]] = []

    def started(self, number, params):
        self.running.add(number)
        self.most = max(self.most, len(self.running))
        self.events.append(("started", number))

    def paused(self, number, epochs):
        self.running.remove(number)
        self.paused_numbers.append(number)
        self.events.append(("paused", number))

    def finished(self, number, state, value, epochs, reason):
        self.running.discard(number)
        self.events.append(("finished", number))


def logging_to(log, **constants):
    return lambda trial: {**space(trial), "log": str(log), **constants}


@pytest.fixture
def waiting_job(make_job, tmp_path):
    """Return a function that makes a job whose trials wait, and the log of their epochs."""
    log = tmp_path / "log"

    def make(*, constants=None, **fields):
        defaults = {
            "search_space": logging_to(log, **(constants or {})),
            "pruner": "rotation",
            "num_trials": 14,
            "max_epochs": EPOCHS,
            "seed": 5,
        }
        return make_job(**{**defaults, **fields}), log

    return make


def assert_whole(result, per_epoch=1):
    """Every report is there once, in order, and is what the unbroken trial reports."""
    for trial in result.trials:
        last = round(trial.epochs * per_epoch)
        assert trial.curve.epochs == tuple(n / per_epoch for n in range(1, last + 1))
        config = {**trial.params, "max_epochs": result.max_epochs}
        for epoch, metric, loss in zip(
            trial.curve.epochs, trial.curve.metric, trial.curve.train_loss, strict=True
        ):
            expected = report_at(epoch, config)
            assert loss == pytest.approx(expected["train_loss"])
            if epoch.is_integer():
                assert metric == pytest.approx(expected["score"])


@pytest.mark.parametrize("saves", [False, True], ids=["saves to wait", "saves every epoch"])
@pytest.mark.parametrize("slots", [1, 2])
def test_who_goes_on_has_the_unbroken_curve_and_trains_nothing_twice(waiting_job, saves, slots):
    job, log = waiting_job(constants={"saves": saves}, max_concurrent=slots)
    watching = Watching()
    result = run(job, observer=watching)
    assert_whole(result)
    assert {trial.state for trial in result.trials} == {"complete", "pruned"}
    assert watching.most <= slots
    went_on = [n for n, paused in Counter(watching.paused_numbers).items() if paused > 1]
    assert went_on
    trained = Counter(logged(log))
    assert set(trained.values()) == {1}
    assert len(trained) == sum(trial.epochs for trial in result.trials)
    assert result.finished
    assert all(trial.reason for trial in result.trials if trial.state == "pruned")


@pytest.mark.parametrize("trainable", [Quarters, Counted])
def test_reports_faster_than_a_batch_lose_nothing(waiting_job, trainable):
    per_epoch = 4 if trainable is Quarters else 1
    job, _ = waiting_job(trainable=trainable)
    watching = Watching()
    result = run(job, observer=watching)
    assert watching.paused_numbers
    assert_whole(result, per_epoch)


def test_each_part_of_a_trial_has_a_folder_of_its_own(waiting_job):
    job, _ = waiting_job(max_concurrent=1)
    result = run(job, observer=RunCallback())
    for trial in result.trials:
        if trial.checkpoint is None:  # it never had to wait
            assert trial.state == "complete"
            continue
        checkpoint = Path(trial.checkpoint)
        reached = int((checkpoint / "epoch").read_text())
        # The last part of a complete trial is not saved by this trainable.
        assert reached == trial.epochs or trial.state == "complete"
        kept = list(checkpoint.parents[1].glob(f"trial-{trial.number:05d}*/checkpoint_*"))
        assert len(kept) <= 2


@pytest.mark.parametrize("trainable", ["function", "class"])
def test_who_cannot_be_saved_runs_on_without_waiting(waiting_job, trainable):
    def steps(config):
        for epoch in range(1, config["max_epochs"] + 1):
            tune.report(report_at(epoch, config))

    job, _ = waiting_job(
        trainable=steps if trainable == "function" else Unpausable, metric="score", mode="max"
    )
    watching = Watching()
    result = run(job, observer=watching)
    assert watching.paused_numbers == []
    assert {trial.state for trial in result.trials} == {"complete", "pruned"}
    assert_whole(result)


@pytest.mark.parametrize(
    ("trainable", "reason"),
    [(Unsavable, "OSError: no space left"), (Unlucky, "RuntimeError: the disk is full")],
)
def test_a_failed_trial_among_those_that_wait_is_not_the_end(waiting_job, trainable, reason):
    job, _ = waiting_job(
        trainable=trainable, num_trials=8, pruner=RotationPruner(keep=1.0, early_keep=1.0)
    )
    result = run(job, observer=RunCallback())
    states = Counter(trial.state for trial in result.trials)
    assert states["failed"] == 1
    assert states["complete"] >= 1
    assert result.trials[2].reason.startswith(reason)
    assert result.finished


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_few_trials_complete_at_least_one(waiting_job, trials):
    job, _ = waiting_job(num_trials=trials)
    result = run(job, observer=RunCallback())
    assert result.best.epochs == EPOCHS
    assert result.finished


def test_a_grid_ends_with_trials_that_wait(waiting_job, tmp_path):
    def grid(trial):
        turn = trial.suggest_categorical("turn", [0.1, 0.5, 0.9])
        return {"height": 1.0, "speed": 0.5, "turn": turn}

    job, _ = waiting_job(
        search_space=grid,
        sampler=GridSampler({"turn": [0.1, 0.5, 0.9]}, seed=0),
        num_trials=9,
        max_concurrent=1,
    )
    result = run(job, observer=RunCallback())
    assert {trial.params["turn"] for trial in result.trials} == {0.1, 0.5, 0.9}
    assert result.finished
    assert result.best.state == "complete"


def test_more_trials_can_follow_when_nobody_waits_any_more(waiting_job):
    job, _ = waiting_job(num_trials=10, max_concurrent=1)
    first = run(job, observer=RunCallback())
    longer = resume(job.name, folder=job.folder, observer=RunCallback(), num_trials=16)
    assert longer.trials[:10] == first.trials
    assert longer.finished
    assert len(longer.trials) == 16
    assert_whole(longer)


def test_audited_trials_are_trained_to_their_end(waiting_job):
    job, _ = waiting_job(pruner=RotationPruner(audit=0.5))
    result = run(job, observer=RunCallback())
    audited = [trial for trial in result.trials if trial.audit]
    assert audited
    assert all((t.state, t.epochs, t.reason) == ("complete", EPOCHS, "") for t in audited)
    assert all(trial.audit.startswith(("peers", "target")) for trial in audited)
    assert_whole(result)


@pytest.mark.parametrize(("number", "epoch"), [(7, 1), (5, 2)], ids=["all wait", "one goes on"])
def test_ctrl_c_leaves_those_who_wait_to_be_resumed(waiting_job, tmp_path, number, epoch):
    keeps_all = RotationPruner(keep=1.0, early_keep=1.0)
    fields = {
        "pruner": keeps_all if epoch > 1 else "rotation",
        "max_concurrent": 1,
        "num_trials": 9,
    }
    whole = run(waiting_job(name="whole", **fields)[0], observer=RunCallback())
    job, log = waiting_job(constants={"pause_s": 0.02, "saves": True}, **fields)
    log.unlink()
    part = run(job, observer=Interrupting(number, epoch))
    assert sum(trial.state == "running" for trial in part.trials) > 1
    before = len(logged(log))
    watching = Watching()
    result = resume(job.name, folder=job.folder, observer=watching)
    assert decisions(result) == decisions(whole)
    assert load_study(job.name, folder=job.folder) == result
    again = Counter(logged(log))
    assert before
    assert sum(count - 1 for count in again.values()) <= 2


def decisions(result):
    return [(t.number, t.params, t.state, t.epochs, t.value, t.reason) for t in result.trials]
