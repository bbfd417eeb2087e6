"""Factors of Layca's rate, one for each layer, in the order of the layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

from tuner.errors import InvalidInput

LayerRates = Sequence[float] | Mapping[str, float]


def alpha_rates(alpha: float, layers: int) -> list[float]:
    """Return the factors that give early or late layers less rotation.

    This is the paper's rule (arXiv:1806.01603, section 4). Above 0, layer `l` of `0..L-1` gets
    `(1 - alpha)^(5 (L-1-l)/(L-1))`, so that the first layers rotate least. Below 0, it gets
    `(1 + alpha)^(5 l/(L-1))`, so that the last layers rotate least. At 0 all factors are 1, and so
    is the factor of a single layer.

    Args:
        alpha: in (-1, 1).
        layers: the number of layers, >= 1.

    Raises:
        InvalidInput: an argument breaks its rule.

    Example:
        >>> [round(rate, 3) for rate in alpha_rates(0.5, 3)]
        [0.031, 0.177, 1.0]
    """
    if not _is_number(alpha) or not -1 < alpha < 1:
        raise InvalidInput(
            f"alpha must be a number in (-1, 1), got {alpha!r}; use 0 for the same rate everywhere"
        )
    if not isinstance(layers, int) or isinstance(layers, bool) or layers < 1:
        raise InvalidInput(
            f"layers must be a whole number >= 1, got {layers!r}; count the kernels of the model"
        )
    last = layers - 1
    if last == 0:
        return [1.0]
    if alpha > 0:
        return [(1 - alpha) ** (5 * (last - layer) / last) for layer in range(layers)]
    return [(1 + alpha) ** (5 * layer / last) for layer in range(layers)]


def multipliers(layer_rates: LayerRates | None, names: Sequence[str | None]) -> list[float]:
    """Return the factor of each layer.

    Args:
        layer_rates: one number >= 0 for each layer; or a mapping from shell patterns of layer
            names (`"head.*"`) to numbers; or None for 1 everywhere. The first pattern that matches
            a layer counts. A layer without a match has factor 1.
        names: the names of the layers; None for a layer without a name.

    Raises:
        InvalidInput: a factor is not a number >= 0, a sequence has another length, a pattern
            matches no layer, or the layers have no names.

    Example:
        >>> multipliers({"head.*": 0.5}, ["hidden1.weight", "head.weight"])
        [1.0, 0.5]
    """
    if layer_rates is None:
        return [1.0] * len(names)
    if isinstance(layer_rates, Mapping):
        return _by_pattern(layer_rates, names)
    if isinstance(layer_rates, str) or not isinstance(layer_rates, Sequence):
        raise InvalidInput(
            f"layer_rates must be a sequence or a mapping of patterns, got {layer_rates!r}; "
            "use alpha_rates for the paper's rule"
        )
    if len(layer_rates) != len(names):
        raise InvalidInput(
            f"layer_rates must have one number for each of the {len(names)} layers, got "
            f"{len(layer_rates)}; biases and normalisation parameters do not count"
        )
    return [_checked(rate, f"number {number}") for number, rate in enumerate(layer_rates)]


def _by_pattern(rates: Mapping[str, float], names: Sequence[str | None]) -> list[float]:
    known = [name for name in names if name is not None]
    if not known:
        raise InvalidInput(
            f"layer_rates by pattern needs layers with names, got {list(rates)!r} and layers "
            "without names; give the base optimizer model.named_parameters()"
        )
    for pattern in rates:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise InvalidInput(
                f"layer_rates pattern {pattern!r} matches no layer; known: {', '.join(known)}"
            )
    checked = {pattern: _checked(rate, repr(pattern)) for pattern, rate in rates.items()}
    return [match(checked, name) for name in names]


def match(rates: Mapping[str, float], name: str | None) -> float:
    """Return the factor of the first pattern that matches a name, or 1."""
    found = (rate for pattern, rate in rates.items() if fnmatchcase(name or "", pattern))
    return next(found, 1.0)


def _checked(rate: Any, of: str) -> float:
    if not _is_number(rate) or not 0 <= rate < math.inf:
        raise InvalidInput(
            f"layer_rates must each be a number >= 0, got {rate!r} for {of}; "
            "use 0 to hold a layer fixed"
        )
    return float(rate)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
