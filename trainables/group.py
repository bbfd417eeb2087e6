"""The group of a trial's processes: how they find each other, and how they part."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from trainables.share import Share

_MEETS_WITHIN = timedelta(seconds=120)


def join(meeting_place: str, share: Share, device: torch.device) -> None:
    """Join the trial's group: NCCL on GPUs, Gloo on CPUs; returns when all have.

    They meet at a file, which no other trial can take from them as it could a port.
    """
    # All are on one machine, which may not know itself by its own name.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    store = dist.FileStore(str(Path(meeting_place)), share.of)  # type: ignore[attr-defined]
    store.set_timeout(_MEETS_WITHIN)
    backend, own = "gloo", None
    if device.type == "cuda":
        backend, own = "nccl", torch.device("cuda", share.rank)
        torch.cuda.set_device(own)
        # Torch would end this process when another fails, and so before it could say why.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    dist.init_process_group(
        backend, store=store, rank=share.rank, world_size=share.of, device_id=own
    )


def leave() -> None:
    """Leave the group, if this process is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def abort() -> None:
    """End what this process waits for in the group, whose other processes are dead.

    Gloo sees their connections close; NCCL waits for them in a kernel on the GPU.
    """
    if dist.is_initialized() and dist.get_backend() == "nccl":
        dist.group.WORLD.abort()  # type: ignore[union-attr]
