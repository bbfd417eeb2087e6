"""How many trials are made ready for a cluster, and which can never be placed on it."""

from __future__ import annotations

import pytest
import yaml

from tuner import InvalidInput
from tuner.engine.resources import ClusterCapacity, NodeType, ResourceRequest, may_have

pytestmark = pytest.mark.usefixtures("two_cpus")

HEAD = NodeType({"CPU": 2}, 1)


def room(cpus, gpus, types=()):
    return ClusterCapacity(ResourceRequest({"CPU": cpus, "GPU": gpus}), types)


@pytest.mark.parametrize(
    ("cpus", "types", "wanted"),
    [
        (0.5, [], 4),
        (1.5, [], 1),
        (9, [], 1),
        (0.5, [HEAD], 4),
        (0.5, [HEAD, NodeType({"CPU": 4}, 1)], 8),
        (0.5, [HEAD, NodeType({"CPU": 4}, 9)], 8),
        (0.5, [HEAD, NodeType({"CPU": 1}, 1)], 6),
        (0.5, [HEAD, NodeType({"CPU": 32}, 9)], 64),
        (0.5, [HEAD, NodeType({"CPU": 32}, 0)], 4),
        (0.5, [HEAD, NodeType(None, 3)], 4),
        (1.5, [HEAD, NodeType({"CPU": 4}, 9)], 2),
    ],
    ids=str,
)
def test_an_autoscaler_is_shown_that_there_is_more_to_do(cpus, types, wanted):
    room = ClusterCapacity(ResourceRequest({"CPU": cpus}), types)
    assert room.slots == 2 // cpus
    assert room.wanted() == wanted


def test_gpus_that_may_come_are_waited_for():
    with pytest.raises(InvalidInput, match="--gpus-per-trial must be at most the 0 GPUs that one"):
        room(1, 1).check()
    workers = NodeType({"CPU": 16, "GPU": 2}, 3)
    room(1, 2, [HEAD, workers]).check()
    assert room(1, 1, [HEAD, workers]).wanted() == 2
    with pytest.raises(InvalidInput, match="at most the 2 GPUs that one node has, got 4"):
        room(1, 4, [HEAD, workers]).check()
    # Hosts that one has: nobody knows what they hold before they have joined.
    room(1, 4, [NodeType(None, 3)]).check()
    with pytest.raises(InvalidInput, match="at most the 0 GPUs"):
        room(1, 4, [NodeType(None, 1)]).check()


def test_what_ray_up_left_on_the_head_node_says_what_may_come(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert may_have() == []
    types = {
        "head": {"resources": {"CPU": 2}, "max_workers": 0, "node_config": {}},
        "gpu": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 5, "node_config": {}},
        "mine": {"resources": {}, "max_workers": 2, "node_config": {}},
    }
    config = {"head_node_type": "head", "available_node_types": types}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert may_have() == [HEAD, NodeType({"CPU": 8, "GPU": 1}, 5), NodeType(None, 2)]
    config["head_node_type"] = "mine"  # as of hosts that one has, where the head is one of them
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert may_have()[2] == NodeType(None, 3)


def test_where_ray_up_left_nothing_the_environment_says_what_may_come(monkeypatch):
    said = '[{"resources": {"CPU": 8, "GPU": 1}, "most": 4}]'
    monkeypatch.setenv("QUARTERTURN_MAY_HAVE", said)
    assert may_have() == [NodeType({"CPU": 8, "GPU": 1}, 4)]


@pytest.mark.parametrize("said", ["8", "[8]", "{", '[{"resources": {"CPU": 8}}]'])
def test_what_the_environment_says_wrongly_is_refused(monkeypatch, said):
    monkeypatch.setenv("QUARTERTURN_MAY_HAVE", said)
    with pytest.raises(InvalidInput, match="QUARTERTURN_MAY_HAVE must be like"):
        may_have()
