"""Data-parallel training of one model by several processes: each trains on a shard of a batch."""

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


class StepSync:
    """Counts the steps of one process, each of which waits for those of the others.

    Processes that take different numbers of steps would wait for ever. So each hears how many
    another has ended with, in whatever thread, and goes no further.
    """

    def __init__(self) -> None:
        self._taken = 0
        self._most: int | None = None

    @property
    def taken(self) -> int:
        """Steps begun since `restart`."""
        return self._taken

    def restart(self) -> None:
        """Begin to count a part's steps."""
        self._taken, self._most = 0, None

    def begin(self) -> None:
        """Count a step that is about to begin; raise `InvalidInput` if the others have ended."""
        # Counted before it is compared, as `hear` notes before it compares: one of them sees it.
        self._taken += 1
        if self._most is not None and self._taken > self._most:
            raise self.uneven()

    def hear(self, most: int) -> bool:
        """Note that another process has ended with so many; return whether this one is past it."""
        self._most = most
        return self._taken > most

    def uneven(self) -> InvalidInput:
        """Return the error of having taken more steps than another process."""
        return InvalidInput(
            "train_epoch must take as many steps in each process of a trial, got "
            f"{self._most} in one and {self._taken} in another; end it by what is the same in all"
        )


class SharedModel:
    """Has a model's training passes end in DistributedDataParallel, in place.

    The model keeps its class, its parts and the names of its parameters; only its `forward` is
    another until `close`. Passes in evaluation mode, or without gradients, concern one process.

    Every process of the group must make one, after all have built the model; the weights and
    buffers of process 0 then hold in all.
    """

    def __init__(self, model: nn.Module, compiled: bool = False) -> None:
        self.steps = StepSync()
        self._model = model
        self._device = next(model.parameters()).device
        self._send([*model.parameters(), *model.buffers()])
        model.forward = _Forward(
            model, torch.compile(model.forward) if compiled else model.forward, self.steps
        )

    @torch.no_grad()
    def settle(self) -> None:
        """Make all processes hold the same buffers.

        Running statistics of normalised shares become their mean, others are process 0's.
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
        self._send([buffer for buffer in buffers if id(buffer) not in statistics])

    def _average(self, tensors: Sequence[Tensor]) -> None:
        with self._flat(tensors) as messages:
            for message in messages:
                dist.all_reduce(message)
                message /= dist.get_world_size()

    @torch.no_grad()
    def _send(self, tensors: Sequence[Tensor]) -> None:
        """Have all hold the tensors of process 0."""
        with self._flat(tensors) as messages:
            for message in messages:
                dist.broadcast(message.view(torch.uint8), src=0)  # Gloo has no bool

    @contextmanager
    def _flat(self, tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Yield the tensors, those of each dtype in one, from which they are then copied back."""
        alike: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            if tensor.numel() and tensor.device == self._device:
                alike.setdefault(tensor.dtype, []).append(tensor)
        flat = [torch.cat([tensor.flatten() for tensor in some]) for some in alike.values()]
        yield flat
        for some, message in zip(alike.values(), flat, strict=True):
            parts = message.split([tensor.numel() for tensor in some])
            for tensor, part in zip(some, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def close(self) -> None:
        """Give the model its own `forward` back."""
        vars(self._model).pop("forward", None)


def normalised_together(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model with its batch normalisations over whole batches, where the device can.

    On a CPU, torch cannot: there each process normalises its own share.
    """
    if device.type != "cuda":
        return model
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return converted


class _Forward:
    """The `forward` of a shared model: its own, after which gradients are awaited from all."""

    def __init__(self, model: nn.Module, forward: Callable[..., Any], steps: StepSync) -> None:
        self._model = model
        self._forward = forward
        self._steps = steps
        self._parallel: DistributedDataParallel | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self._model.training and torch.is_grad_enabled()):
            return self._forward(*args, **kwargs)
        self._steps.begin()
        output = self._forward(*args, **kwargs)
        if self._parallel is None:
            self._parallel = _parallel(self._model, output)
        try:
            return self._parallel(output)
        except RuntimeError as error:
            if "finished reduction in the prior iteration" not in str(error):
                raise
            raise InvalidInput(
                "each step of a trial on several processes must reach the same parameters, "
                "one of these did not reach some that the first did; use processes=1"
            ) from error

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # A copy of the model, such as a running mean of its weights, is nobody else's.
        return MethodType(type(self._model).forward, memo[id(self._model)])


def _parallel(model: nn.Module, output: Any) -> DistributedDataParallel:
    """Return what exchanges the gradients of the model, given the output of its first pass.

    What that did not reach is no error in one process, so it is none in several; looking for it
    at each step would make a GPU wait.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    reached = _leaves(output)
    leaves_out = torch.tensor(
        float(any(id(parameter) not in reached for parameter in trained)), device=trained[0].device
    )
    dist.all_reduce(leaves_out, dist.ReduceOp.MAX)
    return DistributedDataParallel(
        _Output(trained), find_unused_parameters=bool(leaves_out.item()), init_sync=False
    )


def _leaves(output: Any) -> set[int]:
    """Return the ids of all tensors that gradients of an output reach."""
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


class _Output(nn.Module):
    """Passes a model's output on; it has the parameters, since DistributedDataParallel asks."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.shared = nn.ParameterList(parameters)

    def forward(self, output: Any) -> Any:
        return output


LEAST_SAMPLES = 2
"""Samples of a share; one alone cannot be batch-normalised."""

_SAME = 1e-4
"""Weights of the same steps differ by nothing; those of other steps soon by more than this."""


@dataclass(frozen=True)
class DataShard:
    """One process of those that train a trial together: `rank` in [0, `of`)."""

    rank: int = 0
    of: int = 1

    def take(self, batch: Tensor) -> Tensor:
        """Return this process's samples of a batch, sizes differing by one at most.

        A batch too small for `LEAST_SAMPLES` each is taken whole by every process, which comes to
        the same gradient.
        """
        if self.of == 1 or len(batch) < LEAST_SAMPLES * self.of:
            return batch
        return batch.tensor_split(self.of)[self.rank]

    def weight(self, batch_size: int) -> float:
        """Return what the mean over this share counts in a plain mean over the processes.

        With it, that mean is the one over the batch, whether or not it divides evenly.
        """
        if self.of == 1 or batch_size < LEAST_SAMPLES * self.of:
            return 1.0
        mine = batch_size // self.of + (self.rank < batch_size % self.of)
        return mine * self.of / batch_size


ALONE = DataShard()


@dataclass(frozen=True)
class StepReport:
    """What one process says of the steps that it has taken since the last report."""

    train_loss: float
    samples: int
    norm: float
    """Of all weights together; the same in every process, unless they do not train together."""


def norm_of(model: nn.Module) -> float:
    """Return the norm of all parameters together; NaN if one is not finite."""
    parameters = [parameter.detach() for parameter in model.parameters()]
    norms = torch.stack([norm.double().cpu() for norm in torch._foreach_norm(parameters)])
    return float(norms.norm())


def merged(parts: Sequence[StepReport]) -> tuple[float, int]:
    """Return the mean loss of all processes' parts, and their samples.

    A batch that every process has taken whole counts once for each.

    Raises:
        InvalidInput: their weights differ, so that they have not trained one model.
    """
    first = parts[0]
    for rank, part in enumerate(parts):
        if not (math.isnan(first.norm) and math.isnan(part.norm)) and not math.isclose(
            first.norm, part.norm, rel_tol=_SAME
        ):
            raise InvalidInput(
                f"all {len(parts)} processes of a trial must have the same weights, got norms of "
                f"{first.norm:.6g} in process 0 and {part.norm:.6g} in process {rank}; "
                "in train_epoch, call self.model itself and not its parts"
            )
    samples = sum(part.samples for part in parts)
    if len(parts) == 1 or not samples:
        return sum(part.train_loss for part in parts) / len(parts), samples
    return sum(part.train_loss * part.samples for part in parts) / samples, samples


def check_processes(count: int, gpus: int | None, batch_size: int) -> None:
    """Refuse so many processes for a trial; `gpus` is how many it may use, None on a CPU.

    Raises:
        InvalidInput: there are fewer GPUs, or too few samples in a batch.
    """
    if gpus is not None and count > gpus:
        raise InvalidInput(
            f"processes must be <= {gpus}, the GPUs of the trial, got {count}; "
            f"reserve {count} with gpus_per_trial, or leave processes out for one on each GPU"
        )
    least = LEAST_SAMPLES * count
    if count > 1 and batch_size < least:
        raise InvalidInput(
            f"batch_size must be >= {least}, {LEAST_SAMPLES} samples for each of the {count} "
            f"processes, got {batch_size}; use a larger batch or fewer processes"
        )
