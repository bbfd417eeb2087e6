"""Nodes that join while a study runs: a trial's process asks whether its node sees the checkpoints.

One that does not would run every trial it is given up to its first checkpoint, and fail it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import ray

from tuner.engine.bridge import StudyBridge
from tuner.engine.placement import Node
from tuner.engine.room import Room
from tuner.engine.shared_place import refusal, why_unusable
from tuner.study.places import Place

# Ray Tune writes it when a run begins.
_THERE = ".validate_storage_marker"


class NotSeen(Exception):
    """A node cannot use the place where checkpoints are kept.

    Attributes:
        node: Ray's id of it.
        name: its address.
        why: as its file system says.
    """

    def __init__(self, node: str, name: str, why: str) -> None:
        super().__init__(node, name, why)
        self.node, self.name, self.why = node, name, why


@dataclass(frozen=True)
class SeenFrom:
    """Whether the node that a trial's process runs on sees a place.

    Attributes:
        place: where checkpoints are kept, while Ray Tune runs.
        asked: ids of the nodes that were asked when the study began.
    """

    place: Place
    asked: frozenset[str]

    @classmethod
    def after(cls, place: Place, asked: Iterable[Node]) -> SeenFrom:
        """Return it for a study that begins; the node that this process runs on sees the place."""
        here = ray.get_runtime_context().get_node_id()
        return cls(place, frozenset({here, *(node.id for node in asked)}))

    def here(self) -> NotSeen | None:
        """Return why this node cannot use the place; None if it can, or was asked before."""
        node = ray.get_runtime_context().get_node_id()
        if node in self.asked:
            return None
        mine = f".quarterturn-{node}"
        why = why_unusable(self.place, _THERE, mine)
        if why is None:
            self.place.remove(mine)
            return None
        return NotSeen(node, ray.util.get_node_ip_address(), why)


class LateNodes:
    """Leaves out the nodes that do not see the checkpoints, and has their trials run elsewhere.

    Args:
        bridge: the study.
        room: where its trials run.
        place: where the checkpoints are.
    """

    def __init__(self, bridge: StudyBridge, room: Room, place: Place) -> None:
        self._bridge = bridge
        self._room = room
        self._place = place
        self._left_out: set[str] = set()

    def take_back(self, number: int, not_seen: NotSeen) -> None:
        """Run a trial elsewhere than on that node; the study ends where there is no other."""
        node = Node(not_seen.name, {}, id=not_seen.node)
        line = refusal(self._place, node, not_seen.why)
        if not self._room.leave_out(node):
            self._bridge.fatal = line
            return
        if node.id not in self._left_out:
            self._left_out.add(node.id)
            self._bridge.observer.noted(f"{line}; until then no trial runs there")
        self._bridge.interrupt(number, "its node cannot use the checkpoints")
