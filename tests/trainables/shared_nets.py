"""What the tests of several processes train: one class, which does as its config says.

One class, since the processes of a trial serve others of its class, and starting them takes long.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import torch
from smallest_net import Pairs, Smallest
from torch import nn

from tests.forked_processes import forked
from trainables import Data

CONFIG = {"max_epochs": 3, "batch_size": 10, "lr": 0.05}


def other_processes() -> list[int]:
    """The processes that a trial of this one has started and not ended."""
    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and ("trainables.distributed.worker_main" in child.cmdline() or child.ppid() == forked())
    ]


class HalfUsed(nn.Module):
    """Has a layer that no loss reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 2)
        self.unused = nn.Linear(4, 2)

    def forward(self, inputs):
        return self.used(inputs)


class Shared(Smallest):
    """Four coordinates, two classes; see the methods for what its config may hold."""

    step_number = 0

    def build_model(self, config):
        if config.get("net") == "normalised":
            return super().build_model(config)
        if config.get("net") == "half used":
            return HalfUsed()
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def augment(self, inputs):
        noise = torch.randn_like(inputs)
        self.note(f"noise {noise[0].tolist()}")
        if self.config.get("net") == "normalised":
            self.note(f"mean {self.model[1].running_mean.tolist()}")
        return inputs + noise if self.config.get("noisy") else inputs

    def note(self, text: str) -> None:
        """Write a line to this process's file in the folder of that name, if there is one."""
        if "notes" in self.config:
            with Path(self.config["notes"], str(self.shard.rank)).open("a") as notes:
                notes.write(f"{text}\n")

    def train_epoch(self):
        if self.config.get("fault") == "calls a part":
            for inputs, target in self.training_batches():
                hidden = self.model[0](inputs).relu()
                self.optimize(self.loss(self.model[2](hidden), target))
            return 0.0
        return super().train_epoch()

    def training_batches(self):
        for number, batch in enumerate(super().training_batches()):
            if self.shard.rank == self.config.get("in") and number == 3:
                fault = self.config["fault"]
                if fault == "raises":
                    raise ValueError("the loss is purple")
                if fault == "raises RuntimeError":
                    raise RuntimeError("the loss is purple")
                if fault == "dies":
                    os.kill(os.getpid(), signal.SIGKILL)
                if fault == "ends early":
                    return
            yield batch


class OfDataset(Shared):
    """The same, an item at a time."""

    def build_data(self, data_dir):
        return Data(Pairs(100, 0), Pairs(50, 1))


class Unpicklable(Exception):
    """Cannot be made again from its one argument."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__("the loss is purple")
        self.first = first


def alone(trainable=Shared, **config) -> Shared:
    return trainable(config={**CONFIG, **config})
