"""A whole job whose trials have two processes each."""

from __future__ import annotations

import time

import psutil
import pytest
import ray
import torch

from trainables import DigitsMlp
from tuner import TuningJob, run
from tuner.engine.callbacks import RunCallback


def space(trial):
    return {"lr": trial.suggest_float("lr", 0.01, 0.1, log=True), "processes": 2}


class Hears(RunCallback):
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.reports = []

    def reported(self, number, report):
        self.reports.append((number, report.epoch, report.numbers["processes"], report.metric))


def ranks() -> list[psutil.Process]:
    """What Ray's workers, which are below this process, have started."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE
        and "trainables.distributed.worker_main" in process.cmdline()
    ]


@pytest.mark.usefixtures("two_cpus")
def test_a_job_trains_each_trial_on_two_processes_and_leaves_none(tmp_path):
    class Digits(DigitsMlp):
        def build_model(self, config):
            rank = torch.distributed.get_rank()
            (tmp_path / f"ray of rank {rank}").write_text(str(ray.is_initialized()))
            return super().build_model(config)

        def evaluate(self, data):
            return {**super().evaluate(data), "processes": torch.distributed.get_world_size()}

    job = TuningJob(
        name="two",
        trainable=Digits,
        search_space=space,
        num_trials=2,
        max_epochs=3,
        pruner="none",
        sampler="random",
        cpus_per_trial=2,
        folder=tmp_path,
    )
    heard = Hears()
    result = run(job, observer=heard)
    assert [trial.state for trial in result.trials] == ["complete"] * 2
    assert result.best.value > 0.8
    assert [(number, epoch) for number, epoch, *_ in heard.reports] == [
        (number, epoch) for number in range(2) for epoch in (1, 2, 3)
    ]
    assert {processes for _, _, processes, _ in heard.reports} == {2}
    # The second process is no worker of Ray, and must not start a Ray of its own.
    assert (tmp_path / "ray of rank 0").read_text() == "True"
    assert (tmp_path / "ray of rank 1").read_text() == "False"
    until = time.monotonic() + 10
    while ranks():
        assert time.monotonic() < until
        time.sleep(0.05)
