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


# Elements converted to double at a time. On a CPU a chunk should stay in the cache: two products
# of 20 million weights took 0.04 s with this size and 0.1 to 0.5 s with 2^18 to 2^24 (2 cores).
# Elsewhere each chunk costs kernel launches, and 2^24 bounds the copies at 256 MiB.
_CPU_CHUNK = 2**16
_DEVICE_CHUNK = 2**24


@torch.no_grad()
def moments(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[float, float]]:
    """Return `(<w, w0>, <w, w>)` for each pair `(w, w0)` of tensors of equal shape.

    Summed in double precision on the device of `w` (in single on Apple's mps, which has no
    double). All sums of one device come back in a single transfer, so a GPU waits once and not
    once for every layer. Weights that are not finite give sums that are not finite. The sums of
    tensors that are sharded over processes are over the whole of them.
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
    # reshape walks in logical order, so a change of memory format between the two does no harm.
    parts = torch.split(weight.reshape(-1), size)
    initial_parts = torch.split(initial.reshape(-1), size)
    for part, initial_part in zip(parts, initial_parts, strict=True):
        now, then = part.to(dtype), initial_part.to(device).to(dtype)
        total += torch.stack([torch.dot(now, then), torch.dot(now, now)])
    return total


class RotationMonitor:
    """Remember the weights of a model as they are now and measure how far each layer turns.

    Build it before the first training step, and save `state_dict()` in every checkpoint: the
    distance is always from the weights at initialisation (arXiv:1806.01603, section 3).

    Layers are found again by name at every measurement, so the monitor follows `model.to(...)`,
    `model.half()`, `load_state_dict`, freezing, replaced parameters, and wrapping by
    DistributedDataParallel or torch.compile, before or after it was built. A layer whose name is
    gone, or whose shape has changed, is an InvalidInput when it is measured.

    Under sharded data parallel (`fully_shard`) or tensor parallelism, each process holds its part
    of a layer, and of its initial weights. Then whatever measures, building the monitor included,
    must be called by all processes alike, and gives all of them the whole layer's distance.

    A layer that starts at zero has no direction to turn from: it is left out, with one warning.

    Args:
        model: the model at its initialisation.
        exclude: shell patterns of layers to leave out, as in `rotating_parameters`.
        device: where the float32 copies live; the default is beside each layer, and "cpu" saves
            GPU memory at the price of sending them over at each measurement. Sharded layers
            keep theirs beside them.

    Raises:
        InvalidInput: see `rotating_parameters`; also when every layer starts at zero
            or has no values yet.
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

        NaN for a layer whose weights are all zero now (no direction) or not all finite.
        """
        return {
            name: _distance(product, square, self._norms[name])
            for name, (product, square) in self._moments().items()
        }

    def norm_ratios(self) -> dict[str, float]:
        """Return each layer's norm over its initial norm, >= 0; NaN if a weight is not finite."""
        return {
            name: math.sqrt(square) / self._norms[name] if math.isfinite(square) else math.nan
            for name, (_, square) in self._moments().items()
        }

    def report(self) -> dict[str, float]:
        """Return the flat keys of one report: `rotation/<layer>`, `rotation_min`, `rotation_mean`.

        The minimum and the mean are over the layers that have a distance, and NaN if none has.
        """
        distances = self.measure()
        known = [distance for distance in distances.values() if not math.isnan(distance)]
        return {
            **{f"rotation/{name}": distance for name, distance in distances.items()},
            "rotation_min": min(known, default=math.nan),
            "rotation_mean": math.fsum(known) / len(known) if known else math.nan,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the initial weights and norms: containers of tensors, strings and floats only.

        The tensors are the monitor's own and not copies, as in `nn.Module.state_dict`.
        """
        return {
            "initial": dict(self._initial),
            "norms": dict(self._norms),
            "without_direction": list(self._without_direction),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the initialisation from `state`, whatever weights the model held at construction.

        Which layers had no direction is taken from `state` too, so it makes no difference
        whether the model's checkpoint was loaded before or after the monitor was built.

        Raises:
            InvalidInput: `state` is not a monitor's, or its layers are not this model's.
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
        # float32 whatever the training precision: half precision cannot hold a small turn.
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
