"""Trials that report on how many threads they compute."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from curve_trials import Curve, space
from ray import cloudpickle, tune
from torch.utils.data import DataLoader, Dataset

from tuner import TuningJob, run
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


def assert_computes_on(threads: int, make_job: Callable[..., TuningJob], **fields: Any) -> None:
    """Check how many threads compute in a trial, and in the process that loads its data."""
    job = make_job(
        search_space=space, metric="score", mode="max", num_trials=1, max_epochs=2, **fields
    )
    (trial,) = run(job, observer=RunCallback()).trials
    assert trial.state == "complete"
    assert trial.test == {"test_threads": threads, "test_omp": threads, "test_loading": 1}
