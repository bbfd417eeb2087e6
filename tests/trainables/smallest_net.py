"""The smallest trainable that a person can write, which several tests build on."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from trainables import Data, RotationTrainable


def points(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of four coordinates, in two classes."""
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs.sum(dim=1) > 0).long()


class Smallest(RotationTrainable):
    """No more than has to be written."""

    def build_model(self, config):
        width = config.get("width", 8)
        return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(width, 2))

    def build_data(self, data_dir):
        return Data(points(100, 0), points(50, 1))


BY_THE_CLOCK = {"epoch_s", "should_checkpoint"}


def comparable(report: dict[str, Any]) -> dict[str, Any]:
    """What must be the same whenever the trial runs again."""
    return {key: value for key, value in report.items() if key not in BY_THE_CLOCK}


def reports(trial: RotationTrainable, count: int = 2) -> list[dict[str, Any]]:
    """The reports of so many epochs, those within them too."""
    found: list[dict[str, Any]] = []
    while sum("epoch" in report for report in found) < count:
        found.append(comparable(trial.step()))
    return found


def epochs(trial: RotationTrainable, count: int = 2) -> list[dict[str, Any]]:
    """The reports at the ends of so many epochs."""
    return [report for report in reports(trial, count) if "epoch" in report]


class Pairs(Dataset):
    """The same points, an item at a time."""

    def __init__(self, count: int, seed: int):
        self.inputs, self.targets = points(count, seed)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, number: int):
        return self.inputs[number], self.targets[number]
