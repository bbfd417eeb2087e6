"""What trials reserve on a real cluster of two nodes, one of them labelled."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
import ray
from curve_trials import Curve, space
from ray import cloudpickle
from ray.cluster_utils import Cluster

from tuner import InvalidInput, load_study, run
from tuner.engine.callbacks import RunCallback

# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def cluster(no_ray) -> Iterator[Cluster]:
    """Two nodes: one with 2 CPUs, and one with 1 CPU, a label and a licence."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    made.add_node(num_cpus=1, labels={"disk": "fast"}, resources={"licence": 1})
    ray.init(address=made.address, log_to_driver=False)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


class Placed(Curve):
    """Reports whether its node has the label, and the memory that it reserves in GB."""

    def report(self):
        context = ray.get_runtime_context()
        reserved = context.get_assigned_resources()
        fast = context.get_node_labels().get("disk") == "fast"
        return {
            **super().report(),
            "test_fast": float(fast),
            "test_memory": reserved.get("memory", 0.0) / 1e9,
            "test_licence": float(reserved.get("licence", 0.0)),
        }


class Together(RunCallback):
    """Counts how many trials ran at a time at most, and keeps what it is told besides."""

    def __init__(self):
        self.live = self.most = 0
        self.notes = []

    def noted(self, line):
        self.notes.append(line)

    def started(self, number, params):
        self.live += 1
        self.most = max(self.most, self.live)

    def finished(self, number, state, value, epochs, reason):
        self.live -= 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"cpus_per_trial": 4.0},
            "--cpus-per-trial must be at most the 2 CPUs that one node has, got 4; there are "
            # Kinds of which there are equally many come in any order.
            "(1 node with 2 CPUs, 1 node with 1 CPU|1 node with 1 CPU, 1 node with 2 CPUs)"
            "; ask for less",
        ),
        (
            {"node_labels": {"disk": "slow"}},
            "--node-label must be a label that some node has, got disk=slow; there are .*disk=fast",
        ),
        ({"node_labels": {"disk": "a b"}}, "--node-label must be KEY=VALUE as Ray takes it"),
        ({"resources_per_trial": {"licence": 2.0}}, "the 1 licence that one node has, got 2"),
        ({"memory_gb_per_trial": 1e6}, "--memory-gb-per-trial must be at most the .* GB that one"),
    ],
    ids=["cpus", "label", "no label", "custom", "memory"],
)
def test_what_no_node_can_take_is_refused_at_once(cluster, make_job, tmp_path, fields, message):
    with pytest.raises(InvalidInput) as caught:
        run(make_job(**fields), observer=RunCallback())
    assert re.search(message, str(caught.value)), caught.value
    assert list(tmp_path.iterdir()) == []


def test_trials_run_only_where_the_labels_are_and_hold_what_they_reserve(cluster, make_job):
    watching = Together()
    job = make_job(
        trainable=Placed,
        search_space=lambda trial: {**space(trial), "pause_s": 0.02},
        cpus_per_trial=0.5,
        memory_gb_per_trial=0.1,
        node_labels={"disk": "fast"},
        resources_per_trial={"licence": 0.5},
        num_trials=3,
        max_epochs=3,
    )
    result = run(job, observer=watching)
    assert [trial.state for trial in result.trials] == ["complete"] * 3
    for trial in load_study(job.name, folder=job.folder).trials:
        assert trial.test == {"test_fast": 1.0, "test_memory": 0.1, "test_licence": 0.5}
    assert watching.most == 2
    assert watching.notes == []


def test_slots_are_counted_by_node(cluster, make_job):
    watching = Together()
    job = make_job(
        search_space=lambda trial: {**space(trial), "pause_s": 0.1},
        cpus_per_trial=1.5,
        num_trials=2,
        max_epochs=2,
    )
    # Of three CPUs, one node has two: one trial, not two.
    assert run(job, observer=watching).finished
    assert watching.most == 1
