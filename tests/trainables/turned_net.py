"""A small net with every kind of parameter, and how far an optimizer turns its layers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tests.reference import turn

RHO = 3**-3


def net(seed: int = 0) -> nn.Sequential:
    """Two kernels of four and of two dimensions, biases, and a normalisation layer."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def kernels(model: nn.Module) -> list[Tensor]:
    return [parameter for parameter in model.parameters() if parameter.ndim >= 2]


def others(model: nn.Module) -> list[Tensor]:
    return [parameter for parameter in model.parameters() if parameter.ndim < 2]


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy().copy()


def loss_of(model: nn.Module, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(8, 1, 6, 6, generator=generator)
    targets = torch.randint(0, 3, (8,), generator=generator)
    return nn.functional.cross_entropy(model(inputs), targets)


def backward(model: nn.Module, optimizer: Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    loss_of(model, seed).backward()


def step(model: nn.Module, optimizer: Optimizer, seed: int) -> list[float]:
    """Take a step on a batch of this seed; return the angle that each kernel turned by."""
    before = [array(kernel) for kernel in kernels(model)]
    backward(model, optimizer, seed)
    optimizer.step()
    return [turn(array(now), then) for now, then in zip(kernels(model), before, strict=True)]


def weights(model: nn.Module) -> list[np.ndarray]:
    return [array(parameter) for parameter in model.parameters()]
