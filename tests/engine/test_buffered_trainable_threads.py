"""Trials do not fight over CPUs: each computes on as many threads as it reserves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray
from thread_counts import Counting, assert_computes_on, counting


@pytest.fixture(scope="module")
def set_in_the_shell(no_ray) -> Iterator[None]:
    """A Ray of three CPUs, whose processes inherit the OMP_NUM_THREADS of a user's shell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "3")
        ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


# test_buffered_trainable.py has the same where nothing is set.
@pytest.mark.usefixtures("set_in_the_shell")
@pytest.mark.parametrize(("trainable", "cpus", "threads"), [(Counting, 2.5, 2), (counting, 1.0, 1)])
def test_a_trial_computes_on_as_many_threads_as_it_reserves(make_job, trainable, cpus, threads):
    assert_computes_on(threads, make_job, trainable=trainable, cpus_per_trial=cpus)
