"""How a trial trains: its settings, data, optimizer, learning rates, and the state of its run.

`config.Settings` is the place to begin: it has every config key. `loop.TrainingState` holds a
trial's model and all that trains it. A trainable of your own needs only `trainables.Data`.
"""

DEFAULT_EPOCHS = 20
"""Epochs of a trial, unless its job, its config or its class gives a number."""

__all__ = ["DEFAULT_EPOCHS"]
