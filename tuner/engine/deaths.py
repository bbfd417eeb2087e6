"""What ended a trial's process: its own fault, or that of the node it ran on."""

from __future__ import annotations

import re
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

Fault = Literal["trial", "process", "memory", "node"]

# Made when the module is loaded, so that no type checker knows of it.
_NODE_DIED = vars(common_pb2)["ActorDiedErrorContext"].NODE_DIED
_USED = re.compile(r"Selected to kill: \(.*?actual memory used=([\d.]+GB)", re.DOTALL)
_SENTENCE = re.compile(r"Worker exit detail: (.*?[.!])(?:\s|$)", re.DOTALL)


@dataclass(frozen=True)
class Death:
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


def death_of(error: BaseException | None) -> Death:
    """Return what an error that ended a trial says of the process and the node."""
    if isinstance(error, ActorLost):
        error = error.error
    if isinstance(error, RayTaskError) or not isinstance(error, RayError):
        return Death("trial")
    if isinstance(error, OutOfMemoryError):
        return Death("memory", _out_of_memory(str(error)))
    if isinstance(error, ActorUnavailableError):
        return Death("node", "its node stopped answering")
    if isinstance(error, ObjectLostError | NodeDiedError | ActorUnschedulableError):
        return Death("node", "its node went away")
    if isinstance(error, ActorDiedError) and not error.actor_init_failed:
        return _actor_died(error)
    return Death("trial")


def is_alive(node: str) -> bool:
    """Whether a node is in the cluster; one that Ray has forgotten is not."""
    return any(known["Alive"] for known in ray.nodes() if known["NodeID"] == node)


def _actor_died(error: ActorDiedError) -> Death:
    known = cluster.actor_table(error.actor_id) if error.actor_id else {}
    if not known:
        return Death("process", _process_died(str(error)))
    node, cause = known["Address"]["NodeID"], known["DeathCause"]
    if cause.HasField("oom_context"):
        return Death("memory", _out_of_memory(cause.oom_context.error_message), node)
    context = cause.actor_died_error_context
    if error.preempted:
        return Death("node", "its node was preempted", node)
    if context.reason == _NODE_DIED:
        reason = context.node_death_info.reason_message
        return Death("node", f"its node died ({reason})" if reason else "its node died", node)
    if "placement group was removed" in context.error_message:
        return Death("node", "its place on the cluster was taken away", node)
    where = f"process {known['Pid']} on {known['Address']['IPAddress']}"
    return Death("process", _process_died(context.error_message, where), node)


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
        "(--max-concurrent, or more of --cpus-per-trial), or smaller ones"
    )
