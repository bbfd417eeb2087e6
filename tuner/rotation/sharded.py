"""Weights of which each process holds a part, as torch's DTensor: FSDP2, tensor parallelism."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether a tensor is spread over processes; one that each of them holds whole may be, too."""
    # Importing it takes a while, and without it nothing can be sharded.
    tensors = sys.modules.get("torch.distributed.tensor")
    return tensors is not None and isinstance(tensor, tensors.DTensor)


def sharded_alike(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a tensor that every process holds whole as it is when spread like `other`.

    Nothing is sent: each process takes its own part. Others come back as they are.
    """
    if is_sharded(tensor) or not is_sharded(other):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    whole = tensor.to(other.device_mesh.device_type)
    # None: do not have one process send the values to the others.
    return distribute_tensor(whole, other.device_mesh, other.placements, src_data_rank=None)


def own_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def over_all_parts(tensors: Sequence[Tensor], sums: Sequence[Tensor]) -> list[Tensor]:
    """Add up sums over the processes' own parts of each tensor: one all-reduce for all of them.

    For tensors that are split in several directions at once it is one for each direction, and none
    for those that are not split. Every process of the tensors' mesh has to take part.
    """
    import torch.distributed

    totals = list(sums)
    together: dict[tuple[object, tuple[int, ...]], list[int]] = {}
    for index, tensor in enumerate(tensors):
        if is_sharded(tensor):
            split = tuple(i for i, place in enumerate(tensor.placements) if place.is_shard())
            together.setdefault((tensor.device_mesh, split), []).append(index)
    for (_, split), indices in together.items():
        first = tensors[indices[0]]
        assert is_sharded(first), "only sharded tensors were put together"
        mesh = first.device_mesh
        stacked = torch.stack([totals[index] for index in indices]).to(mesh.device_type)
        for direction in split:
            torch.distributed.all_reduce(stacked, group=mesh.get_group(direction))
        for index, total in zip(indices, stacked, strict=True):
            totals[index] = total
    return totals
