"""Where a trial fits, as tables: counted node by node, and a misfit names what there is."""

from __future__ import annotations

import pytest

from tuner.engine.resources import GB, Node, ResourceRequest, fitting, misfit, slots


def node(name="n", cpus=0.0, gpus=0.0, memory_gb=0.0, labels=None, **custom):
    resources = {"CPU": cpus, "GPU": gpus, "memory": memory_gb * GB, **custom}
    return Node(name, {key: there for key, there in resources.items() if there}, labels or {})


def asking(cpus=0.0, gpus=0.0, memory_gb=0.0, labels=None, **custom):
    resources = {"CPU": cpus, "GPU": gpus, "memory": memory_gb * GB, **custom}
    return ResourceRequest({key: asked for key, asked in resources.items() if asked}, labels or {})


@pytest.mark.parametrize(
    ("asked", "there", "times"),
    [
        (asking(cpus=1), node(cpus=4), 4),
        (asking(cpus=4), node(cpus=2), 0),
        (asking(cpus=0.1), node(cpus=1), 10),
        (asking(cpus=1.5), node(cpus=4), 2),
        (asking(cpus=1, gpus=1), node(cpus=8, gpus=2), 2),
        (asking(cpus=4, gpus=1), node(cpus=8, gpus=8), 2),
        (asking(gpus=0.5), node(gpus=2), 4),
        # Two thirds of three GPUs are three trials, not four: none can use the rest of two GPUs.
        (asking(gpus=0.6), node(gpus=3), 3),
        (asking(gpus=0.3), node(gpus=2), 6),
        (asking(gpus=2), node(gpus=3), 1),
        (asking(cpus=1, memory_gb=3), node(cpus=8, memory_gb=8), 2),
        (asking(cpus=1, memory_gb=3), node(cpus=8), 0),
        (asking(cpus=1, licence=1), node(cpus=8, licence=3), 3),
        (asking(cpus=1, licence=1), node(cpus=8), 0),
        (asking(cpus=1, labels={"gpu": "H200"}), node(cpus=2, labels={"gpu": "H200"}), 2),
        (asking(cpus=1, labels={"gpu": "H200"}), node(cpus=2, labels={"gpu": "A100"}), 0),
        (asking(cpus=1, labels={"gpu": "H200"}), node(cpus=2), 0),
        (asking(cpus=1, labels={"gpu": "!H200"}), node(cpus=2, labels={"gpu": "A100"}), 2),
        (asking(cpus=1, labels={"gpu": "!H200"}), node(cpus=2, labels={"gpu": "H200"}), 0),
        (asking(cpus=1, labels={"gpu": "in(A100, H200)"}), node(cpus=2, labels={"gpu": "H200"}), 2),
        (asking(cpus=1, labels={"gpu": "in(A100,H200)"}), node(cpus=2, labels={"gpu": "T4"}), 0),
        (asking(cpus=1, labels={"gpu": "!in(A100,H200)"}), node(cpus=2, labels={"gpu": "T4"}), 2),
        (asking(cpus=1, labels={"gpu": "!in(A100,T4)"}), node(cpus=2, labels={"gpu": "T4"}), 0),
    ],
)
def test_how_many_trials_fit_on_a_node(asked, there, times):
    assert fitting(asked, there) == times


@pytest.mark.parametrize(
    ("asked", "nodes", "total"),
    [
        (asking(cpus=1), [], 0),
        (asking(cpus=4), [node(cpus=2)] * 3, 0),
        (asking(cpus=3), [node(cpus=4)] * 3, 3),
        (asking(cpus=1, gpus=1), [node(cpus=64), node(cpus=8, gpus=2), node(cpus=1, gpus=8)], 3),
        (
            asking(cpus=1, labels={"zone": "a"}),
            [node(cpus=2, labels={"zone": "a"}), node(cpus=2)],
            2,
        ),
    ],
)
def test_a_trial_is_on_one_node_so_room_is_counted_by_node(asked, nodes, total):
    assert slots(asked, nodes) == total
    assert (misfit(asked, nodes) is None) == (total > 0)


SMALL, WITH_GPU = node(cpus=2, memory_gb=8), node(cpus=1, gpus=1, labels={"gpu": "T4"})


@pytest.mark.parametrize(
    ("asked", "nodes", "said"),
    [
        (
            asking(cpus=4),
            [SMALL] * 3,
            "--cpus-per-trial must be at most the 2 CPUs that one node has, got 4; "
            "there are 3 nodes with 2 CPUs; ask for less, or run on larger nodes",
        ),
        (
            asking(cpus=1, gpus=2),
            [SMALL, WITH_GPU],
            "--gpus-per-trial must be at most the 1 GPU that one node has, got 2; "
            "there are 1 node with 2 CPUs 0 GPUs, 1 node with 1 CPU 1 GPU; "
            "ask for less, or run on larger nodes",
        ),
        (
            asking(cpus=1, memory_gb=16.5),
            [SMALL],
            "--memory-gb-per-trial must be at most the 8 GB that one node has, got 16.5; "
            "there are 1 node with 2 CPUs 8 GB; ask for less, or run on larger nodes",
        ),
        (
            asking(cpus=2, gpus=1),
            [SMALL, WITH_GPU],
            "a trial must fit on one node, got 2 CPUs and 1 GPU; "
            "there are 1 node with 2 CPUs 0 GPUs, 1 node with 1 CPU 1 GPU; "
            "ask for less, or run on larger nodes",
        ),
        (
            asking(cpus=1, licence=2),
            [SMALL],
            "--resource-per-trial licence= must be at most the 0 licence that one node has, got 2; "
            "there are 1 node with 2 CPUs 0 licence; ask for less, or run on larger nodes",
        ),
        (
            asking(cpus=1, labels={"gpu": "H200"}),
            [SMALL, WITH_GPU],
            "--node-label must be a label that some node has, got gpu=H200; there are "
            "1 node with no labels, 1 node with gpu=T4; choose another, or label a node",
        ),
        (
            asking(cpus=4),
            [node(cpus=cpus) for cpus in (1, 1.5, 2, 2.5, 3, 3.5, 3.6, 3.7)],
            "--cpus-per-trial must be at most the 3.7 CPUs that one node has, got 4; "
            "there are 1 node with 1 CPU, 1 node with 1.5 CPUs, 1 node with 2 CPUs, "
            "1 node with 2.5 CPUs, 1 node with 3 CPUs, 1 node with 3.5 CPUs and 2 nodes more; "
            "ask for less, or run on larger nodes",
        ),
    ],
    ids=["cpus", "gpus", "memory", "together", "custom", "label", "many kinds"],
)
def test_a_misfit_says_what_one_node_has(asked, nodes, said):
    assert misfit(asked, nodes) == said
