"""Why a trial's process ended, and whether the trial failed or is run again on another node.

One that does not would run every trial it is given up to its first checkpoint, and fail it.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import ray
from ray._private.state import state as cluster
from ray.core.generated import common_pb2
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
)

from tuner.engine.checkpoints import refusal, why_unusable
from tuner.engine.resources import ClusterCapacity, Node
from tuner.engine.trial_manager import TrialManager
from tuner.storage.paths import StoragePath

Fault = Literal["trial", "process", "memory", "node"]

# Made when the module is loaded, so that no type checker knows of it.
_NODE_DIED = vars(common_pb2)["ActorDiedErrorContext"].NODE_DIED
_USED = re.compile(r"Selected to kill: \(.*?actual memory used=([\d.]+GB)", re.DOTALL)
_SENTENCE = re.compile(r"Worker exit detail: (.*?[.!])(?:\s|$)", re.DOTALL)


@dataclass(frozen=True)
class FailureCause:
    """Why a trial's process is gone.

    Attributes:
        fault: `trial` when its code raised, `memory` when Ray's memory monitor killed it, `process`
            when it died by itself as far as is known yet, `node` when its node went.
        why: for a person; empty for `trial`, whose error speaks for itself.
        node: Ray's id of the node that it ran on, if known.
    """

    fault: Fault
    why: str = ""
    node: str = ""


class ActorLost(RayActorError):
    """Another of Ray's errors that means the actor is gone, which Ray's error for that is not.

    Ray Tune (2.60) gives up the whole experiment at one of these: an actor that the memory monitor
    killed, say, or a result that was on a node that died.
    """

    def __init__(self, error: RayError) -> None:
        super().__init__(error_msg=str(error))
        self.error = error


def death_of(error: BaseException | None) -> FailureCause:
    """Return what an error that ended a trial says of the process and the node."""
    if isinstance(error, ActorLost):
        error = error.error
    if isinstance(error, RayTaskError) or not isinstance(error, RayError):
        return FailureCause("trial")
    if isinstance(error, OutOfMemoryError):
        return FailureCause("memory", _out_of_memory(str(error)))
    if isinstance(error, ActorUnavailableError):
        return FailureCause("node", "its node stopped answering")
    if isinstance(error, ObjectLostError | NodeDiedError | ActorUnschedulableError):
        return FailureCause("node", "its node went away")
    if isinstance(error, ActorDiedError) and not error.actor_init_failed:
        return _actor_died(error)
    return FailureCause("trial")


def is_alive(node: str) -> bool:
    """Whether a node is in the cluster; one that Ray has forgotten is not."""
    return any(known["Alive"] for known in ray.nodes() if known["NodeID"] == node)


def _actor_died(error: ActorDiedError) -> FailureCause:
    known = cluster.actor_table(error.actor_id) if error.actor_id else {}
    if not known:
        return FailureCause("process", _process_died(str(error)))
    node, cause = known["Address"]["NodeID"], known["DeathCause"]
    if cause.HasField("oom_context"):
        return FailureCause("memory", _out_of_memory(cause.oom_context.error_message), node)
    context = cause.actor_died_error_context
    if error.preempted:
        return FailureCause("node", "its node was preempted", node)
    if context.reason == _NODE_DIED:
        reason = context.node_death_info.reason_message
        return FailureCause(
            "node", f"its node died ({reason})" if reason else "its node died", node
        )
    if "placement group was removed" in context.error_message:
        return FailureCause("node", "its place on the cluster was taken away", node)
    where = f"process {known['Pid']} on {known['Address']['IPAddress']}"
    return FailureCause("process", _process_died(context.error_message, where), node)


def _process_died(message: str, where: str = "its process") -> str:
    detail = _SENTENCE.search(message)
    said = f" ({detail[1]})" if detail else ""
    return (
        f"its process died: {where} was killed or crashed{said}; look for it in that host's kernel "
        "log (out of memory?) and in Ray's logs there"
    )


def _out_of_memory(message: str) -> str:
    used = _USED.search(message)
    with_how_much = f" with {used[1]} in use" if used else ""
    return (
        f"its node ran out of memory, and Ray killed it{with_how_much}; run fewer trials at a time "
        "(--concurrent, or more of --cpus-per-trial), or smaller ones"
    )


# A node that shuts down ends its processes some seconds before it takes its leave.
_GRACE_S = 5.0
# Past this it is more likely the trial that brings its nodes down.
_MOST_NODES_LOST = 10


class FailureHandler:
    """Decides for each trial that crashed whether it failed, or goes on from its checkpoint.

    A process that died by itself is in doubt for `_GRACE_S`: if its node is gone by then, the node
    took it along.

    Args:
        manager: the study.
    """

    def __init__(self, manager: TrialManager) -> None:
        self._manager = manager
        self._nodes_lost: Counter[int] = Counter()
        self._in_doubt: dict[int, tuple[float, FailureCause]] = {}

    def __bool__(self) -> bool:
        """Whether any trial is in doubt."""
        return bool(self._in_doubt)

    def crashed(self, number: int, error: BaseException | None) -> None:
        """Take note of what ended a trial."""
        death = death_of(error)
        if death.fault == "trial":
            self._manager.fail(number, error)
        elif death.fault == "memory":
            self._manager.fail_with(number, death.why)
        elif death.fault == "node":
            self._lost(number, death.why)
        else:
            self._in_doubt[number] = (time.monotonic() + _GRACE_S, death)

    def settle(self) -> None:
        """Decide on the trials in doubt whose node is gone, or has lived long enough."""
        for number, (until, death) in list(self._in_doubt.items()):
            if death.node and not is_alive(death.node):
                self._lost(number, "its node shut down")
            elif time.monotonic() >= until:
                self._manager.fail_with(number, death.why)
            else:
                continue
            del self._in_doubt[number]

    def _lost(self, number: int, why: str) -> None:
        self._nodes_lost[number] += 1
        if self._nodes_lost[number] > _MOST_NODES_LOST:
            self._manager.fail_with(
                number,
                f"{self._nodes_lost[number]} nodes went while it ran, the last time {why}; find "
                "out whether it is the trial that brings them down",
            )
        else:
            self._manager.interrupt(number, why)


# Ray Tune writes it when a run begins.
_THERE = ".validate_storage_marker"


class StorageUnreachable(Exception):
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
class StorageProbe:
    """Whether the node that a trial's process runs on sees a place.

    Attributes:
        place: where checkpoints are kept, while Ray Tune runs.
        asked: ids of the nodes that were asked when the study began.
    """

    place: StoragePath
    asked: frozenset[str]

    @classmethod
    def after(cls, place: StoragePath, asked: Iterable[Node]) -> StorageProbe:
        """Return it for a study that begins; the node that this process runs on sees the place."""
        here = ray.get_runtime_context().get_node_id()
        return cls(place, frozenset({here, *(node.id for node in asked)}))

    def here(self) -> StorageUnreachable | None:
        """Return why this node cannot use the place; None if it can, or was asked before."""
        node = ray.get_runtime_context().get_node_id()
        if node in self.asked:
            return None
        mine = f".quarterturn-{node}"
        why = why_unusable(self.place, _THERE, mine)
        if why is None:
            self.place.remove(mine)
            return None
        return StorageUnreachable(node, ray.util.get_node_ip_address(), why)


class LateNodes:
    """Leaves out the nodes that do not see the checkpoints, and has their trials run elsewhere.

    Args:
        manager: the study.
        room: where its trials run.
        place: where the checkpoints are.
    """

    def __init__(self, manager: TrialManager, room: ClusterCapacity, place: StoragePath) -> None:
        self._manager = manager
        self._room = room
        self._place = place
        self._left_out: set[str] = set()

    def take_back(self, number: int, not_seen: StorageUnreachable) -> None:
        """Run a trial elsewhere than on that node; the study ends where there is no other."""
        node = Node(not_seen.name, {}, id=not_seen.node)
        line = refusal(self._place, node, not_seen.why)
        if not self._room.leave_out(node):
            self._manager.fatal = line
            return
        if node.id not in self._left_out:
            self._left_out.add(node.id)
            self._manager.observer.noted(f"{line}; until then no trial runs there")
        self._manager.interrupt(number, "its node cannot use the checkpoints")
