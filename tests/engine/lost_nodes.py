"""A cluster of several nodes on this host, and trials that say on which of them they run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import ray
from curve_trials import Curve, space
from ray import cloudpickle
from ray.cluster_utils import Cluster

from tuner.engine.callbacks import RunCallback
from tuner.rotation import EpochReport

cloudpickle.register_pickle_by_value(sys.modules[__name__])

# A node that is gone is missed within two seconds instead of fifteen.
_SOON = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


class Step(NamedTuple):
    trial: int
    epoch: int
    time: float
    node: str
    pid: int


class Somewhere(Curve):
    """A curve that appends to its log on which node, and in which process, each epoch ran.

    It saves every epoch. With `dies_at` its process kills itself then, at that epoch. With `nodes`
    its last epoch lasts until trials have run on so many.
    """

    def step(self) -> dict[str, Any]:
        here = (ray.get_runtime_context().get_node_id(), os.getpid())
        with Path(self.config["where"]).open("a") as log:
            log.write(f"{self.number} {self.epoch + 1} {time.time()} {here[0]} {here[1]}\n")
        if self.config.get("dies_at") == self.epoch + 1:
            os.kill(os.getpid(), 9)
        if self.epoch + 1 == self.config["max_epochs"]:
            self._wait_for(self.config.get("nodes", 0))
        return super().step()

    def _wait_for(self, nodes: int) -> None:
        deadline = time.monotonic() + 60
        where = Path(self.config["where"])
        while len({step.node for step in steps(where)}) < nodes and time.monotonic() < deadline:
            time.sleep(0.1)


def somewhere(where: Path, pause_s: float, **fields: Any) -> Callable[..., dict[str, Any]]:
    """Return a search space of such trials."""
    constants = {"where": str(where), "pause_s": pause_s, "saves": True, **fields}
    return lambda trial: {**space(trial), **constants}


def steps(where: Path) -> list[Step]:
    """Return what the trials have logged so far, whole lines only."""
    if not where.exists():
        return []
    lines = [line.split() for line in where.read_text().split("\n")[:-1]]
    return [Step(int(t), int(e), float(at), node, int(pid)) for t, e, at, node, pid in lines]


class Nodes:
    """Nodes of one CPU each, besides a head that runs no trials."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": _SOON}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return self._cluster.address

    def add(self) -> str:
        node = self._cluster.add_node(num_cpus=1)
        self._nodes[node.node_id] = node
        return node.node_id

    def have(self, number: int) -> None:
        """Add nodes until there are so many at least."""
        while len(self._nodes) < number:
            self.add()
        while sum(node["Alive"] for node in ray.nodes()) < number + 1:
            time.sleep(0.1)

    def cut_power(self, node: str) -> None:
        """Kill all its processes at once; Ray's own way leaves the workers to find out."""
        gone = self._nodes.pop(node)
        raylet = psutil.Process(gone.all_processes["raylet"][0].process.pid)
        for process in (raylet, *raylet.children(recursive=True)):
            process.kill()
        self._cluster.remove_node(gone, allow_graceful=False)

    def shut_down(self, node: str, worker: int) -> None:
        """End a worker's process first, as a host's shutdown may, and the node then."""
        os.kill(worker, 15)
        time.sleep(0.5)
        self._cluster.remove_node(self._nodes.pop(node), allow_graceful=True)

    def end(self) -> None:
        self._cluster.shutdown()


class Acting(RunCallback):
    """Does one thing when a trial first reports an epoch; keeps what was noted."""

    def __init__(self, at: tuple[int, float] | None, act: Callable[[], None]) -> None:
        self._at = at
        self._act = act
        self.lines: list[str] = []

    def reported(self, number: int, report: EpochReport) -> None:
        if (number, report.epoch) == self._at:
            self._at = None
            self._act()

    def noted(self, line: str) -> None:
        self.lines.append(line)
