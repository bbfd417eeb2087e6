"""What the tests of the engine share: one Ray per module, and jobs in a folder of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import ray
from curve_trials import Curve, space

from tuner import TuningJob


@contextmanager
def _ray_of(cpus: int) -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[None]:
    with _ray_of(2):
        yield


@pytest.fixture(scope="module")
def four_cpus() -> Iterator[None]:
    with _ray_of(4):
        yield


@pytest.fixture
def make_job(tmp_path) -> Callable[..., TuningJob]:
    """Return a function that makes a job of trials without a model, fields replaced as given."""

    def make(**fields) -> TuningJob:
        defaults = {
            "name": "study",
            "trainable": Curve,
            "search_space": space,
            "num_trials": 3,
            "max_epochs": 9,
            "pruner": "none",
            "sampler": "random",
            "folder": tmp_path / "studies",
        }
        return TuningJob(**{**defaults, **fields})

    return make
