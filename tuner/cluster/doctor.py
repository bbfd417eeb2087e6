"""Check a machine or every node of a cluster for common faults, each with its remedy."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.text import Text

from tuner.cluster.job_client import JobServer, find_token
from tuner.cluster.remote_read import ask

Machine = Mapping[str, Any]
"""The description of a machine, as of `describe_machine`."""

State = Literal["ok", "note", "wrong"]
_SIGNS: dict[State, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "note": ("note", "yellow"),
    "wrong": ("WRONG", "red"),
}
_PYTHONS = ("3.11", "3.12")
# Two checkpoints per trial of a large network soon take this much.
_FEW_GB = 5.0


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        where: the machine, or "cluster".
        state: "ok", "note" for a hint, or "wrong" for a fault.
        said: the observation.
        remedy: how to correct it; empty if there is nothing to do.
    """

    where: str
    state: State
    said: str
    remedy: str = ""


def examine(server: JobServer, folder: str, data: str | None) -> list[Machine]:
    """Return the descriptions of a cluster's nodes, the head first.

    Args:
        server: the job server of the cluster.
        folder: the folder of studies on the cluster; empty for the cluster's own.
        data: the folder with the training data there, if any.

    Raises:
        InvalidInput: the cluster cannot run this package; the message has the reason.
    """
    said = ask(server, ["examine", *([f"--data={data}"] if data else [])], folder)
    line = next(line for line in said.splitlines() if line.startswith("[{"))
    nodes: list[Machine] = json.loads(line)
    return nodes


def check_here(machine: Machine, *, runs_trials: bool = True) -> list[Check]:
    """Check the local machine.

    Args:
        machine: the description of the machine.
        runs_trials: whether trials run on it; false if it only submits to a cluster.
    """
    return [
        *_check_versions(machine, "here"),
        *(_check_room(machine, "here") if runs_trials else ()),
        *_check_token_file(),
    ]


def check_cluster(here: Machine, nodes: Sequence[Machine], open_to_all: bool) -> list[Check]:
    """Check each node of a cluster, and compare the nodes with each other and with this machine.

    Args:
        here: the description of the machine that submits jobs.
        nodes: the descriptions of the cluster's nodes, the head first.
        open_to_all: whether the cluster's job server answers without a token.
    """
    return [
        _check_token_asked(open_to_all),
        *(check for node in nodes for check in _check_node(node)),
        *_check_alike(here, nodes),
        *_check_shared(nodes),
    ]


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """Print a line for each check, with its remedy if there is one."""
    width = max(len(check.where) for check in checks)
    for check in checks:
        word, colour = _SIGNS[check.state]
        remedy = f"; {check.remedy}" if check.remedy else ""
        console.print(
            Text(f"{word:<5}", style=colour),
            Text(f"{check.where:<{width}}  {check.said}{remedy}"),
            soft_wrap=True,
        )


def _check_versions(machine: Machine, where: str) -> Iterator[Check]:
    packages: Mapping[str, str | None] = machine["packages"]
    known = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    python: str = machine["python"]
    if not python.startswith(_PYTHONS):
        yield Check(where, "wrong", f"Python is {python}", f"install {' or '.join(_PYTHONS)}")
    if missing := [name for name, version in packages.items() if not version]:
        yield Check(where, "wrong", f"no {', '.join(missing)}", "pip install quarterturn there")
    yield Check(where, "ok", f"Python {python}, {known}")


def _check_room(machine: Machine, where: str) -> Iterator[Check]:
    """Check what trials need: GPUs, a folder that can be written, the data."""
    gpus: list[str] = machine["gpus"]
    if gpus:
        yield Check(where, "ok", f"{len(gpus)} GPUs: {', '.join(sorted(set(gpus)))}")
    elif machine["why_no_gpu"]:
        yield Check(
            where,
            "note",
            f"no GPU: {machine['why_no_gpu']}",
            "if it has one, update its driver or torch (nvidia-smi)",
        )
    else:
        yield Check(where, "note", "no GPU; trials run on CPUs")
    if machine["cannot_write"]:
        yield Check(
            where,
            "wrong",
            f"{machine['folder']} cannot be written ({machine['cannot_write']})",
            "correct its permissions, or choose another --folder",
        )
    elif machine["free_gb"] < _FEW_GB:
        yield Check(
            where,
            "wrong",
            f"{machine['folder']} has {machine['free_gb']:g} GB left",
            "free space for checkpoints",
        )
    else:
        yield Check(where, "ok", f"{machine['folder']} can be written")
    if machine["sees_data"] is False:
        yield Check(
            where, "wrong", f"{machine['data']} is not there", "mount or copy the data there"
        )
    elif machine["sees_data"]:
        yield Check(where, "ok", f"{machine['data']} is there")


def _check_node(node: Machine) -> Iterator[Check]:
    where = (
        f"{node['host']} ({node['address']})" if node["host"] != node["address"] else node["host"]
    )
    if "error" in node:
        yield Check(where, "wrong", node["error"], "look at `ray status` and the node's own logs")
        return
    yield from _check_versions(node, where)
    yield from _check_room(node, where)
    if node["ray_gpus"] != len(node["gpus"]):
        yield Check(
            where,
            "wrong",
            f"Ray counts {node['ray_gpus']:g} GPUs, torch sees {len(node['gpus'])}",
            "start Ray there with the driver loaded, or with --num-gpus",
        )


def _check_alike(here: Machine, nodes: Sequence[Machine]) -> Iterator[Check]:
    """Check that all nodes have the same versions of Ray and torch, and of Python's minor."""
    head, *others = nodes
    if "error" in head:
        return
    for node in others:
        if "error" in node:
            continue
        for name, mine, its in (
            ("Python", _minor(head["python"]), _minor(node["python"])),
            ("ray", head["packages"]["ray"], node["packages"]["ray"]),
            ("torch", head["packages"]["torch"], node["packages"]["torch"]),
        ):
            if mine != its:
                yield Check(
                    node["host"],
                    "wrong",
                    f"{name} is {its}, on the head {mine}",
                    "install the same on every node",
                )
    if _minor(here["python"]) != _minor(head["python"]):
        yield Check(
            "here",
            "note",
            f"Python is {_minor(here['python'])}, on the head {_minor(head['python'])}",
            "submit job files; tuner.submit(job) needs the same",
        )


def _check_shared(nodes: Sequence[Machine]) -> Iterator[Check]:
    if len(nodes) < 2:
        return
    blind = [node["host"] for node in nodes if node.get("sees_marker") is False]
    folder = nodes[0].get("folder")
    if blind:
        yield Check(
            "cluster",
            "wrong",
            f"{folder} on {', '.join(blind)} is not the head's",
            "choose a --folder on storage that every node mounts, or --checkpoints s3://...",
        )
    elif all(node.get("sees_marker") for node in nodes):
        yield Check("cluster", "ok", f"{folder} is the same on all {len(nodes)} nodes")


def _check_token_asked(open_to_all: bool) -> Check:
    if open_to_all:
        return Check(
            "cluster",
            "wrong",
            "its job server needs no token: everyone who can reach it can run code there",
            "start Ray with RAY_AUTH_MODE=token and a token file on every node",
        )
    return Check("cluster", "ok", "its job server refuses requests without a token")


def _check_token_file() -> Iterator[Check]:
    if os.environ.get("RAY_AUTH_TOKEN", "").strip():
        yield Check("here", "ok", "the cluster's token is in RAY_AUTH_TOKEN")
        return
    if find_token() is None:
        yield Check(
            "here",
            "note",
            "no token for a cluster",
            "copy the head's (`ray get-auth-token`) to ~/.ray/auth_token, mode 600",
        )
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Check("here", "wrong", f"others can read the token in {path}", f"chmod 600 {path}")
    else:
        yield Check("here", "ok", f"a token for a cluster is in {path}")


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


PACKAGES = ("ray", "optuna", "torch", "pandas", "pydantic")
# A worker that imports torch from a cold disk takes long.
_ANSWERS_WITHIN_S = 120.0


def describe_machine(folder: str, data: str | None, marker: str | None = None) -> dict[str, Any]:
    """Return a description of this machine, as plain JSON.

    Args:
        folder: the folder of studies.
        data: the folder with the training data, if any.
        marker: the name of a file that another machine has written to `folder`, if any.
    """
    root = Path(folder).expanduser()
    gpus, why_none = _gpus()
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpus": os.cpu_count(),
        "gpus": gpus,
        "why_no_gpu": why_none,
        "folder": str(root),
        "cannot_write": _cannot_write(root),
        "sees_marker": None if marker is None else (root / marker).exists(),
        "free_gb": _free_gb(root),
        "data": data,
        "sees_data": None if data is None else Path(data).expanduser().is_dir(),
    }


def describe_nodes(folder: str, data: str | None) -> list[dict[str, Any]]:
    """Return a description of every node of the connected cluster, the driver's own first.

    Each is as of `describe_machine`, with two more keys: `address`, and `ray_gpus`, Ray's count of
    GPUs. A node that has not answered has the key `error` instead.

    Args:
        folder: the folder of studies.
        data: the folder with the training data, if any.
    """
    with _marker(Path(folder).expanduser()) as marker:
        describe = ray.remote(num_cpus=0, max_retries=0)(describe_machine)
        mine = ray.get_runtime_context().get_node_id()
        nodes = sorted(
            (node for node in ray.nodes() if node["Alive"]),
            key=lambda node: (node["NodeID"] != mine, node["NodeManagerAddress"]),
        )
        asked = {
            node["NodeID"]: describe.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(folder, data, marker)
            for node in nodes
        }
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=_ANSWERS_WITHIN_S)
        return [
            {
                "host": node["NodeManagerHostname"],
                "address": node["NodeManagerAddress"],
                "ray_gpus": node["Resources"].get("GPU", 0),
                **_answer(asked[node["NodeID"]]),
            }
            for node in nodes
        ]


def _answer(asked: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = ray.get(asked, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return {"error": f"it has not answered within {_ANSWERS_WITHIN_S:g} s"}
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines()
        return {"error": lines[-1] if lines else type(error).__name__}
    return found


@contextmanager
def _marker(root: Path) -> Iterator[str | None]:
    """Write a file that other nodes look for, and yield its name; None if that fails."""
    name = f".seen-{uuid.uuid4().hex}"
    new = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    except OSError:
        yield None
        return
    try:
        yield name
    finally:
        (root / name).unlink(missing_ok=True)
        if new and not any(root.iterdir()):
            root.rmdir()


def _cannot_write(root: Path) -> str | None:
    """Return why the folder, or its closest existing parent, cannot be written; None if it can."""
    there = _first_there(root)
    probe = there / f".write-{uuid.uuid4().hex}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _first_there(root: Path) -> Path:
    return next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())


def _free_gb(root: Path) -> float:
    return round(shutil.disk_usage(_first_there(root)).free / 1e9, 1)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gpus() -> tuple[list[str], str | None]:
    """Return the names of the GPUs that torch sees; if none, also the reason, if known."""
    import warnings

    try:
        import torch
    except ImportError as error:
        return [], f"torch cannot be imported: {error}"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        torch.cuda.is_available()
    if names:
        return names, None
    if not torch.version.cuda:
        return [], f"torch {torch.__version__} is built without CUDA"
    return [], str(said[0].message).splitlines()[0] if said else None
