"""RotationMonitor: how far each layer of a model has turned since its initialisation."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

from tuner.errors import InvalidInput
from tuner.rotation.layers import named_parameters, rotating_parameters

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether a tensor is a DTensor, which is split or replicated over processes."""
    # The import is slow. If the module is not imported, no tensor can be a DTensor.
    tensors = sys.modules.get("torch.distributed.tensor")
    return tensors is not None and isinstance(tensor, tensors.DTensor)


def sharded_alike(tensor: Tensor, other: Tensor) -> Tensor:
    """Shard a tensor that every process holds whole, in the way in which `other` is sharded.

    No process sends data: each takes its own part of the tensor. If the tensor is sharded already,
    or `other` is not, the tensor is returned unchanged.

    Args:
        tensor: the tensor to shard.
        other: a tensor of the same shape, sharded or not.
    """
    if is_sharded(tensor) or not is_sharded(other):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    whole = tensor.to(other.device_mesh.device_type)
    # By default one process would send the values to the others. None avoids that.
    return distribute_tensor(whole, other.device_mesh, other.placements, src_data_rank=None)


def own_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds; all of a tensor that is not sharded."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def over_all_parts(tensors: Sequence[Tensor], sums: Sequence[Tensor]) -> list[Tensor]:
    """Return the sums over whole tensors, from the sums over the part that each process holds.

    All tensors that are split in the same way share one all-reduce for each mesh dimension in which
    they are split. Tensors that are not split need none. Every process of the tensors' mesh must
    call this function.

    Args:
        tensors: the tensors, sharded or not.
        sums: for each tensor, this process's sums over its part.
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


# The number of elements that are converted to double at a time. On a CPU a chunk should fit into
# the cache. Two products of 20 million weights took 0.04 s with 2^16, and 0.1 to 0.5 s with 2^18
# to 2^24 (2 cores). On other devices each chunk costs kernel launches; 2^24 limits the copies to
# 256 MiB.
_CPU_CHUNK = 2**16
_DEVICE_CHUNK = 2**24


@torch.no_grad()
def moments(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[float, float]]:
    """Return `(<w, w0>, <w, w>)` for each pair `(w, w0)` of tensors of equal shape.

    The sums are in double precision, on the device of `w`. Apple's mps has no double; there they
    are in single precision. One transfer fetches all sums of a device, so a GPU waits once and not
    once per layer. Weights that are not finite give sums that are not finite. For tensors that are
    sharded over processes the sums are over the whole tensors.
    """
    alike = [(sharded_alike(w, w0), sharded_alike(w0, w)) for w, w0 in pairs]
    own = [_sums(own_part(weight), own_part(initial)) for weight, initial in alike]
    sums = over_all_parts([weight for weight, _ in alike], own)
    places: dict[torch.device, list[int]] = {}
    for index, pair_sums in enumerate(sums):
        places.setdefault(pair_sums.device, []).append(index)
    result = [(0.0, 0.0)] * len(sums)
    for indices in places.values():
        fetched = torch.stack([sums[index] for index in indices]).tolist()
        for index, (with_initial, with_itself) in zip(indices, fetched, strict=True):
            result[index] = (with_initial, with_itself)
    return result


def _sums(weight: Tensor, initial: Tensor) -> Tensor:
    device = weight.device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    size = _CPU_CHUNK if device.type == "cpu" else _DEVICE_CHUNK
    total = torch.zeros(2, dtype=dtype, device=device)
    # reshape keeps the logical order, so the two tensors may differ in memory format.
    parts = torch.split(weight.reshape(-1), size)
    initial_parts = torch.split(initial.reshape(-1), size)
    for part, initial_part in zip(parts, initial_parts, strict=True):
        now, then = part.to(dtype), initial_part.to(device).to(dtype)
        total += torch.stack([torch.dot(now, then), torch.dot(now, now)])
    return total


class RotationMonitor:
    """Copies the initial weights of a model and measures how far each layer has turned from them.

    Build the monitor before the first training step. Save `state_dict()` in every checkpoint,
    because the distance is always from the weights at initialisation (arXiv:1806.01603, section 3).

    Each measurement looks the layers up by name. So `model.to(...)`, `model.half()`,
    `load_state_dict`, freezing and replaced parameters are all allowed. So is wrapping by
    DistributedDataParallel or torch.compile, before or after the monitor is built. A measurement
    raises InvalidInput if a layer's name is missing or its shape has changed.

    Under sharded data parallelism (`fully_shard`) or tensor parallelism, each process holds a part
    of each layer. It also holds the same part of the initial weights. All processes must then build
    the monitor and call each measurement together. Every process gets the distance of the whole
    layer.

    A layer that starts at zero has no initial direction. It is not measured, and one warning names
    all such layers.

    Args:
        model: the model at its initialisation.
        exclude: shell patterns of layers to leave out, as in `rotating_parameters`.
        device: the device of the float32 copies. Default: the device of each layer. "cpu" saves GPU
            memory, but each measurement then sends the copies to the GPU. The copies of sharded
            layers are always on the layers' device.

    Raises:
        InvalidInput: see `rotating_parameters`; also if every layer starts at zero, or a layer has
            no values yet.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> model.weight.data = torch.tensor([[1.0, 0.0]])
        >>> monitor = RotationMonitor(model)
        >>> model.weight.data = torch.tensor([[0.0, 3.0]])  # a quarter turn
        >>> monitor.measure()
        {'weight': 1.0}
    """

    def __init__(
        self,
        model: nn.Module,
        exclude: Sequence[str] = (),
        device: torch.device | str | None = None,
    ) -> None:
        self._model = model
        self._device = None if device is None else torch.device(device)
        initial = {
            name: self._copy(name, weight)
            for name, weight in rotating_parameters(model, exclude).items()
        }
        squares = moments([(weight, weight) for weight in initial.values()])
        norms = {
            name: math.sqrt(square) for name, (square, _) in zip(initial, squares, strict=True)
        }
        self._without_direction = tuple(name for name, norm in norms.items() if norm == 0)
        for name in self._without_direction:
            del initial[name], norms[name]
        if not initial:
            raise InvalidInput(
                "a layer must start away from zero to have a direction, all of these start at "
                f"zero: {', '.join(self._without_direction)}; initialise the model first"
            )
        if self._without_direction:
            warnings.warn(
                "layers that start at zero have no direction and are not measured: "
                + ", ".join(self._without_direction),
                stacklevel=2,
            )
        self._initial = initial
        self._norms = norms

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the measured layers, in model order."""
        return tuple(self._initial)

    def measure(self) -> dict[str, float]:
        """Return each layer's cosine distance from its initialisation, in [0, 2].

        The distance is NaN if a layer's weights are now all zero or not all finite.

        Raises:
            InvalidInput: a layer is missing from the model, or its shape has changed.
        """
        return {
            name: _distance(product, square, self._norms[name])
            for name, (product, square) in self._moments().items()
        }

    def norm_ratios(self) -> dict[str, float]:
        """Return each layer's norm over its initial norm, >= 0; NaN if a weight is not finite.

        Raises:
            InvalidInput: as for `measure`.
        """
        return {
            name: math.sqrt(square) / self._norms[name] if math.isfinite(square) else math.nan
            for name, (_, square) in self._moments().items()
        }

    def report(self) -> dict[str, float]:
        """Return the flat keys of one report: `rotation/<layer>`, `rotation_min`, `rotation_mean`.

        The minimum and the mean are over the layers with a known distance; NaN if there are none.

        Raises:
            InvalidInput: as for `measure`.
        """
        distances = self.measure()
        known = [distance for distance in distances.values() if not math.isnan(distance)]
        return {
            **{f"rotation/{name}": distance for name, distance in distances.items()},
            "rotation_min": min(known, default=math.nan),
            "rotation_mean": math.fsum(known) / len(known) if known else math.nan,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the initial weights and norms as containers of tensors, strings and floats.

        The tensors are not copies, as in `nn.Module.state_dict`.
        """
        return {
            "initial": dict(self._initial),
            "norms": dict(self._norms),
            "without_direction": list(self._without_direction),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the initial weights by those in `state`.

        `state` also names the layers that started at zero. So the model's checkpoint may be loaded
        before or after the monitor is built.

        Args:
            state: the dict of `state_dict`.

        Raises:
            InvalidInput: `state` is not from `state_dict`, or its layers are not those of the
                model.
        """
        lacking = {"initial", "norms", "without_direction"} - state.keys()
        if lacking:
            raise InvalidInput(
                "state must come from RotationMonitor.state_dict(), it lacks "
                f"{', '.join(sorted(lacking))}; pass what state_dict() returned"
            )
        self._check_same_layers(state["initial"], state["without_direction"])
        self._initial = {name: self._copy(name, saved) for name, saved in state["initial"].items()}
        self._norms = dict(state["norms"])
        self._without_direction = tuple(state["without_direction"])

    def _check_same_layers(self, initial: Mapping[str, Tensor], zeros: Sequence[str]) -> None:
        saved = {*initial, *zeros}
        present = {*self._initial, *self._without_direction}
        differences = {
            "only in the state": saved - present,
            "only in the model": present - saved,
            "of another shape": {
                name
                for name in initial.keys() & self._initial.keys()
                if initial[name].shape != self._initial[name].shape
            },
        }
        if any(differences.values()):
            listed = "; ".join(
                f"{kind}: {', '.join(sorted(names))}"
                for kind, names in differences.items()
                if names
            )
            raise InvalidInput(
                f"the layers of the state must be those of the model, {listed}; "
                "build the model and exclude= as they were when the state was saved"
            )

    def _copy(self, name: str, weight: Tensor) -> Tensor:
        if weight.is_meta:
            raise InvalidInput(
                f"every layer must have values, {name!r} is on the meta device; "
                "initialise the model first"
            )
        # Always float32, because half precision cannot represent a small turn.
        device = None if is_sharded(weight) else self._device
        return weight.detach().to(device=device, dtype=torch.float32, copy=True)

    def _moments(self) -> dict[str, tuple[float, float]]:
        parameters = dict(named_parameters(self._model))
        pairs = [(self._current(name, parameters), self._initial[name]) for name in self._initial]
        return dict(zip(self._initial, moments(pairs), strict=True))

    def _current(self, name: str, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        if name not in parameters:
            raise InvalidInput(
                f"every measured layer must stay in the model, {name!r} is gone; "
                f"known: {', '.join(parameters) or 'none'}"
            )
        weight = parameters[name].detach()
        initial = self._initial[name]
        if weight.shape != initial.shape:
            raise InvalidInput(
                f"a measured layer must keep its shape, {name!r} went from {tuple(initial.shape)} "
                f"to {tuple(weight.shape)}; build a new RotationMonitor"
            )
        if is_sharded(weight):
            self._initial[name] = sharded_alike(initial, weight)
        elif self._device is None and initial.device != weight.device:
            self._initial[name] = initial.to(weight.device)
        return weight


def _distance(product: float, square: float, initial_norm: float) -> float:
    if square == 0 or not math.isfinite(square) or not math.isfinite(product):
        return math.nan
    cosine = product / (math.sqrt(square) * initial_norm)
    return min(max(1 - cosine, 0.0), 2.0)
