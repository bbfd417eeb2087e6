"""What a trial holds while it runs: built from its config at once, saved and restored as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from trainables.batches import Batches
from trainables.data import Data
from trainables.precision import Precision
from trainables.randomness import random_state, restore_random_state
from trainables.schedules import lr_factors, lr_spent
from trainables.settings import Settings
from tuner.rotation import RotationMonitor

CHECKPOINT_FILE = "model.pt"


@dataclass
class Run:
    """One trial's model and everything that trains it."""

    settings: Settings
    data: Data
    model: nn.Module
    optimizer: Optimizer
    monitor: RotationMonitor
    precision: Precision
    shuffle: torch.Generator
    batches: Batches
    epoch: int = 0
    train_loss: float = float("nan")
    initial_lrs: list[float] = field(init=False)
    lr_factors: NDArray[np.float64] = field(init=False)
    lr_spent: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        # Kept apart from the optimizer: its own values are overwritten at every step, and by a
        # checkpoint that another learning rate may have written.
        self.initial_lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        settings = self.settings
        steps = len(self.batches)
        self.lr_factors = lr_factors(
            settings.schedule,
            settings.max_epochs * steps,
            # A warmup that ends within the last epoch must leave that epoch a step.
            min(round(settings.warmup_epochs * steps), settings.max_epochs * steps - 1),
            step_factor=settings.step_factor,
            step_at=settings.step_at,
        )
        self.lr_spent = lr_spent(self.lr_factors)

    @property
    def done(self) -> bool:
        """Whether the last epoch is finished."""
        return self.epoch >= self.settings.max_epochs

    def set_lr(self, step_of_epoch: int) -> None:
        """Give every group of the optimizer its learning rate for a step of the coming epoch."""
        factor = float(self.lr_factors[self.epoch * len(self.batches) + step_of_epoch])
        for group, initial in zip(self.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = initial * factor

    def clocks(self) -> dict[str, float]:
        """Return `progress` and `lr_progress` after the epochs so far, of which there is one."""
        last_step = self.epoch * len(self.batches) - 1
        return {
            "progress": self.epoch / self.settings.max_epochs,
            "lr_progress": float(self.lr_spent[last_step]),
        }

    def save(self, folder: str) -> None:
        """Write `model.pt` in `folder`: tensors and plain values, for `weights_only` loading."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "monitor": self.monitor.state_dict(),
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            "rng": random_state(self.shuffle, self.precision.device),
        }
        torch.save(state, Path(folder, CHECKPOINT_FILE))

    def load(self, folder: str) -> None:
        """Continue from what `save` wrote, as if the run had never stopped."""
        # On the CPU first: the generators' states must stay there, the rest is copied anyway.
        state = torch.load(Path(folder, CHECKPOINT_FILE), map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.scaler.load_state_dict(state["scaler"])
        self.monitor.load_state_dict(state["monitor"])
        self.epoch = state["epoch"]
        self.train_loss = state["train_loss"]
        restore_random_state(state["rng"], self.shuffle, self.precision.device)
