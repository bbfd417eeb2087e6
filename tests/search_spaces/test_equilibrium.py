"""The weight decay for a rotation a step, held against real optimizers in their equilibrium."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from search_spaces.equilibrium import weight_decay_of_adamw, weight_decay_of_sgd
from tests.reference import turn

RATE = 0.05


def turned_each_step(optimizer: torch.optim.Optimizer, weight: torch.Tensor, steps: int) -> float:
    """Return the mean angle of the later half of the steps, on gradients of nothing but noise that
    is orthogonal to the weights, as a normalised layer's are, and falls with their norm."""
    generator = torch.Generator().manual_seed(0)
    angles = []
    for step in range(steps):
        noise = torch.randn(weight.shape, generator=generator)
        flat = weight.detach()
        noise -= (noise * flat).sum() / (flat * flat).sum() * flat
        weight.grad = noise / flat.norm()
        before = weight.detach().clone().numpy()
        optimizer.step()
        if step >= steps // 2:
            angles.append(turn(weight.detach().numpy(), before))
    return float(np.mean(angles))


@pytest.mark.parametrize(
    ("kind", "lr", "settings", "decay"),
    [
        (torch.optim.AdamW, 0.01, {"betas": (0.9, 0.999)}, weight_decay_of_adamw(RATE, 0.01, 0.9)),
        (
            torch.optim.AdamW,
            0.003,
            {"betas": (0.5, 0.999)},
            weight_decay_of_adamw(RATE, 0.003, 0.5),
        ),
        (torch.optim.SGD, 0.3, {"momentum": 0.9}, weight_decay_of_sgd(RATE, 0.3, 0.9)),
        (torch.optim.SGD, 0.1, {"momentum": 0.0}, weight_decay_of_sgd(RATE, 0.1, 0.0)),
    ],
    ids=["AdamW", "AdamW of other betas", "SGD with momentum", "SGD"],
)
def test_in_equilibrium_each_step_turns_a_layer_by_the_rate(kind, lr, settings, decay):
    generator = torch.Generator().manual_seed(1)
    # About where the norms settle, so that what is waited for is short.
    weight = torch.nn.Parameter(0.05 * torch.randn(40, 50, generator=generator))
    optimizer = kind([weight], lr=lr, weight_decay=decay, **settings)
    steps = max(1500, math.ceil(6 / (lr * decay)))
    assert turned_each_step(optimizer, weight, steps) == pytest.approx(RATE, rel=0.05)
