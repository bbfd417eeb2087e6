"""All random number generators of a process: seed, save and restore them together."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators; `seed` in [0, 2**32)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def seed_apart(*numbers: int) -> None:
    """Seed all generators from several numbers >= 0; other numbers give other seeds."""
    seed_everything(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def random_state(shuffle: torch.Generator, device: torch.device) -> dict[str, Any]:
    """Return the state of every generator, as tensors and numbers that torch can load safely.

    Args:
        shuffle: the generator of the order of the samples.
        device: the device of the trial. On a GPU its CUDA generator is included.
    """
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    return {
        "python": (version, torch.tensor(words), gauss),
        "numpy": {
            "key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            "pos": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "shuffle": shuffle.get_state(),
    }


def restore_random_state(
    state: dict[str, Any], shuffle: torch.Generator, device: torch.device
) -> None:
    """Set every generator to a state from `random_state`.

    The CUDA generator keeps its seed if the state was saved on a CPU.
    """
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    numpy_state = state["numpy"]
    np.random.set_state(
        (
            "MT19937",
            numpy_state["key"].numpy().astype(np.uint32),
            numpy_state["pos"],
            numpy_state["has_gauss"],
            numpy_state["gauss"],
        )
    )
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    shuffle.set_state(state["shuffle"])
