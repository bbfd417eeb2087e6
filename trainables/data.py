"""What a trainable learns from: checked, loaded once per process, and shared by its trials."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from trainables.randomness import seed_everything
from tuner.errors import InvalidInput

Split = tuple[Tensor, Tensor] | Dataset[Any]
"""Tensors of inputs and targets (first axis: samples), or a Dataset of (input, target) items."""


class Data(NamedTuple):
    """The splits that a trainable learns from, is judged by, and is tested on at its last epoch.

    Pairs of tensors are kept on the trial's device as a whole and are by far the fastest; a
    Dataset with a length is read through a DataLoader.
    """

    train: Split
    validation: Split
    test: Split | None = None


# Keyed weakly by the trainable's class: a class defined anew in a notebook loads anew, and the
# data of the old one can go.
_LOADED: WeakKeyDictionary[type, dict[tuple[str | None, str], Data]] = WeakKeyDictionary()


def shared_data(
    owner: type,
    load: Callable[[str | None], Data],
    data_dir: str | Path | None,
    device: torch.device,
) -> Data:
    """Return what `load(data_dir)` gives, on `device`; loaded once for each owner and folder.

    Every process loads under the same seed, so that splits drawn at random are the same for all
    trials. A relative `data_dir` counts from where the job was started, since Ray moves each
    trial to a working directory of its own. Raises `InvalidInput` when the splits are unusable.
    """
    cache = _LOADED.setdefault(owner, {})
    folder = None if data_dir is None else _absolute(data_dir)
    key = (folder, str(device))
    if key not in cache:
        seed_everything(0)
        cache[key] = _placed(load(folder), owner, device)
    return cache[key]


def _absolute(data_dir: str | Path) -> str:
    started_in = os.environ.get("TUNE_ORIG_WORKING_DIR", Path.cwd())
    return str(started_in / Path(data_dir).expanduser())


def _placed(data: Data, owner: type, device: torch.device) -> Data:
    where = f"{owner.__name__}.build_data"
    if not isinstance(data, Data):
        raise InvalidInput(
            f"{where} must return Data, got {type(data).__name__}; "
            "return Data(train, validation, test)"
        )
    test = None if data.test is None else _placed_split(data.test, "test", where, 1, device)
    return Data(
        # One sample cannot be batch-normalised.
        _placed_split(data.train, "train", where, 2, device),
        _placed_split(data.validation, "validation", where, 1, device),
        test,
    )


def _placed_split(split: Any, name: str, where: str, least: int, device: torch.device) -> Split:
    if isinstance(split, TensorDataset):
        split = split.tensors
    if isinstance(split, (tuple, list)):
        split = tuple(split)
        if len(split) != 2 or not all(isinstance(part, Tensor) for part in split):
            raise InvalidInput(
                f"the {name} split of {where} must be two tensors, (inputs, targets), "
                f"got {', '.join(type(part).__name__ for part in split) or 'none'}; "
                "torch.from_numpy makes a tensor of an array"
            )
        inputs, targets = split
        if len(inputs) != len(targets):
            raise InvalidInput(
                f"the {name} split of {where} must hold a target for each input, "
                f"got {len(inputs)} inputs and {len(targets)} targets; drop what has no partner"
            )
        placed: Split = (inputs.to(device), targets.to(device))
    elif isinstance(split, Dataset) and hasattr(split, "__len__"):
        placed = split
    else:
        raise InvalidInput(
            f"the {name} split of {where} must be two tensors or a Dataset with a length, "
            f"got {type(split).__name__}; return (inputs, targets)"
        )
    if sample_count(placed) < least:
        raise InvalidInput(
            f"the {name} split of {where} must hold >= {least} samples, "
            f"got {sample_count(placed)}; check the data folder"
        )
    return placed


def sample_count(split: Split) -> int:
    """Return how many samples a checked split holds."""
    return len(split[0]) if isinstance(split, tuple) else len(split)  # type: ignore[arg-type]
