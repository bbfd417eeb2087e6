"""Layca: a wrapper that makes any torch optimizer rotate each layer by a chosen angle per step."""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from trainables.layca.layer_rates import LayerRates, match, multipliers
from trainables.layca.rotate import flatten, rotate_, scalars, vector_norms
from tuner.errors import InvalidInput

OTHERS = ("train", "freeze")


def check(base: Any, rate: Any, others: Any, wrapper: type[Optimizer]) -> None:
    """Check the arguments of a Layca; raise `InvalidInput` for the first wrong argument."""
    if not isinstance(base, Optimizer) or isinstance(base, wrapper):
        raise InvalidInput(
            f"base must be a torch optimizer other than Layca, got {type(base).__name__}; "
            "use Layca(torch.optim.SGD(model.parameters(), lr=0.1))"
        )
    closure = inspect.signature(base.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise InvalidInput(
            f"base must step without a closure, got {type(base).__name__}, which needs one; "
            "use an optimizer such as SGD or Adam"
        )
    if rate is not None and (
        not isinstance(rate, Real) or isinstance(rate, bool) or not 0 < float(rate) < math.inf
    ):
        raise InvalidInput(
            f"rate must be a number > 0, or None, got {rate!r}; 3**-3 suits SGD, 3**-5 Adam"
        )
    if others not in OTHERS:
        raise InvalidInput(
            f"others must be 'train' or 'freeze', got {others!r}; leave it out for 'train'"
        )


def rotating_parameters_of(group: Mapping[str, Any]) -> list[tuple[Tensor, str | None]]:
    """Return the parameters of a group that Layca rotates, each with its name or None.

    They are the trainable parameters with two or more dimensions, the kernels.

    Args:
        group: a parameter group of an optimizer.

    Raises:
        InvalidInput: a parameter has no shape yet, or a kernel is complex.
    """
    names: Sequence[str | None] = group.get("param_names") or [None] * len(group["params"])
    found = []
    for parameter, name in zip(group["params"], names, strict=True):
        if is_lazy(parameter):
            raise InvalidInput(
                f"every parameter must have its shape, {name or 'one'} has none yet; "
                "run one batch through the model first"
            )
        if parameter.requires_grad and parameter.ndim >= 2:
            if parameter.is_complex():
                raise InvalidInput(
                    f"a kernel must be real, {name or 'one'} is complex; "
                    "train it with another optimizer"
                )
            found.append((parameter, name))
    return found


class ZeroBuffers:
    """Tensors of zeros that take the place of parameters during a step.

    On a CPU they are kept: getting memory from the system takes longer than a whole optimizer step.
    On a GPU memory comes from torch's pool, so they are freed after each step.
    """

    def __init__(self) -> None:
        self._kept: dict[Tensor, Tensor] = {}

    @contextmanager
    def of(self, parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Replace the storage of parameters by zeros inside the context, and yield the zeros.

        The zeros keep the values that the context writes until the next call. Each parameter gets
        its own storage back, also after an error, so that other references stay valid.
        """
        zeros = [self._zeros(parameter) for parameter in parameters]
        own = [parameter.data for parameter in parameters]
        try:
            for parameter, zero in zip(parameters, zeros, strict=True):
                parameter.data = zero
            yield zeros
        finally:
            for parameter, data in zip(parameters, own, strict=True):
                parameter.data = data

    def _zeros(self, parameter: Tensor) -> Tensor:
        if parameter.device.type != "cpu":
            return torch.zeros_like(parameter)
        kept = self._kept.get(parameter)
        if (
            kept is None
            or kept.dtype != parameter.dtype
            or kept.shape != parameter.shape
            or kept.stride() != parameter.stride()
        ):
            kept = self._kept[parameter] = torch.zeros_like(parameter)
        return kept.zero_()


_KEPT = ("base", "rate", "layer_rates", "others", "_lrs", "_multipliers", "_norms")
"""The attributes that a copy or a pickle of the wrapper holds."""


@dataclass(frozen=True)
class _Layers:
    """The kernels of one parameter group, device and dtype, which a step rotates together."""

    group: int
    parameters: list[Tensor]
    multipliers: tuple[float, ...]


class Layca(Optimizer):
    """Rotates each layer by exactly `atan(rho)` per step, in the direction of another optimizer.

    This is Layer-level Controlled Amount of rotation (arXiv:1806.01603, algorithm 1). A kernel, a
    parameter with two or more dimensions, keeps its norm. Only the direction of the base's step
    counts, after momentum or Adam's scaling, and without its part along the weights. Weight decay
    has no effect on a kernel. A layer whose step is zero stays as it is.

    The parameter groups and the state are those of the base. Schedulers, `GradScaler` and other
    code that reads or sets them can use either. A kernel keeps the norm that it has at its first
    step, so load pretrained weights before. A kernel that is all zero then has no direction; it is
    treated like a bias.

    In float32 the angle is exact to about 1e-6 of itself, and the norm to 1e-6 over any number of
    steps, unless step and weights are nearly parallel. bfloat16 weights are rounded to 1 part in
    256 after each step, and float16 weights to 1 in 2,048: a smaller rho is lost in the rounding.

    On a CPU the wrapper holds one more copy of the kernels; on a GPU it does so only during a step.
    Compiled with `torch.compile(optimizer.step)` it needs none, and does not call the step hooks of
    the base.

    Args:
        base: any optimizer that needs no closure; its own lr trains the other parameters.
        rate: rho in radians, > 0, for a group whose lr has its initial value. A schedule of the lr
            scales rho too. None takes each group's lr as its rho.
        layer_rates: factors of rho, >= 0, in the order of the kernels, or by name pattern if the
            base has named parameters (see `multipliers`). 0 freezes a layer.
        others: "train" lets the base train biases and normalisation parameters; "freeze" leaves
            them as they are, as the paper's authors did.

    Raises:
        InvalidInput: an argument breaks its rule, there is no kernel, or a kernel is complex or has
            no shape yet.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = Layca(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rate=3**-3)
        >>> model(torch.ones(8, 4)).sum().backward()
        >>> optimizer.step()
    """

    base: Optimizer
    rate: float | None
    others: str

    def __init__(
        self,
        base: Optimizer,
        rate: float | None = None,
        layer_rates: LayerRates | None = None,
        others: str = "train",
    ) -> None:
        check(base, rate, others, Layca)
        # The initialiser would make separate parameter groups and a separate state.
        super().__setstate__({"base": base, "rate": rate, "others": others})
        self._lrs: list[Any] = []
        self._multipliers: dict[Tensor, float] = {}
        self._norms: dict[Tensor, Tensor | None] = {}
        self._start_caches()
        kernels = [pair for group in base.param_groups for pair in rotating_parameters_of(group)]
        if not kernels:
            raise InvalidInput(
                "a base optimizer must have a trainable parameter with two or more dimensions, "
                "got none; give it the weights of the layers"
            )
        rates = multipliers(layer_rates, [name for _, name in kernels])
        self._multipliers.update(zip((kernel for kernel, _ in kernels), rates, strict=True))
        self.layer_rates = layer_rates
        self._register_groups()

    def _start_caches(self) -> None:
        self._zero_buffers = ZeroBuffers()
        self._vectors: dict[tuple[Any, ...], Tensor] = {}
        # A decorator would import the compiler, which takes a second, with this module. Torch's
        # optimizers import it when they are made.
        self._measure_uncompiled = torch.compiler.disable(self._measure)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The base's parameter groups."""
        return self.base.param_groups

    @property
    def state(self) -> defaultdict[Tensor, Any]:  # type: ignore[override]
        """The base's state of each parameter."""
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The base's defaults."""
        return self.base.defaults

    def multiplier(self, kernel: Tensor) -> float:
        """Return the factor of rho for a kernel, >= 0."""
        return self._multipliers.get(kernel, 1.0)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base; its kernels have the factor of their pattern, or 1."""
        self.base.add_param_group(param_group)
        self._register_groups()

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state, and the norms and initial lrs under "layca", as numbers."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        norms = [self._norms.get(parameter) for parameter in parameters]
        return {
            **self.base.state_dict(),
            "layca": {
                "lrs": [lr.item() if isinstance(lr, Tensor) else lr for lr in self._lrs],
                "seen": [parameter in self._norms for parameter in parameters],
                "norms": [None if norm is None else norm.item() for norm in norms],
            },
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the result of `state_dict`, of this class or of the base optimizer.

        After the state of the base optimizer, the norms are those of the weights at the next step,
        and rho is `rate` at the loaded lr.
        """
        state = dict(state_dict)
        own = state.pop("layca", None)
        self.base.load_state_dict(state)
        self._lrs, self._norms = [], {}
        self._start_caches()
        self._register_groups()
        if own is None:
            return
        parameters = [p for group in self.param_groups for p in group["params"]]
        for parameter, seen, norm in zip(parameters, own["seen"], own["norms"], strict=True):
            if seen:
                self._norms[parameter] = None if norm is None else _number(norm, parameter.device)
        self._lrs = [
            torch.full_like(lr, saved) if isinstance(lr, Tensor) else saved
            for lr, saved in zip(self._lrs, own["lrs"], strict=True)
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in _KEPT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start_caches()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Rotate every layer that has a gradient.

        Args:
            closure: called first; it computes the loss and the gradients.

        Returns:
            The result of `closure`.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step()
        return loss

    @torch.no_grad()
    def _step(self) -> None:
        if len(self._lrs) != len(self.param_groups):
            self._register_groups()
        unseen = [
            parameter
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.ndim >= 2 and parameter not in self._norms
        ]
        if unseen:
            self._measure_uncompiled(unseen)
        rotated, frozen = self._sort()
        parameters = [parameter for layers in rotated for parameter in layers.parameters]
        gradients = [parameter.grad for parameter in frozen]
        for parameter in frozen:
            parameter.grad = None
        try:
            if torch.compiler.is_compiling():
                self._step_compiled(rotated, parameters)
            else:
                self._step_eager(rotated, parameters)
        finally:
            for parameter, gradient in zip(frozen, gradients, strict=True):
                parameter.grad = gradient

    def _step_eager(self, rotated: list[_Layers], parameters: list[Tensor]) -> None:
        # From zero, the base's step is exact, however small its lr, and weight decay has no effect.
        # The storage is exchanged, because copying it twice would take longer.
        with self._zero_buffers.of(parameters) as steps:
            self.base.step()
        self._rotate(rotated, parameters, steps)

    def _step_compiled(self, rotated: list[_Layers], parameters: list[Tensor]) -> None:
        # The compiler removes the copies.
        weights = [parameter.clone() for parameter in parameters]
        for parameter in parameters:
            parameter.zero_()
        # The wrapper of torch's optimizers breaks the graph, and gradients are off here anyway.
        inspect.unwrap(type(self.base).step)(self.base)
        steps = [parameter.clone() for parameter in parameters]
        self._rotate(rotated, weights, steps)
        for parameter, weight in zip(parameters, weights, strict=True):
            parameter.copy_(weight)

    def _rotate(
        self, rotated: list[_Layers], parameters: list[Tensor], steps: list[Tensor]
    ) -> None:
        done = 0
        for layers in rotated:
            ends = done + len(layers.parameters)
            norms = torch.stack([self._norms[p] for p in layers.parameters])  # type: ignore[misc]
            rotate_(parameters[done:ends], steps[done:ends], norms, self._rho(layers))
            done = ends

    def _sort(self) -> tuple[list[_Layers], list[Tensor]]:
        """Return the layers to rotate, in batches, and the parameters to hide from the base."""
        batches: dict[tuple[int, torch.device, torch.dtype], list[Tensor]] = {}
        frozen = []
        for number, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if self._norms.get(parameter) is None:
                    if self.others == "freeze":
                        frozen.append(parameter)
                elif self.multiplier(parameter) == 0:
                    frozen.append(parameter)
                else:
                    key = (number, parameter.device, parameter.dtype)
                    batches.setdefault(key, []).append(parameter)
        rotated = [
            _Layers(key[0], found, tuple(self.multiplier(p) for p in found))
            for key, found in batches.items()
        ]
        return rotated, frozen

    def _rho(self, layers: _Layers) -> Tensor | float:
        lr = self.param_groups[layers.group]["lr"]
        rho: Tensor | float = (
            lr if self.rate is None else self.rate * (lr / self._lrs[layers.group])
        )
        if set(layers.multipliers) == {1.0}:
            return rho
        device = layers.parameters[0].device
        key = (device, layers.multipliers)
        if key not in self._vectors:
            # Kept, because sending numbers to a GPU waits for it.
            self._vectors[key] = torch.tensor(
                layers.multipliers, device=device, dtype=scalars(device)
            )
        rhos: Tensor = rho * self._vectors[key]
        return rhos

    def _measure(self, kernels: list[Tensor]) -> None:
        """Store the norm of each kernel before its first step; only this waits for a GPU."""
        for kernel in kernels:
            weight = kernel.detach()
            if weight.dtype in (torch.float16, torch.bfloat16):
                weight = weight.float()
            norm = vector_norms([flatten(weight, weight)[0]])[0]
            self._norms[kernel] = None if norm.item() == 0 else norm

    def _register_groups(self) -> None:
        for group in self.param_groups[len(self._lrs) :]:
            lr = group.get("initial_lr", group.get("lr"))
            if lr is None or (self.rate is not None and not isinstance(lr, Tensor) and lr <= 0):
                raise InvalidInput(
                    f"a group's lr must be > 0 for a rate to go by, got {lr!r}; "
                    "give the base optimizer an lr, or leave out rate to take the lr as rho"
                )
            self._lrs.append(lr.clone() if isinstance(lr, Tensor) else lr)
            for kernel, name in rotating_parameters_of(group):
                if kernel not in self._multipliers and isinstance(self.layer_rates, Mapping):
                    self._multipliers[kernel] = match(self.layer_rates, name)


def _number(value: float, device: torch.device) -> Tensor:
    return torch.tensor(value, device=device, dtype=scalars(device))
