"""The tensors of a model that count as layers, and their names."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parameter import is_lazy

from tuner.errors import InvalidInput


def rotating_parameters(model: nn.Module, exclude: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """Return the trainable parameters with two or more dimensions, by plain name, in model order.

    The names are those of the unwrapped model. Prefixes of DistributedDataParallel, DataParallel
    and torch.compile are removed, at any depth. A weight that is used in several places counts
    once, under its first name.

    Biases and normalisation parameters have one dimension and do not count (arXiv:1806.01603).

    Args:
        model: the model.
        exclude: shell patterns of layer names to leave out, such as `"head.*"`.

    Raises:
        InvalidInput: a pattern matches no layer, no layer is left, or a layer has no shape yet.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> list(rotating_parameters(model))
        ['0.weight', '2.weight']
        >>> list(rotating_parameters(model, exclude=["2.*"]))
        ['0.weight']
    """
    if isinstance(exclude, str):
        raise InvalidInput(
            f"exclude must be a list of patterns, got {exclude!r}; use [{exclude!r}]"
        )
    found: dict[str, nn.Parameter] = {}
    taken: set[int] = set()
    for name, parameter in named_parameters(model):
        if is_lazy(parameter):
            raise InvalidInput(
                f"every layer must have its shape, {name!r} has none yet; "
                "run one batch through the model first"
            )
        if parameter.requires_grad and parameter.ndim >= 2 and id(parameter) not in taken:
            taken.add(id(parameter))
            found[name] = parameter
    for pattern in exclude:
        if not any(fnmatchcase(name, pattern) for name in found):
            known = ", ".join(found) or "none"
            raise InvalidInput(f"exclude pattern {pattern!r} matches no layer; known: {known}")
    kept = {
        name: parameter
        for name, parameter in found.items()
        if not any(fnmatchcase(name, pattern) for pattern in exclude)
    }
    if not kept:
        raise InvalidInput(
            "a model must have a trainable parameter with two or more dimensions that exclude "
            f"leaves in, got {len(found)} before and none after exclude={list(exclude)!r}; "
            "unfreeze a layer or exclude fewer"
        )
    return kept


def named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield every parameter with its plain name, also frozen and one-dimensional parameters."""
    return _walk(model, "", set())


def _walk(module: nn.Module, prefix: str, seen: set[int]) -> Iterator[tuple[str, nn.Parameter]]:
    module = _unwrap(module)
    if id(module) in seen:
        return
    seen.add(id(module))
    for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
        yield prefix + name, parameter
    for name, child in module.named_children():
        yield from _walk(child, f"{prefix}{name}.", seen)


def _unwrap(module: nn.Module) -> nn.Module:
    # Wrappers are recognised by type. A model may use the names "module" and "_orig_mod" for its
    # own parts.
    while True:
        if isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel):
            module = module.module
        elif _is_compiled(module):
            module = module.get_submodule("_orig_mod")
        else:
            return module


def _is_compiled(module: nn.Module) -> bool:
    # Importing torch._dynamo takes seconds. If it is not imported, no model is compiled.
    dynamo = sys.modules.get("torch._dynamo")
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)
