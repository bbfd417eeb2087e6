"""What a trial requests, what the cluster's nodes have, and how many trials fit."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import _raylet
from ray._private.label_utils import validate_label_selector
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.experimental.internal_kv import _internal_kv_get
from ray.tune import Callback, PlacementGroupFactory

from tuner.engine.callbacks import RunCallback
from tuner.errors import InvalidInput
from tuner.job import TuningJob

GB = 1e9
# Ray's arithmetic on fractions is exact to four digits.
_ROUNDING = 1e-6
_OPTIONS = {
    "CPU": "--cpus-per-trial",
    "GPU": "--gpus-per-trial",
    "memory": "--memory-gb-per-trial",
}
_NODES_SHOWN = 6


@dataclass(frozen=True)
class Node:
    """One machine of a cluster.

    Attributes:
        name: the address of the node, or the name of its kind.
        resources: the total resources by Ray's names: CPU, GPU, memory (in bytes), others.
        labels: the labels of the node, such as ``ray.io/accelerator-type``.
        id: Ray's id; empty for a node that is not up.
    """

    name: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True)
class ResourceRequest:
    """The resources that one trial reserves on one node.

    Attributes:
        resources: amounts > 0 by Ray's names; memory in bytes.
        labels: the labels that the node must have. A value may also be ``!value``, ``in(a,b)`` or
            ``!in(a,b)``, as in Ray.
    """

    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " and ".join(_amount(name, request) for name, request in self.resources.items())


def fitting(request: ResourceRequest, node: Node) -> int:
    """Return how many trials of this request fit at a time on an idle node.

    Example:
        >>> fitting(ResourceRequest({"CPU": 2}), Node("host", {"CPU": 8, "GPU": 1}))
        4
    """
    if not _matches(request, node):
        return 0
    return min(
        _times(name, node.resources.get(name, 0.0), amount)
        for name, amount in request.resources.items()
    )


def slots(request: ResourceRequest, nodes: Sequence[Node]) -> int:
    """Return how many trials of this request fit on all nodes, each trial on one node."""
    return sum(fitting(request, node) for node in nodes)


def misfit(request: ResourceRequest, nodes: Sequence[Node]) -> str | None:
    """Return one line that explains why no node can hold a trial; None if a node can."""
    if slots(request, nodes):
        return None
    matching = [node for node in nodes if _matches(request, node)]
    if not matching:
        wanted = ", ".join(f"{key}={value}" for key, value in request.labels.items())
        return (
            f"--node-label must be a label that some node has, got {wanted}; there are "
            f"{_listed(nodes, _labels)}; choose another, or label a node"
        )
    there = _listed(matching, partial(_resources, request=request))
    for name, amount in request.resources.items():
        most = max(matching, key=lambda node: _times(name, node.resources.get(name, 0.0), amount))
        if not _times(name, most.resources.get(name, 0.0), amount):
            option = _OPTIONS.get(name, f"--resource-per-trial {name}=")
            largest = max(node.resources.get(name, 0.0) for node in matching)
            return (
                f"{option} must be at most the {_amount(name, largest)} that one node has, got "
                f"{_figure(name, amount)}; there are {there}; ask for less, or run on larger nodes"
            )
    return (
        f"a trial must fit on one node, got {request}; there are {there}; ask for less, or run on "
        "larger nodes"
    )


def _times(name: str, there: float, amount: float) -> int:
    if name == "GPU" and amount < 1:  # a fraction comes from one GPU, never from two
        return int(there + _ROUNDING) * int(1 / amount + _ROUNDING)
    return int(there / amount + _ROUNDING)


def _matches(request: ResourceRequest, node: Node) -> bool:
    return all(_meets(node.labels.get(key), wanted) for key, wanted in request.labels.items())


def _meets(label: str | None, wanted: str) -> bool:
    no, wanted = wanted.startswith("!"), wanted.removeprefix("!")
    several = re.fullmatch(r"in\((.*)\)", wanted)
    values = [value.strip() for value in several[1].split(",")] if several else [wanted]
    return (label in values) != no


def _listed(nodes: Sequence[Node], describe: Callable[[Node], str]) -> str:
    kinds = Counter(describe(node) for node in nodes).most_common()
    shown = [f"{_counted(count)} with {kind}" for kind, count in kinds[:_NODES_SHOWN]]
    rest = sum(count for _, count in kinds[_NODES_SHOWN:])
    return ", ".join(shown) + (f" and {_counted(rest)} more" if rest else "") or "no nodes"


def _counted(count: int) -> str:
    return f"{count} node{'s' if count > 1 else ''}"


def _labels(node: Node) -> str:
    shown = [f"{key}={value}" for key, value in sorted(node.labels.items()) if "node-id" not in key]
    return " ".join(shown) or "no labels"


def _resources(node: Node, request: ResourceRequest) -> str:
    return " ".join(_amount(name, node.resources.get(name, 0.0)) for name in request.resources)


def _amount(name: str, amount: float) -> str:
    if name == "memory":
        return f"{_figure(name, amount)} GB"
    return f"{amount:g} {name}{'s' if name in ('CPU', 'GPU') and amount != 1 else ''}"


def _figure(name: str, amount: float) -> str:
    return f"{amount / GB:.3g}" if name == "memory" else f"{amount:g}"


def request_of(job: TuningJob) -> ResourceRequest:
    """Return the resources that each trial of a job reserves.

    Raises:
        InvalidInput: Ray does not accept a label.
    """
    if wrong := validate_label_selector(job.node_labels):
        rule = " ".join(wrong.split())
        raise InvalidInput(
            f"--node-label must be KEY=VALUE as Ray takes it, got {job.node_labels!r} ({rule}); "
            "use e.g. gpu=H200"
        )
    resources = {
        "CPU": job.cpus_per_trial,
        "GPU": job.gpus_per_trial,
        "memory": float(round(job.memory_gb_per_trial * GB)),
        **job.resources_per_trial,
    }
    return ResourceRequest(
        {name: amount for name, amount in resources.items() if amount}, job.node_labels
    )


def as_placement_group(request: ResourceRequest) -> PlacementGroupFactory:
    """Return the reservation for Ray Tune: one bundle, on one node, with the node's labels."""
    labels: dict[str, Any] = (
        {"bundle_label_selector": [dict(request.labels)]} if request.labels else {}
    )
    return PlacementGroupFactory([dict(request.resources)], **labels)


def nodes_up() -> list[Node]:
    """Return the nodes that are alive, with their total resources."""
    return [
        Node(
            name=node["NodeManagerAddress"],
            resources=dict(node["Resources"]),
            labels=dict(node["Labels"]),
            id=node["NodeID"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def may_grow() -> bool:
    """Whether the cluster has an autoscaler, which may add nodes of other kinds.

    Neither of Ray's two autoscalers publishes the kinds that it may start. The older autoscaler
    also runs on a cluster of a fixed size. There, the kind of each node has the name of the node.
    """
    status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    reported: dict[str, Any] = json.loads(status) if status else {}
    kinds = (reported.get("autoscaler_report") or {}).get("node_type_mapping") or {}
    if any(kind != f"node_{node}" for node, kind in kinds.items()):
        return True
    raylet: Any = _raylet
    of = raylet.GCS_AUTOSCALER_STATE_NAMESPACE
    newer = _internal_kv_get(raylet.GCS_AUTOSCALER_V2_ENABLED_KEY, namespace=of) == b"1"
    return newer or bool(_internal_kv_get(raylet.GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, namespace=of))


# `ray up` writes to the head node the kinds of nodes that the cluster may have, with counts.
_MAY_GROW = Path("~/ray_bootstrap_config.yaml")
_READ_EVERY_S = 1.0
_NODE_ID = "ray.io/node-id"  # label that Ray gives each node


@dataclass(frozen=True)
class NodeType:
    """A kind of node that the cluster may have.

    Attributes:
        resources: the resources by Ray's names; None if they are unknown before the node joins.
        most: the largest number of nodes of this kind, including the nodes that are up.
        labels: the labels of the nodes.
    """

    resources: Mapping[str, float] | None
    most: int
    labels: Mapping[str, str] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        """Return one node of this kind, with its known resources."""
        return Node(name, self.resources or {}, self.labels)


class ClusterCapacity:
    """Knows how many trials fit on the cluster now, and how many to keep ready.

    Args:
        request: the resources that one trial reserves on one node.
        may_have: the nodes that an autoscaler may add; empty for a cluster of a fixed size, or
            if the kinds are unknown.
    """

    def __init__(self, request: ResourceRequest, may_have: Sequence[NodeType] = ()) -> None:
        self.request = request
        self._may_have = may_have
        self._known = (-math.inf, 0)
        self._excluded: set[str] = set()

    @property
    def slots(self) -> int:
        """How many trials fit on the nodes that are up; cached for a second."""
        if time.monotonic() - self._known[0] > _READ_EVERY_S:
            self._known = (time.monotonic(), slots(self.request, nodes_up()))
        return self._known[1]

    def nodes(self) -> list[Node]:
        """Return the nodes that are up and can hold a trial."""
        return [node for node in nodes_up() if fitting(self.request, node)]

    def exclude(self, node: Node) -> bool:
        """Place no more trials on a node; return whether another node can hold a trial.

        If the job names the nodes for its trials, no node is excluded and the answer is False.
        """
        out = {*self._excluded, node.id}
        if _NODE_ID in self.request.labels and not self._excluded:
            return False
        self._excluded = out
        others = f"!in({','.join(sorted(out))})"
        self.request = replace(self.request, labels={**self.request.labels, _NODE_ID: others})
        self._known = (-math.inf, 0)
        return self.slots > 0

    def wanted(self) -> int:
        """Return how many trials to keep ready, >= 1.

        On a cluster of a fixed size this is the number of trials that fit. An autoscaler adds nodes
        only for trials that do not fit. So with an autoscaler it is twice the number that fit, and
        at least the number that fit on one new node, within the limit of the autoscaler. If no
        trial fits, it is 1, for the next node.
        """
        fit_and_most = [
            (fitting(self.request, kind.node("")), kind.most) for kind in self._may_have
        ]
        limit = sum(fit * most for fit, most in fit_and_most)
        ahead = max(2 * self.slots, max((fit for fit, _ in fit_and_most), default=0))
        return max(1, self.slots, min(limit, ahead))

    def check(self) -> None:
        """Check that a node can hold a trial: a node that is up, or a node that may join.

        Raises:
            InvalidInput: no node can hold a trial; the message names the largest resources.
        """
        up = nodes_up()
        known = [kind.node("a node to come") for kind in self._may_have if kind.resources]
        why = misfit(self.request, [*up, *known])
        if why is None:
            return
        if self._may_have:  # hosts of unknown size may join
            unknown = sum(kind.most for kind in self._may_have if not kind.resources)
            may_come = len(up) + len(known) < unknown
        else:
            may_come = may_grow()
        if not may_come:
            raise InvalidInput(why)

    def unused_gpus(self) -> str | None:
        """Return a hint if the trials leave the cluster's GPUs idle, else None."""
        there = sum(node.resources.get("GPU", 0) for node in nodes_up())
        if self.request.resources.get("GPU") or not there:
            return None
        return (
            f"trials run on CPUs; there are {there:g} GPUs: --gpus-per-trial 1, or less to share "
            "one"
        )


def may_have() -> list[NodeType]:
    """Return the nodes that an autoscaler may add; none for a cluster of a fixed size.

    `ray up` writes them to its head node, where the job runs. On other clusters the variable
    QUARTERTURN_MAY_HAVE names them: a JSON list of {"resources": {"CPU": 8, "GPU": 1}, "most": 4}.

    Raises:
        InvalidInput: QUARTERTURN_MAY_HAVE cannot be read.
    """
    if said := os.environ.get("QUARTERTURN_MAY_HAVE"):
        try:
            return [
                NodeType(dict(kind["resources"]), int(kind["most"])) for kind in json.loads(said)
            ]
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInput(
                'QUARTERTURN_MAY_HAVE must be like [{"resources": {"CPU": 8, "GPU": 1}, "most": '
                f"4}}], got {said!r}; correct it or unset it"
            ) from error
    path = _MAY_GROW.expanduser()
    if not path.exists():
        return []
    config = yaml.safe_load(path.read_text())
    return [
        NodeType(
            node_type.get("resources") or None,
            node_type["max_workers"] + (name == config["head_node_type"]),
            node_type.get("labels") or {},
        )
        for name, node_type in config["available_node_types"].items()
    ]


class CapacityNotifier(Callback):
    """Notifies the observer if no node can hold a trial, and if a node can again."""

    def __init__(self, capacity: ClusterCapacity, observer: RunCallback) -> None:
        self._capacity = capacity
        self._observer = observer
        self._fits = True

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        fits = self._capacity.slots > 0
        if fits != self._fits:
            self._fits = fits
            self._observer.noted(
                f"nodes have joined, {self._capacity.slots} trials fit on the cluster"
                if fits
                else f"no node that is up has {self._capacity.request} for a trial; trials wait "
                "until such a node joins"
            )
