"""How many trials fit on the cluster, now and once it has grown."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.tune import Callback

from tuner.engine.observer import Observer
from tuner.errors import InvalidInput

# `ray up` leaves on the head node which nodes the cluster may have, and how many of each.
_MAY_GROW = Path("~/ray_bootstrap_config.yaml")
_READ_EVERY_S = 1.0


@dataclass(frozen=True)
class NodeType:
    """A kind of node that the cluster may have `most` of; None where its resources are not known
    before it joins, as of hosts that one has."""

    resources: Mapping[str, float] | None
    most: int


class Room:
    """How many trials of these needs fit on the cluster as it is, and how many to have ready.

    A trial runs on one node: what is left over on two is not added up.

    Args:
        cpus, gpus: what one trial needs, >= 0 and not both 0.
        may_have: the nodes that an autoscaler may add; empty for a cluster of a fixed size.
    """

    def __init__(self, cpus: float, gpus: float, may_have: Sequence[NodeType] = ()) -> None:
        self._needs = {"CPU": cpus, "GPU": gpus}
        self._may_have = may_have
        self._known = (-math.inf, 0)

    @property
    def slots(self) -> int:
        """How many trials fit on the nodes that are there; known for a second."""
        if time.monotonic() - self._known[0] > _READ_EVERY_S:
            self._known = (time.monotonic(), sum(self._fit(node) for node in _nodes()))
        return self._known[1]

    def wanted(self) -> int:
        """How many trials to have ready, >= 1.

        With a cluster of a fixed size it is what fits. An autoscaler adds nodes for those that do
        not, so it is shown twice as many as do, or one node full of them, up to what it may add.
        Where none fits, one waits for a node.
        """
        fit_and_most = [(self._fit(t.resources or {}), t.most) for t in self._may_have]
        limit = sum(fit * most for fit, most in fit_and_most)
        ahead = max(2 * self.slots, max((fit for fit, _ in fit_and_most), default=0))
        return max(1, self.slots, min(limit, ahead))

    def check(self) -> None:
        """Refuse trials that no node can hold, neither one that is there nor one that may come.

        Raises:
            InvalidInput: they ask for more than that; the message says how much it is.
        """
        nodes = [*_nodes(), *(t.resources for t in self._may_have if t.resources is not None)]
        if len(nodes) < sum(t.most for t in self._may_have if t.resources is None):
            return  # some are yet to join, and who knows what they have
        for option, resource in (("--gpus-per-trial", "GPU"), ("--cpus-per-trial", "CPU")):
            most = max((node.get(resource, 0) for node in nodes), default=0)
            if self._needs[resource] > most:
                raise InvalidInput(
                    f"{option} must be at most the {most:g} {resource}s there are, got "
                    f"{self._needs[resource]:g}; ask for fewer, or run on a cluster with larger "
                    "nodes"
                )

    def unused_gpus(self) -> str | None:
        """Return a line for someone whose trials leave the cluster's GPUs idle; None otherwise."""
        there = sum(node.get("GPU", 0) for node in _nodes())
        if self._needs["GPU"] or not there:
            return None
        return (
            f"trials run on CPUs; there are {there:g} GPUs: --gpus-per-trial 1, or less to share "
            "one"
        )

    def _fit(self, node: Mapping[str, float]) -> int:
        return min(
            int(node.get(resource, 0) / asked + 1e-9)
            for resource, asked in self._needs.items()
            if asked > 0
        )


def may_have() -> list[NodeType]:
    """Return the nodes that an autoscaler may add to the cluster; none for one of a fixed size.

    They are what `ray up` left on its head, where the job runs. Elsewhere QUARTERTURN_MAY_HAVE
    says it: a JSON list of {"resources": {"CPU": 8, "GPU": 1}, "most": 4}.

    Raises:
        InvalidInput: that cannot be read.
    """
    if said := os.environ.get("QUARTERTURN_MAY_HAVE"):
        try:
            return [
                NodeType(dict(kind["resources"]), int(kind["most"])) for kind in json.loads(said)
            ]
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInput(
                'QUARTERTURN_MAY_HAVE must be like [{"resources": {"CPU": 8, "GPU": 1}, "most": '
                f"4}}], got {said!r}; mend it or unset it"
            ) from error
    path = _MAY_GROW.expanduser()
    if not path.exists():
        return []
    config = yaml.safe_load(path.read_text())
    return [
        NodeType(
            node_type.get("resources") or None,
            node_type["max_workers"] + (name == config["head_node_type"]),
        )
        for name, node_type in config["available_node_types"].items()
    ]


class SaysWhenNoneFits(Callback):
    """Says once that trials wait because no node can hold one, and again when that has passed."""

    def __init__(self, room: Room, observer: Observer) -> None:
        self._room = room
        self._observer = observer
        self._fits = True

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        fits = self._room.slots > 0
        if fits != self._fits:
            self._fits = fits
            self._observer.noted(
                f"nodes have joined, with room for {self._room.slots} trials"
                if fits
                else "no node has room for a trial; they wait until one joins"
            )


def _nodes() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
