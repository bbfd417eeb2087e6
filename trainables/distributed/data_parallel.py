"""Data-parallel training of one model in several processes: each trains on a shard of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves

from tuner.errors import InvalidInput

MIN_SHARD_SAMPLES = 2
"""Samples of a shard; a single sample cannot be batch-normalised."""

_SAME_NORM = 1e-4
"""Relative difference of the weights' norms. After the same steps it is 0; after different steps
it soon exceeds this value."""


@dataclass(frozen=True)
class DataShard:
    """The samples of a batch that one process trains on.

    Args:
        rank: the rank of the process, in [0, world_size).
        world_size: the number of processes that train the trial together, >= 1.

    Example:
        >>> DataShard(rank=1, world_size=2).select(torch.arange(6))
        tensor([3, 4, 5])
    """

    rank: int = 0
    world_size: int = 1

    def select(self, batch: Tensor) -> Tensor:
        """Return this process's samples of a batch.

        The sizes of two shards differ by one sample at most. If a shard would have fewer samples
        than `MIN_SHARD_SAMPLES`, every process gets the whole batch: the gradient is the same.
        """
        if self.world_size == 1 or len(batch) < MIN_SHARD_SAMPLES * self.world_size:
            return batch
        return batch.tensor_split(self.world_size)[self.rank]

    def weight(self, batch_size: int) -> float:
        """Return the factor of this shard's mean loss.

        With this factor, the mean over the processes is the mean over the batch, even if the shards
        differ in size.
        """
        if self.world_size == 1 or batch_size < MIN_SHARD_SAMPLES * self.world_size:
            return 1.0
        own = batch_size // self.world_size + (self.rank < batch_size % self.world_size)
        return own * self.world_size / batch_size


SINGLE_PROCESS = DataShard()
"""The shard of a trial that one process trains: whole batches."""


class StepSync:
    """Counts the training steps of one process and stops it when another has fewer.

    The processes wait for each other in every step. A process that takes more steps than another
    would wait forever. So each process learns the other's number when that process has finished.
    """

    def __init__(self) -> None:
        self._count = 0
        self._limit: int | None = None

    @property
    def count(self) -> int:
        """Steps begun since `reset`."""
        return self._count

    def reset(self) -> None:
        """Count from 0 again, without a limit."""
        self._count, self._limit = 0, None

    def begin_step(self) -> None:
        """Count a step that is about to begin.

        Raises:
            InvalidInput: another process has finished with fewer steps.
        """
        # `set_limit` runs in another thread. This counts before it compares, and `set_limit` writes
        # before it compares, so that one of the two always sees the excess.
        self._count += 1
        if self._limit is not None and self._count > self._limit:
            raise self.error()

    def set_limit(self, limit: int) -> bool:
        """Set the number of steps of a finished process; return whether this one has more."""
        self._limit = limit
        return self._count > limit

    def error(self) -> InvalidInput:
        """Return the error of a process that takes more steps than another."""
        return InvalidInput(
            "train_epoch must take the same number of steps in each process of a trial, got "
            f"{self._limit} and {self._count}; end it by a condition that is the same in all"
        )


class DataParallelModel:
    """Averages the gradients of a model over all processes, in place.

    The model keeps its class, its modules and the names of its parameters. Only its `forward` is
    replaced until `detach`. A pass in evaluation mode or without gradients stays in one process.

    Every process of the group must create one at the same time, after it has built the model. All
    models then have the weights and buffers of the process of rank 0.

    Args:
        model: the model.
        steps: the step counter of this process.
        compiled: whether to compile `forward`.
    """

    def __init__(self, model: nn.Module, steps: StepSync, compiled: bool = False) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._broadcast([*model.parameters(), *model.buffers()])
        forward = torch.compile(model.forward) if compiled else model.forward
        model.forward = _SynchronisedForward(model, forward, steps)

    @torch.no_grad()
    def sync_buffers(self) -> None:
        """Give all processes the same buffers.

        Running statistics of batch normalisation become the mean over the processes. Other buffers
        become those of rank 0.
        """
        statistics = {
            id(buffer)
            for module in self._model.modules()
            if isinstance(module, _NormBase)
            for buffer in module.buffers(recurse=False)
            if buffer.is_floating_point()
        }
        buffers = list(self._model.buffers())
        self._average([buffer for buffer in buffers if id(buffer) in statistics])
        self._broadcast([buffer for buffer in buffers if id(buffer) not in statistics])

    def _average(self, tensors: Sequence[Tensor]) -> None:
        with self._flattened(tensors) as messages:
            for message in messages:
                dist.all_reduce(message)
                message /= dist.get_world_size()

    @torch.no_grad()
    def _broadcast(self, tensors: Sequence[Tensor]) -> None:
        with self._flattened(tensors) as messages:
            for message in messages:
                dist.broadcast(message.view(torch.uint8), src=0)  # Gloo has no bool

    @contextmanager
    def _flattened(self, tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Yield one flat tensor for each dtype; copy it back into the tensors at the end."""
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            if tensor.numel() and tensor.device == self._device:
                by_dtype.setdefault(tensor.dtype, []).append(tensor)
        flat = [torch.cat([tensor.flatten() for tensor in group]) for group in by_dtype.values()]
        yield flat
        for group, message in zip(by_dtype.values(), flat, strict=True):
            pieces = message.split([tensor.numel() for tensor in group])
            for tensor, piece in zip(group, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))

    def detach(self) -> None:
        """Give the model its own `forward` back."""
        vars(self._model).pop("forward", None)


def with_sync_batchnorm(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model with batch normalisation over the whole batch, if the device supports it.

    Torch supports it on GPUs only. On a CPU each process normalises its own shard.
    """
    if device.type != "cuda":
        return model
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return converted


class _SynchronisedForward:
    """Replaces a model's `forward`; the backward pass then averages the gradients."""

    def __init__(self, model: nn.Module, forward: Callable[..., Any], steps: StepSync) -> None:
        self._model = model
        self._forward = forward
        self._steps = steps
        self._parallel: DistributedDataParallel | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self._model.training and torch.is_grad_enabled()):
            return self._forward(*args, **kwargs)
        self._steps.begin_step()
        output = self._forward(*args, **kwargs)
        if self._parallel is None:
            self._parallel = _data_parallel(self._model, output)
        try:
            return self._parallel(output)
        except RuntimeError as error:
            if "finished reduction in the prior iteration" not in str(error):
                raise
            raise InvalidInput(
                "each step of a trial on several processes must reach the same parameters, "
                "a later step did not reach all parameters of the first step; use processes=1"
            ) from error

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # A copy of the model, such as a running mean of its weights, is not synchronised.
        return MethodType(type(self._model).forward, memo[id(self._model)])


def _data_parallel(model: nn.Module, output: Any) -> DistributedDataParallel:
    """Return the module that averages a model's gradients, given the output of its first pass.

    One process allows parameters without a gradient, and so do several. Torch looks for them only
    if the first pass has some: the search makes a GPU wait in every step.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    reached = _leaves(output)
    unused = torch.tensor(
        float(any(id(parameter) not in reached for parameter in trained)), device=trained[0].device
    )
    dist.all_reduce(unused, dist.ReduceOp.MAX)
    return DistributedDataParallel(
        _Identity(trained), find_unused_parameters=bool(unused.item()), init_sync=False
    )


def _leaves(output: Any) -> set[int]:
    """Return the ids of all tensors that the gradients of an output reach."""
    found = {id(leaf) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)}
    nodes = [leaf.grad_fn for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        if (leaf := getattr(node, "variable", None)) is not None:
            found.add(id(leaf))
        following = {following for following, _ in node.next_functions} - seen
        seen |= following
        nodes += following
    return found


class _Identity(nn.Module):
    """Returns its input; it holds the parameters that DistributedDataParallel is to average."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.averaged = nn.ParameterList(parameters)

    def forward(self, output: Any) -> Any:
        return output


@dataclass(frozen=True)
class StepReport:
    """The loss and the samples of one process since the last report, and its weights' norm."""

    train_loss: float
    """Mean over the samples."""
    samples: int
    norm: float
    """Norm of all weights; the same in every process that trains the same model."""


def weight_norm(model: nn.Module) -> float:
    """Return the norm of all parameters together; NaN if one of them is not finite."""
    parameters = [parameter.detach() for parameter in model.parameters()]
    norms = torch.stack([norm.double().cpu() for norm in torch._foreach_norm(parameters)])
    return float(norms.norm())


def merge_reports(reports: Sequence[StepReport]) -> tuple[float, int]:
    """Return the mean loss and the number of samples of all processes.

    A batch that every process has trained on counts once for each.

    Raises:
        InvalidInput: the weights of two processes differ, so that they train different models.
    """
    first = reports[0]
    for rank, report in enumerate(reports):
        if not (math.isnan(first.norm) and math.isnan(report.norm)) and not math.isclose(
            first.norm, report.norm, rel_tol=_SAME_NORM
        ):
            raise InvalidInput(
                f"all {len(reports)} processes of a trial must have the same weights, got norms of "
                f"{first.norm:.6g} in process 0 and {report.norm:.6g} in process {rank}; "
                "in train_epoch, call self.model itself and not its parts"
            )
    samples = sum(report.samples for report in reports)
    if len(reports) == 1 or not samples:
        return sum(report.train_loss for report in reports) / len(reports), samples
    return sum(report.train_loss * report.samples for report in reports) / samples, samples


def check_processes(count: int, gpus: int | None, batch_size: int) -> None:
    """Check the number of processes of a trial.

    Args:
        count: processes, >= 1.
        gpus: GPUs that the trial may use, or None on a CPU.
        batch_size: samples of a batch.

    Raises:
        InvalidInput: there are fewer GPUs than processes, or too few samples in a batch.
    """
    if gpus is not None and count > gpus:
        raise InvalidInput(
            f"processes must be <= {gpus}, the GPUs of the trial, got {count}; "
            f"reserve {count} with gpus_per_trial, or leave processes out for one on each GPU"
        )
    minimum = MIN_SHARD_SAMPLES * count
    if count > 1 and batch_size < minimum:
        raise InvalidInput(
            f"batch_size must be >= {minimum}, {MIN_SHARD_SAMPLES} samples for each of the {count} "
            f"processes, got {batch_size}; use a larger batch or fewer processes"
        )
