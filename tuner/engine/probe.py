"""What every node of a cluster says of itself: versions, GPUs, and how it sees shared folders."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

PACKAGES = ("ray", "optuna", "torch", "pandas", "pydantic")
# A worker that has to import torch from a cold disk takes a while.
_ANSWERS_WITHIN_S = 120.0


def describe_machine(folder: str, data: str | None, marker: str | None = None) -> dict[str, Any]:
    """Return what this machine has, as plain JSON.

    Args:
        folder: where studies are to be kept.
        data: the folder with the training data, if any.
        marker: the name of a file that another machine has put in `folder`, if any.
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
    """Return what every living node of the connected cluster has, the driver's own first.

    Each is as of `describe_machine`, with `address`, the `ray_gpus` that Ray has counted there, and
    `error` for a node that has not answered.
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
    """Put a file in a folder for other nodes to look for; None if it cannot be written."""
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
    """Return why a folder, or the first above it that is there, cannot be written, or None."""
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
    """Return the GPUs that torch sees by name, and why there are none."""
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
