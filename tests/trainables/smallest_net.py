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


def epochs(trial: RotationTrainable, count: int = 2) -> list[dict[str, Any]]:
    timed = {"epoch_s", "should_checkpoint"}
    reports = [trial.step() for _ in range(count)]
    return [{key: report[key] for key in report.keys() - timed} for report in reports]


class Pairs(Dataset):
    """The same points, an item at a time."""

    def __init__(self, count: int, seed: int):
        self.inputs, self.targets = points(count, seed)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, number: int):
        return self.inputs[number], self.targets[number]
