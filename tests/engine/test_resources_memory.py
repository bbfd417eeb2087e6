"""A trial that takes more memory than its node has fails alone, and its reason says what to do."""

from __future__ import annotations

import logging
import re
import sys
import time

import psutil
import pytest
import ray
from curve_trials import Curve, space
from ray import cloudpickle

from tuner import run
from tuner.engine.callbacks import RunCallback

cloudpickle.register_pickle_by_value(sys.modules[__name__])

_MB = 1_000_000


class Hungry(Curve):
    """Takes 50 MB after 50 MB when its config says so, until it has 6 GB."""

    def step(self):
        taken = []
        while self.config["hungry"] and len(taken) < 120:
            taken.append(bytearray(b"x" * 50 * _MB))
            time.sleep(0.01)
        return super().step()


@pytest.fixture
def little_memory(no_ray):
    """A Ray that has 2 GB left for itself and its trials."""
    memory = psutil.virtual_memory()
    share = (memory.total - memory.available + 2000 * _MB) / memory.total
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100 * _MB,
        _system_config={"memory_usage_threshold": share, "memory_monitor_refresh_ms": 50},
    )
    yield
    ray.shutdown()


def test_a_trial_that_ray_kills_for_its_memory_fails_alone(little_memory, make_job):
    job = make_job(
        trainable=Hungry,
        search_space=lambda trial: {**space(trial), "hungry": trial.number == 1},
        num_trials=2,  # a third might start before the kernel has the memory back
        max_epochs=2,
    )
    result = run(job, observer=RunCallback())
    assert [trial.state for trial in result.trials] == ["complete", "failed"]
    reason = result.trials[1].reason
    assert re.search(r"its node ran out of memory, and Ray killed it with [\d.]+GB in use", reason)
    assert "--concurrent" in reason
    assert "\n" not in reason
