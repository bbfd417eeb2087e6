"""Why a trial's process ended, and whether the trial failed or runs again on another node.

On a node that cannot use the checkpoints' folder, every trial would fail at its first checkpoint.
So the trials of such a node run on other nodes too.
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

# The module creates it when it is loaded, so type checkers do not know it.
_NODE_DIED = vars(common_pb2)["ActorDiedErrorContext"].NODE_DIED
_USED = re.compile(r"Selected to kill: \(.*?actual memory used=([\d.]+GB)", re.DOTALL)
_SENTENCE = re.compile(r"Worker exit detail: (.*?[.!])(?:\s|$)", re.DOTALL)


@dataclass(frozen=True)
class FailureCause:
    """Why a trial's process ended.

    Attributes:
        fault: `trial` if its code raised an error, `memory` if Ray's memory monitor killed it,
            `node` if its node was lost, `process` if it died and its node is not known to be lost.
        why: a sentence for the user; empty for `trial`, which has its own error.
        node: Ray's id of the process's node, if known.
    """

    fault: Fault
    why: str = ""
    node: str = ""


class ActorLost(RayActorError):
    """Wraps an error of Ray that means a lost actor but is not a `RayActorError`.

    Ray Tune (2.60) ends the whole experiment at such an error, for example when the memory monitor
    killed an actor or a result was on a node that died.
    """

    def __init__(self, error: RayError) -> None:
        super().__init__(error_msg=str(error))
        self.error = error


def failure_cause(error: BaseException | None) -> FailureCause:
    """Return the cause of an error that ended a trial."""
    if isinstance(error, ActorLost):
        error = error.error
    if isinstance(error, RayTaskError) or not isinstance(error, RayError):
        return FailureCause("trial")
    if isinstance(error, OutOfMemoryError):
        return FailureCause("memory", _out_of_memory(str(error)))
    if isinstance(error, ActorUnavailableError):
        return FailureCause("node", "its node stopped answering")
    if isinstance(error, ObjectLostError | NodeDiedError | ActorUnschedulableError):
        return FailureCause("node", "its node was lost")
    if isinstance(error, ActorDiedError) and not error.actor_init_failed:
        return _actor_died(error)
    return FailureCause("trial")


def is_alive(node: str) -> bool:
    """Whether Ray knows a node and it is alive."""
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
        return FailureCause("node", "its resources on the cluster were withdrawn", node)
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


# A node that shuts down ends its processes some seconds before it leaves the cluster.
_GRACE_S = 5.0
# After more lost nodes than this, the trial itself probably crashes them.
_MOST_NODES_LOST = 10


class FailureHandler:
    """Decides for each trial that crashed whether it failed or continues from its checkpoint.

    The cause of a dead process is decided after `_GRACE_S`, because its node may be shutting down.

    Args:
        manager: the study.
    """

    def __init__(self, manager: TrialManager) -> None:
        self._manager = manager
        self._nodes_lost: Counter[int] = Counter()
        self._open: dict[int, tuple[float, FailureCause]] = {}

    def __bool__(self) -> bool:
        """Whether the cause of any crash is not decided yet."""
        return bool(self._open)

    def crashed(self, number: int, error: BaseException | None) -> None:
        """Handle the error that ended a trial."""
        cause = failure_cause(error)
        if cause.fault == "trial":
            self._manager.fail(number, error)
        elif cause.fault == "memory":
            self._manager.fail_with(number, cause.why)
        elif cause.fault == "node":
            self._lost(number, cause.why)
        else:
            self._open[number] = (time.monotonic() + _GRACE_S, cause)

    def settle(self) -> None:
        """Decide on the open crashes whose node was lost, or has stayed alive long enough."""
        for number, (until, cause) in list(self._open.items()):
            if cause.node and not is_alive(cause.node):
                self._lost(number, "its node shut down")
            elif time.monotonic() >= until:
                self._manager.fail_with(number, cause.why)
            else:
                continue
            del self._open[number]

    def _lost(self, number: int, why: str) -> None:
        self._nodes_lost[number] += 1
        if self._nodes_lost[number] > _MOST_NODES_LOST:
            self._manager.fail_with(
                number,
                f"{self._nodes_lost[number]} nodes were lost while it ran, the last time {why}; "
                "find out whether the trial crashes its nodes",
            )
        else:
            self._manager.interrupt(number, why)


# Ray Tune writes this file when a run begins.
_THERE = ".validate_storage_marker"


class StorageUnreachable(Exception):
    """A node cannot use the folder of the checkpoints.

    Attributes:
        node: Ray's id of the node.
        name: the node's address.
        why: the error of its file system.
    """

    def __init__(self, node: str, name: str, why: str) -> None:
        super().__init__(node, name, why)
        self.node, self.name, self.why = node, name, why


@dataclass(frozen=True)
class StorageProbe:
    """Checks whether the node of a trial's process can use the folder of the checkpoints.

    Attributes:
        path: the folder of the checkpoints.
        asked: the ids of the nodes that were checked when the study began.
    """

    path: StoragePath
    asked: frozenset[str]

    @classmethod
    def after(cls, path: StoragePath, asked: Iterable[Node]) -> StorageProbe:
        """Return the probe of a study that begins; the nodes `asked` and this node are checked."""
        here = ray.get_runtime_context().get_node_id()
        return cls(path, frozenset({here, *(node.id for node in asked)}))

    def here(self) -> StorageUnreachable | None:
        """Return why this node cannot use the path; None if it can, or was checked before.

        Also None in a process that is not a worker of Ray, such as a further process of a trial.
        The first process of the trial has checked the node. A call of Ray there would start
        another Ray.
        """
        if not ray.is_initialized():
            return None
        node = ray.get_runtime_context().get_node_id()
        if node in self.asked:
            return None
        mine = f".quarterturn-{node}"
        why = why_unusable(self.path, _THERE, mine)
        if why is None:
            self.path.remove(mine)
            return None
        return StorageUnreachable(node, ray.util.get_node_ip_address(), why)


class LateNodes:
    """Excludes the nodes that cannot use the checkpoints; their trials run on other nodes.

    Args:
        manager: the study.
        capacity: the cluster that runs its trials.
        path: the folder of the checkpoints.
    """

    def __init__(self, manager: TrialManager, capacity: ClusterCapacity, path: StoragePath) -> None:
        self._manager = manager
        self._capacity = capacity
        self._path = path
        self._excluded: set[str] = set()

    def take_back(self, number: int, unreachable: StorageUnreachable) -> None:
        """Run a trial on another node; end the study if there is no other node."""
        node = Node(unreachable.name, {}, id=unreachable.node)
        line = refusal(self._path, node, unreachable.why)
        if not self._capacity.exclude(node):
            self._manager.fatal = line
            return
        if node.id not in self._excluded:
            self._excluded.add(node.id)
            self._manager.observer.noted(f"{line}; until then no trial runs there")
        self._manager.interrupt(number, "its node cannot use the checkpoints")
