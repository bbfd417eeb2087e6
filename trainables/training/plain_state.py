"""State that `torch.load` reads with `weights_only=True`: tensors, numbers, texts, containers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tuner.errors import InvalidInput

_PLAIN = (str, bytes, bool, int, float, complex, type(None))
_TORCH = (torch.Tensor, torch.Size, torch.dtype, torch.device)


def plain_state(state: Any, name: str = "the state") -> Any:
    """Return a state in types that a checkpoint can hold.

    NumPy's scalars become numbers, its arrays tensors, and any mapping a dict.

    Args:
        state: a state, mostly a dict.
        name: where it belongs, for the message of an error.

    Raises:
        InvalidInput: the state holds an object of another type.

    Example:
        >>> plain_state({"lr": np.float64(0.1), "steps": (np.int64(3), None)})
        {'lr': 0.1, 'steps': (3, None)}
    """
    if isinstance(state, np.generic):  # before the numbers: np.float64 is a float too
        return state.item()
    if isinstance(state, _PLAIN + _TORCH):
        return state
    if isinstance(state, np.ndarray) and state.dtype != object:
        return torch.from_numpy(state.copy())
    if isinstance(state, Mapping):
        plain: dict[Any, Any] = OrderedDict() if isinstance(state, OrderedDict) else {}
        for key, value in state.items():
            plain[plain_state(key, name)] = plain_state(value, f"{name}[{key!r}]")
        if hasattr(state, "_metadata"):  # the versions of a model's modules
            vars(plain)["_metadata"] = state._metadata
        return plain
    if isinstance(state, list | tuple):
        values = [plain_state(value, f"{name}[{i}]") for i, value in enumerate(state)]
        return values if isinstance(state, list) else tuple(values)
    raise InvalidInput(
        f"a checkpoint must hold tensors, numbers, texts, lists and dicts, {name} is a "
        f"{type(state).__module__}.{type(state).__qualname__}; store its numbers instead"
    )
