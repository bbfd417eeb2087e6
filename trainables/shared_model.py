"""A model that several processes train as one, and that stays what it was to whoever uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves

from tuner.errors import InvalidInput


class Lockstep:
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
        self.steps = Lockstep()
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

    def __init__(self, model: nn.Module, forward: Callable[..., Any], steps: Lockstep) -> None:
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
