"""How far an optimizer's steps go while the gradient stays the same, found by trying."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

# Momentum, and the averages that steps are divided by, have settled after so many steps.
_TRIED = 1000
# What would ask for a GPU, or for several weights at once.
_AS_USUAL = {"foreach": None, "fused": None, "capturable": False}


def step_lengths(optimizer: Optimizer, steps: int) -> NDArray[np.float64]:
    """Return how far each of so many first steps goes at a learning rate of 1, shape (steps,).

    SGD's lengthen while its momentum builds up, and RMSprop's shorten while its average does. Tried
    on a weight of its own with the settings of the first parameter group, less weight decay; the
    optimizer stays as it is.
    """
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    group = optimizer.param_groups[0]
    usual = {key: value for key, value in _AS_USUAL.items() if key in group}
    alone = object.__new__(type(optimizer))
    alone.__dict__.update(optimizer.__dict__)
    alone.state = defaultdict(dict)
    alone.param_groups = [{**group, **usual, "params": [weight], "lr": 1.0, "weight_decay": 0.0}]
    places = [0.0]
    for _ in range(min(steps, _TRIED)):
        weight.grad = torch.ones_like(weight)
        alone.step()
        places.append(weight.item())
    lengths = np.abs(np.diff(places))
    return np.concatenate([lengths, np.full(steps - len(lengths), lengths[-1])])
