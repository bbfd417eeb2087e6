"""Search spaces: functions of an Optuna trial that return the config of a training run.

`SPACES` has the included spaces by name, and `find` returns one. `optimizers` has a space for each
optimizer; `equilibrium` has spaces that search the rotation in place of weight decay. Your own
space is a function `space(trial) -> dict`, which may call these functions.
"""

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
"""The included spaces, by their names on the command line."""


def find(name: str) -> Callable[[optuna.Trial], dict[str, Any]]:
    """Return an included search space.

    Args:
        name: a key of `SPACES`.

    Raises:
        InvalidInput: the name is unknown; the message lists the known names.

    Example:
        >>> import optuna
        >>> config = find("layca")(optuna.create_study().ask())
        >>> sorted(config)
        ['batch_size', 'lr', 'momentum', 'optimizer', 'schedule']
    """
    if name not in SPACES:
        raise unknown_name("search space", name, SPACES)
    return SPACES[name]
