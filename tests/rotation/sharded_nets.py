"""What each of several processes does to measure a net of which it holds a part."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from tuner.rotation import RotationMonitor

STEPS = 20


def make_net() -> nn.Sequential:
    """A net whose first layer does not divide by two, and whose last has less rows than ranks."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 1, bias=False)
    )


def train(net: nn.Module) -> None:
    """Take some steps, on the same batches wherever it is called."""
    data = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(STEPS):
        inputs = torch.randn(16, 6, generator=data)
        loss = (net(inputs) - inputs[:, :1].sin()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def measured(monitor: RotationMonitor) -> dict[str, Any]:
    return {"distances": monitor.measure(), "norms": monitor.norm_ratios()}


def split(net: nn.Sequential, how: str) -> None:
    """Spread a net over the processes in one of the ways that torch has."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    ranks = dist.get_world_size()
    if how == "tensor parallel":
        mesh = init_device_mesh("cpu", (ranks,))
        parallelize_module(net, mesh, {"2": ColwiseParallel(), "4": RowwiseParallel()})
        return
    shapes = {"sharded": (ranks,), "sharded in one group": (1, ranks), "replicated": (ranks, 1)}
    names = ("replicas", "shards") if how != "sharded" else ("shards",)
    mesh = init_device_mesh("cpu", shapes[how], mesh_dim_names=names)
    for layer in net:
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)


def measure_split(how: str) -> dict[str, Any]:
    net = make_net()
    early = RotationMonitor(net)  # whole, and measured when it no longer is
    split(net, how)
    monitor = RotationMonitor(net)
    train(net)
    result = {"after": measured(monitor), "early": measured(early)}
    with torch.no_grad():
        net(torch.ones(1, 6)).item()  # leaves the root's own weights gathered
    result["gathered"] = measured(monitor)
    again = RotationMonitor(net)
    again.load_state_dict(monitor.state_dict())
    result["loaded"] = measured(again)
    whole = RotationMonitor(make_net())
    again.load_state_dict(whole.state_dict())
    result["loaded whole"] = measured(again)
    return result


def in_process(rank: int, ranks: int, folder: str, job: Callable[..., Any], *given: Any) -> None:
    """Be one of several processes that do a job together, and write down what it returns."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks
    )
    try:
        Path(folder, f"{rank}.json").write_text(json.dumps(job(*given)))
    finally:
        dist.destroy_process_group()
    os._exit(0)  # Gloo's threads may abort a process that lets the interpreter end itself.
