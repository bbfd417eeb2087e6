"""Where a trial fits: which nodes can take it, how many at a time, and why none can."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

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
        name: its address, or the name of its kind.
        resources: what it has in all, by Ray's names: CPU, GPU, memory (in bytes), others.
        labels: what it is, such as ``ray.io/accelerator-type``.
        id: Ray's own; empty for a node that is not up.
    """

    name: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True)
class Reservation:
    """What one trial reserves of one node.

    Attributes:
        resources: amounts > 0 by Ray's names; memory in bytes.
        labels: what the node's labels must be; a value may also be ``!value``, ``in(a,b)`` or
            ``!in(a,b)``, as Ray has it.
    """

    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " and ".join(_amount(name, asked) for name, asked in self.resources.items())


def fitting(asked: Reservation, node: Node) -> int:
    """Return how many such trials fit at a time on a node that has nothing else to do."""
    if not _matches(asked, node):
        return 0
    return min(
        _times(name, node.resources.get(name, 0.0), amount)
        for name, amount in asked.resources.items()
    )


def slots(asked: Reservation, nodes: Sequence[Node]) -> int:
    """Return how many such trials fit on the nodes together, each trial on one of them."""
    return sum(fitting(asked, node) for node in nodes)


def misfit(asked: Reservation, nodes: Sequence[Node]) -> str | None:
    """Return one line that says why no node can take such a trial; None if one can."""
    if slots(asked, nodes):
        return None
    matching = [node for node in nodes if _matches(asked, node)]
    if not matching:
        wanted = ", ".join(f"{key}={value}" for key, value in asked.labels.items())
        return (
            f"--node-label must be a label that some node has, got {wanted}; there are "
            f"{_listed(nodes, _labels)}; choose another, or label a node"
        )
    there = _listed(matching, partial(_resources, asked=asked))
    for name, amount in asked.resources.items():
        most = max(matching, key=lambda node: _times(name, node.resources.get(name, 0.0), amount))
        if not _times(name, most.resources.get(name, 0.0), amount):
            option = _OPTIONS.get(name, f"--resource-per-trial {name}=")
            largest = max(node.resources.get(name, 0.0) for node in matching)
            return (
                f"{option} must be at most the {_amount(name, largest)} that one node has, got "
                f"{_figure(name, amount)}; there are {there}; ask for less, or run on larger nodes"
            )
    return (
        f"a trial must fit on one node, got {asked}; there are {there}; ask for less, or run on "
        "larger nodes"
    )


def _times(name: str, there: float, amount: float) -> int:
    if name == "GPU" and amount < 1:  # a fraction is of one GPU, never of two
        return int(there + _ROUNDING) * int(1 / amount + _ROUNDING)
    return int(there / amount + _ROUNDING)


def _matches(asked: Reservation, node: Node) -> bool:
    return all(_meets(node.labels.get(key), wanted) for key, wanted in asked.labels.items())


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
    told = [f"{key}={value}" for key, value in sorted(node.labels.items()) if "node-id" not in key]
    return " ".join(told) or "no labels"


def _resources(node: Node, asked: Reservation) -> str:
    return " ".join(_amount(name, node.resources.get(name, 0.0)) for name in asked.resources)


def _amount(name: str, amount: float) -> str:
    if name == "memory":
        return f"{_figure(name, amount)} GB"
    return f"{amount:g} {name}{'s' if name in ('CPU', 'GPU') and amount != 1 else ''}"


def _figure(name: str, amount: float) -> str:
    return f"{amount / GB:.3g}" if name == "memory" else f"{amount:g}"
