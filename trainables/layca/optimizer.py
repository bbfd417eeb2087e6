"""Layca: a wrapper that makes any torch optimizer turn each layer by a chosen angle per step."""

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
from trainables.layca.rotate import flatten, lengths, rotate_, scalars
from tuner.errors import InvalidInput

OTHERS = ("train", "freeze")


def check(base: Any, rate: Any, others: Any, wrapper: type[Optimizer]) -> None:
    """Raise `InvalidInput` for the first argument of `wrapper`, a Layca, that breaks its rule."""
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


def kernels_of(group: Mapping[str, Any]) -> list[tuple[Tensor, str | None]]:
    """Return a group's parameters of two or more dimensions, each with its name or None.

    Raises `InvalidInput` for a parameter that has no shape yet, or a complex kernel.
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
                    "train it with an optimizer of its own"
                )
            found.append((parameter, name))
    return found


class ZeroBuffers:
    """Keeps a CPU's stand-ins from one time to the next.

    There, memory takes longer to get from the system than an optimizer's whole step does. A GPU's
    comes from a pool, and had better be lent back to it.
    """

    def __init__(self) -> None:
        self._kept: dict[Tensor, Tensor] = {}

    @contextmanager
    def of(self, parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Let parameters hold zeros within the context, whatever happens in it; yield these.

        What is left in them can be read until the next time. A parameter's own storage is put
        aside and put back, so that whatever else refers to it still does.
        """
        stand_ins = [self._zeros(parameter) for parameter in parameters]
        own = [parameter.data for parameter in parameters]
        try:
            for parameter, stand_in in zip(parameters, stand_ins, strict=True):
                parameter.data = stand_in
            yield stand_ins
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
"""What a copy or a pickle of the wrapper holds."""


@dataclass(frozen=True)
class _Layers:
    """The kernels of one parameter group, one device and one dtype that a step turns."""

    group: int
    parameters: list[Tensor]
    multipliers: tuple[float, ...]


class Layca(Optimizer):
    """Turns each layer by exactly `atan(rho)` at each step, in the direction of another optimizer.

    A kernel, that is a parameter of two or more dimensions, keeps its norm; of the base
    optimizer's step only the direction counts, after momentum or Adam's scaling and less its part
    along the weights (Layer-level Controlled Amount of rotation, arXiv:1806.01603, algorithm 1).
    Weight decay has no effect on a kernel, and a layer whose step is zero stays as it is.

        Layca(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rate=3**-3)

    The parameter groups and the state are the base's own, so schedulers, `GradScaler` and
    whatever else reads or sets them can be given either. A kernel keeps the norm that it has at
    its first step: load pretrained weights before it. One that is all zero by then has no
    direction, and is treated as the others are.

    In float32 the angle is exact to about 1e-6 of itself and the norm to 1e-6 over any number of
    steps, unless step and weights are nearly parallel. bfloat16 weights are rounded to 1 part in
    256 after each step, float16 to 1 in 2,048: a rho below that is lost in the rounding.

    On a CPU the wrapper holds one more copy of the kernels, on a GPU only during a step. Compiled
    (`torch.compile(optimizer.step)`), it needs none, and does not call the base's step hooks.

    Args:
        base: any optimizer that needs no closure; its own lr trains the other parameters.
        rate: rho in radians, > 0, where a group's lr is the one that it began with; a schedule
            of the lr scales rho with it. None takes each group's lr itself as its rho.
        layer_rates: multipliers of rho, >= 0, in the order of the kernels, or by name pattern if
            the base was given named parameters (see `multipliers`); 0 holds a layer fixed.
        others: "train" leaves biases and normalisation parameters to the base optimizer,
            "freeze" leaves them as they are, as the paper's authors did.

    Raises:
        InvalidInput: an argument breaks its rule, no parameter is a kernel, or one is complex or
            has no shape yet.
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
        # Not the initialiser: it would make parameter groups and a state of the wrapper's own.
        super().__setstate__({"base": base, "rate": rate, "others": others})
        self._lrs: list[Any] = []
        self._multipliers: dict[Tensor, float] = {}
        self._norms: dict[Tensor, Tensor | None] = {}
        self._start_caches()
        kernels = [pair for group in base.param_groups for pair in kernels_of(group)]
        if not kernels:
            raise InvalidInput(
                "a base optimizer must have a trainable parameter with two or more dimensions, "
                "got none; give it the weights of the layers"
            )
        rates = multipliers(layer_rates, [name for _, name in kernels])
        self._multipliers.update(zip((kernel for kernel, _ in kernels), rates, strict=True))
        self.layer_rates = layer_rates
        self._meet_groups()

    def _start_caches(self) -> None:
        self._stand_ins = ZeroBuffers()
        self._vectors: dict[tuple[Any, ...], Tensor] = {}
        # As a decorator it would import the compiler, a second's work, wherever this is imported;
        # torch's optimizers import it when they are made.
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
        """Return what rho is multiplied by for a kernel, >= 0."""
        return self._multipliers.get(kernel, 1.0)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Give the base another group; its kernels have multiplier 1, or what a pattern says."""
        self.base.add_param_group(param_group)
        self._meet_groups()

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state, and under "layca" the norms and first lrs, as plain numbers."""
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
        """Take up what `state_dict` returned.

        The base's own `state_dict` does too: then the norms are those of the next step's weights,
        and rho is `rate` at the lr that it brings.
        """
        state = dict(state_dict)
        own = state.pop("layca", None)
        self.base.load_state_dict(state)
        self._lrs, self._norms = [], {}
        self._start_caches()
        self._meet_groups()
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
        """Turn every layer that has a gradient; return what `closure`, called first, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step()
        return loss

    @torch.no_grad()
    def _step(self) -> None:
        if len(self._lrs) != len(self.param_groups):
            self._meet_groups()
        unseen = [
            parameter
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.ndim >= 2 and parameter not in self._norms
        ]
        if unseen:
            self._measure_uncompiled(unseen)
        turned, held = self._sorted()
        parameters = [parameter for layers in turned for parameter in layers.parameters]
        gradients = [parameter.grad for parameter in held]
        for parameter in held:
            parameter.grad = None
        try:
            if torch.compiler.is_compiling():
                self._step_compiled(turned, parameters)
            else:
                self._step_eager(turned, parameters)
        finally:
            for parameter, gradient in zip(held, gradients, strict=True):
                parameter.grad = gradient

    def _step_eager(self, turned: list[_Layers], parameters: list[Tensor]) -> None:
        # From zero the base's step comes out exactly, however small its lr, and its weight decay
        # decays nothing. Storage is exchanged, since copying it twice would take longer.
        with self._stand_ins.of(parameters) as steps:
            self.base.step()
        self._turn(turned, parameters, steps)

    def _step_compiled(self, turned: list[_Layers], parameters: list[Tensor]) -> None:
        # The compiler makes of the copies what it wants: none.
        weights = [parameter.clone() for parameter in parameters]
        for parameter in parameters:
            parameter.zero_()
        # Around it, torch's optimizers break the graph, and gradients are off here anyway.
        inspect.unwrap(type(self.base).step)(self.base)
        steps = [parameter.clone() for parameter in parameters]
        self._turn(turned, weights, steps)
        for parameter, weight in zip(parameters, weights, strict=True):
            parameter.copy_(weight)

    def _turn(self, turned: list[_Layers], parameters: list[Tensor], steps: list[Tensor]) -> None:
        done = 0
        for layers in turned:
            ends = done + len(layers.parameters)
            norms = torch.stack([self._norms[p] for p in layers.parameters])  # type: ignore[misc]
            rotate_(parameters[done:ends], steps[done:ends], norms, self._rho(layers))
            done = ends

    def _sorted(self) -> tuple[list[_Layers], list[Tensor]]:
        """Return the layers to turn, in batches, and the parameters that the base must not see."""
        batches: dict[tuple[int, torch.device, torch.dtype], list[Tensor]] = {}
        held = []
        for number, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if self._norms.get(parameter) is None:
                    if self.others == "freeze":
                        held.append(parameter)
                elif self.multiplier(parameter) == 0:
                    held.append(parameter)
                else:
                    key = (number, parameter.device, parameter.dtype)
                    batches.setdefault(key, []).append(parameter)
        turned = [
            _Layers(key[0], found, tuple(self.multiplier(p) for p in found))
            for key, found in batches.items()
        ]
        return turned, held

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
            # Kept: sending numbers to a GPU waits for it.
            self._vectors[key] = torch.tensor(
                layers.multipliers, device=device, dtype=scalars(device)
            )
        turned: Tensor = rho * self._vectors[key]
        return turned

    def _measure(self, kernels: list[Tensor]) -> None:
        """Note the norm of each kernel before its first step, the only time a GPU is waited for."""
        for kernel in kernels:
            weight = kernel.detach()
            if weight.dtype in (torch.float16, torch.bfloat16):
                weight = weight.float()
            norm = lengths([flatten(weight, weight)[0]])[0]
            self._norms[kernel] = None if norm.item() == 0 else norm

    def _meet_groups(self) -> None:
        for group in self.param_groups[len(self._lrs) :]:
            lr = group.get("initial_lr", group.get("lr"))
            if lr is None or (self.rate is not None and not isinstance(lr, Tensor) and lr <= 0):
                raise InvalidInput(
                    f"a group's lr must be > 0 for a rate to go by, got {lr!r}; "
                    "give the base optimizer an lr, or leave out rate to take the lr as rho"
                )
            self._lrs.append(lr.clone() if isinstance(lr, Tensor) else lr)
            for kernel, name in kernels_of(group):
                if kernel not in self._multipliers and isinstance(self.layer_rates, Mapping):
                    self._multipliers[kernel] = match(self.layer_rates, name)


def _number(value: float, device: torch.device) -> Tensor:
    return torch.tensor(value, device=device, dtype=scalars(device))
