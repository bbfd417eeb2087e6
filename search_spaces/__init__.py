"""What may be tried: define-by-run functions `space(trial) -> dict`, found by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from search_spaces.equilibrium import adamw_rotation, sgd_rotation
from search_spaces.optimizers import adam, adamw, layca, mixed, rmsprop, rotation_budget, sgd
from tuner.errors import unknown_name

if TYPE_CHECKING:
    import optuna

__all__ = [
    "SPACES",
    "adam",
    "adamw",
    "adamw_rotation",
    "find",
    "layca",
    "mixed",
    "rmsprop",
    "rotation_budget",
    "sgd",
    "sgd_rotation",
]

SPACES: dict[str, Callable[[optuna.Trial], dict[str, Any]]] = {
    "adam": adam,
    "adamw": adamw,
    "adamw-rotation": adamw_rotation,
    "layca": layca,
    "mixed": mixed,
    "rmsprop": rmsprop,
    "rotation-budget": rotation_budget,
    "sgd": sgd,
    "sgd-rotation": sgd_rotation,
}
"""The included spaces, by the name on the command line."""


def find(name: str) -> Callable[[optuna.Trial], dict[str, Any]]:
    """Return the included space of a name; raises `InvalidInput`, listing them, for another."""
    if name not in SPACES:
        raise unknown_name("search space", name, SPACES)
    return SPACES[name]
