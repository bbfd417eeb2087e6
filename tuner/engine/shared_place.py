"""Whether every node that may run trials sees the place where checkpoints are kept."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuner.engine.placement import Node
from tuner.errors import InvalidInput
from tuner.study.places import Place, unusable

# A node's first task starts a process there, and imports what this module imports.
_ANSWER_WITHIN_S = 60.0


def check_shared(place: Place, nodes: Sequence[Node], within_s: float = _ANSWER_WITHIN_S) -> None:
    """Have every node read what this process writes in a place, and write there itself.

    Ray would find out at the first checkpoint of each trial. Nodes that join later are asked by the
    first trial there (`late_nodes`).

    Args:
        place: exists, and can be written from here.
        nodes: those that may run trials; with one, or in a cluster of one, there is nothing to ask.
        within_s: seconds for all answers together.

    Raises:
        InvalidInput: a node does not see the place, cannot write there or does not answer.
    """
    if len(ray.nodes()) < 2:
        return
    name = f".quarterturn-{uuid.uuid4().hex}"
    written = [f"{name}-{index}" for index in range(len(nodes))]
    try:
        place.write(name, b"seen")
        answers = [
            _ask.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
            ).remote(place, name, mine)
            for node, mine in zip(nodes, written, strict=True)
        ]
        ready, _ = ray.wait(answers, num_returns=len(answers), timeout=within_s)
        for node, answer, mine in zip(nodes, answers, written, strict=True):
            why = _problem(answer) if answer in ready else f"no answer within {within_s:g} s"
            if why is None and not _is_there(place, mine):
                why = "it sees another folder of that name"
            if why is not None:
                raise refusal(place, node, why)
    except OSError as error:
        raise unusable(place, error) from error
    finally:
        for marker in (name, *written):
            place.remove(marker)


@ray.remote(num_cpus=0, max_retries=0)
def _ask(place: Place, name: str, mine: str) -> str | None:
    return why_unusable(place, name, mine)


def why_unusable(place: Place, name: str, mine: str) -> str | None:
    """Return why this node cannot use the place; None if it can.

    Args:
        name: of a file that another node has written there.
        mine: of one that is written.
    """
    try:
        place.read(name)
        place.write(mine, b"seen")
    except OSError as error:
        return error.strerror or str(error)
    return None


def _problem(answer: Any) -> str | None:
    try:
        said: str | None = ray.get(answer)
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no message'}"
    return said


def _is_there(place: Place, name: str) -> bool:
    try:
        place.read(name)
    except FileNotFoundError:
        return False
    return True


def refusal(place: Place, node: Node, why: str) -> InvalidInput:
    """Return the line that a node cannot use a place."""
    if place.is_local:
        return InvalidInput(
            f"checkpoints must be in a folder that every node sees, got {str(place)!r}, which "
            f"{node.name} cannot use ({why}); mount one or use --checkpoints s3://..."
        )
    return InvalidInput(
        f"checkpoints must be in a place that every node can read and write, got {str(place)!r}, "
        f"which {node.name} cannot use ({why}); give the nodes a role or the credentials"
    )
