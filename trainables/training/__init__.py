"""How a trial trains: its settings, data, optimizer, learning rates and the state of its run.

Begin with `Settings` in `config`, which has the config keys. `loop.TrainingState` holds a trial's
model, optimizer and position. Your own trainable needs only `Data`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables._lazy import lazy_attributes

if TYPE_CHECKING:
    from trainables.training.config import Settings, read_settings
    from trainables.training.data import Data
    from trainables.training.loop import TrainingState
    from trainables.training.optimizers import OPTIMIZERS, build_optimizer

DEFAULT_EPOCHS = 20
"""Epochs of a trial, unless its job, its config or its class gives a number."""

__all__ = [
    "DEFAULT_EPOCHS",
    "OPTIMIZERS",
    "Data",
    "Settings",
    "TrainingState",
    "build_optimizer",
    "read_settings",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "Settings": "config",
        "read_settings": "config",
        "Data": "data",
        "TrainingState": "loop",
        "OPTIMIZERS": "optimizers",
        "build_optimizer": "optimizers",
    },
)
