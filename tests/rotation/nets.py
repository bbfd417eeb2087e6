"""A small network, and training reduced to what it does to weights."""

import numpy as np
import torch
from torch import nn


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4, 8), nn.Linear(8, 3))


def turn(model: nn.Module, size: float, seed: int = 1) -> None:
    """Add noise of `size` times its own scale to every parameter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((size * parameter.std() * noise).to(parameter.dtype))


def as_numpy(parameter: torch.Tensor) -> np.ndarray:
    return parameter.detach().double().numpy().copy()
