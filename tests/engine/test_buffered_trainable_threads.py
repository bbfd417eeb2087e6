"""Trials do not fight over CPUs: each computes on as many threads as it reserves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
import ray
import torch
from curve_trials import Curve, space
from ray import cloudpickle, tune
from torch.utils.data import DataLoader, Dataset

from tuner import run
from tuner.engine.callbacks import RunCallback

# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Threads(Dataset):
    """One item: how many threads compute where it is loaded."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return torch.get_num_threads()


def counted() -> dict[str, float]:
    # A GPU's loader forks: here, too, the process that loads must not compute on all threads.
    (loading,) = next(iter(DataLoader(Threads(), num_workers=1))).tolist()
    return {
        "test_threads": float(torch.get_num_threads()),
        "test_omp": float(os.environ["OMP_NUM_THREADS"]),
        "test_loading": float(loading),
    }


class Counting(Curve):
    def report(self):
        return {**super().report(), **counted()}


def counting(config):
    for epoch in range(1, config["max_epochs"] + 1):
        tune.report({"epoch": epoch, "score": 0.5, **counted()})


@pytest.fixture(scope="module", params=[None, "3"], ids=["unset", "set in the shell"])
def shell(request, no_ray) -> Iterator[str | None]:
    """A Ray of three CPUs, whose processes inherit OMP_NUM_THREADS as a user's shell may set it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param is None:
            patch.delenv("OMP_NUM_THREADS", raising=False)
        else:
            patch.setenv("OMP_NUM_THREADS", request.param)
        ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
        yield request.param
        ray.shutdown()


# What the shell sets, the trainable, and the CPUs and threads of its trial.
RESERVED = {
    (None, Counting): (0.5, 1),
    (None, counting): (2.5, 2),
    ("3", Counting): (2.5, 2),
    ("3", counting): (1.0, 1),
}


@pytest.mark.parametrize("trainable", [Counting, counting], ids=["class", "function"])
def test_a_trial_computes_on_as_many_threads_as_it_reserves(make_job, shell, trainable):
    cpus, threads = RESERVED[shell, trainable]
    job = make_job(
        trainable=trainable,
        search_space=space,
        metric="score",
        mode="max",
        cpus_per_trial=cpus,
        num_trials=1,
        max_epochs=2,
    )
    (trial,) = run(job, observer=RunCallback()).trials
    assert trial.state == "complete"
    assert trial.test == {"test_threads": threads, "test_omp": threads, "test_loading": 1}
