"""How many trials fit on the cluster, now and once it has grown."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from ray.tune import Callback

from tuner.engine.nodes import may_grow, nodes_up
from tuner.engine.observer import Observer
from tuner.engine.placement import Node, Reservation, fitting, misfit, slots
from tuner.errors import InvalidInput

# `ray up` leaves on the head node which nodes the cluster may have, and how many of each.
_MAY_GROW = Path("~/ray_bootstrap_config.yaml")
_READ_EVERY_S = 1.0
_NODE_ID = "ray.io/node-id"  # label that Ray gives each node


@dataclass(frozen=True)
class NodeType:
    """A kind of node that the cluster may have `most` of.

    Attributes:
        resources: what such a node has, by Ray's names; None where that is not known before it
            joins, as of hosts that one has.
        most: how many there may be, those that are up among them.
        labels: what such a node is.
    """

    resources: Mapping[str, float] | None
    most: int
    labels: Mapping[str, str] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        """Return one of its nodes, as far as is known."""
        return Node(name, self.resources or {}, self.labels)


class Room:
    """How many trials fit on the cluster as it is, and how many to have ready.

    Args:
        asked: what one trial reserves of one node; what is left over on two is not added up.
        may_have: the nodes that an autoscaler may add; empty for a cluster of a fixed size, and
            where nobody says.
    """

    def __init__(self, asked: Reservation, may_have: Sequence[NodeType] = ()) -> None:
        self.asked = asked
        self._may_have = may_have
        self._known = (-math.inf, 0)
        self._left_out: set[str] = set()

    @property
    def slots(self) -> int:
        """How many trials fit on the nodes that are there; known for a second."""
        if time.monotonic() - self._known[0] > _READ_EVERY_S:
            self._known = (time.monotonic(), slots(self.asked, nodes_up()))
        return self._known[1]

    def nodes(self) -> list[Node]:
        """Return the nodes that are there and can hold a trial."""
        return [node for node in nodes_up() if fitting(self.asked, node)]

    def leave_out(self, node: Node) -> bool:
        """Let no more trials be placed on a node; return whether there is room on any other.

        Not if the trials were to run on nodes that are named.
        """
        out = {*self._left_out, node.id}
        if _NODE_ID in self.asked.labels and not self._left_out:
            return False
        self._left_out = out
        others = f"!in({','.join(sorted(out))})"
        self.asked = replace(self.asked, labels={**self.asked.labels, _NODE_ID: others})
        self._known = (-math.inf, 0)
        return self.slots > 0

    def wanted(self) -> int:
        """How many trials to have ready, >= 1.

        With a cluster of a fixed size it is what fits. An autoscaler adds nodes for those that do
        not, so it is shown twice as many as do, or one node full of them, up to what it may add.
        Where none fits, one waits for a node.
        """
        fit_and_most = [(fitting(self.asked, kind.node("")), kind.most) for kind in self._may_have]
        limit = sum(fit * most for fit, most in fit_and_most)
        ahead = max(2 * self.slots, max((fit for fit, _ in fit_and_most), default=0))
        return max(1, self.slots, min(limit, ahead))

    def check(self) -> None:
        """Refuse trials that no node can hold, neither one that is there nor one that may come.

        Raises:
            InvalidInput: they ask for more than that; the message says how much it is.
        """
        up = nodes_up()
        known = [kind.node("a node to come") for kind in self._may_have if kind.resources]
        why = misfit(self.asked, [*up, *known])
        if why is None:
            return
        if self._may_have:  # some hosts may be yet to join, and who knows what they have
            unknown = sum(kind.most for kind in self._may_have if not kind.resources)
            may_come = len(up) + len(known) < unknown
        else:
            may_come = may_grow()
        if not may_come:
            raise InvalidInput(why)

    def unused_gpus(self) -> str | None:
        """Return a line for someone whose trials leave the cluster's GPUs idle; None otherwise."""
        there = sum(node.resources.get("GPU", 0) for node in nodes_up())
        if self.asked.resources.get("GPU") or not there:
            return None
        return (
            f"trials run on CPUs; there are {there:g} GPUs: --gpus-per-trial 1, or less to share "
            "one"
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
            node_type.get("labels") or {},
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
                else f"no node that is up has {self._room.asked} for a trial; they wait until one "
                "joins"
            )
