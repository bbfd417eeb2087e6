"""Training data: checked, loaded once per process, shared by its trials, and read in batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from trainables.distributed.data_parallel import ALONE, DataShard
from trainables.training.randomness import seed_everything
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


SUBSET_SEED = 0
"""The subset of `train_samples` is the same for every trial, so that trials can be compared."""

SEEDING_SAMPLES = 16
"""So many shuffled sample numbers tell one part of one epoch from any other."""


class Order:
    """The sample numbers of each batch, drawn anew for every pass when there is a generator.

    A drawn pass drops a last batch of a single sample, which cannot be batch-normalised; it is
    another sample in each pass. A pass in file order keeps everything.
    """

    def __init__(self, numbers: Tensor, batch_size: int, generator: torch.Generator | None):
        self.numbers = numbers
        self.batch_size = batch_size
        self.generator = generator
        leaves_one = batch_size > 1 and len(numbers) % batch_size == 1
        self.kept = len(numbers) - int(leaves_one and generator is not None)

    def __len__(self) -> int:
        """Return the batches of one pass."""
        return -(-self.kept // self.batch_size)

    def draw(self) -> Tensor:
        """Return the sample numbers of the next pass, shape `(kept,)`."""
        if self.generator is None:
            return self.numbers
        drawn = torch.randperm(len(self.numbers), generator=self.generator)
        return self.numbers[drawn[: self.kept]]


class TensorBatches:
    """Batches of a pair of tensors, cut out where the tensors are; only numbers are copied."""

    def __init__(self, split: tuple[Tensor, Tensor], order: Order):
        self.inputs, self.targets = split
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.cut(self.order.draw())

    def cut(self, numbers: Tensor, share: DataShard = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the shares of the batches of these sample numbers, a pass or a part of one."""
        for batch in torch.split(numbers.to(self.inputs.device), self.order.batch_size):
            mine = share.take(batch)
            yield self.inputs[mine], self.targets[mine]


class DatasetBatches:
    """Batches of a Dataset, collated by a DataLoader and moved to the device.

    What worker processes draw at random depends on the samples that a pass, or a part of one, is
    asked for, and on nothing else.
    """

    def __init__(self, split: Split, order: Order, device: torch.device, num_workers: int):
        self.split = split
        self.order = order
        self.device = device
        self.num_workers = num_workers

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.cut(self.order.draw())

    def cut(self, numbers: Tensor, share: DataShard = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the shares of the batches of these sample numbers; no others are loaded."""
        batches = [share.take(batch) for batch in torch.split(numbers, self.order.batch_size)]
        # A loader seeds its workers from the global generator unless it has one of its own, and a
        # trial's weights would then depend on how many parts its epochs have.
        seed = hash(tuple(torch.cat(batches)[:SEEDING_SAMPLES].tolist()))
        loader = DataLoader(
            self.split,  # type: ignore[arg-type]
            batch_sampler=map(Tensor.tolist, batches),
            num_workers=self.num_workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator().manual_seed(seed),
        )
        for inputs, targets in loader:
            yield (
                inputs.to(self.device, non_blocking=True),
                targets.to(self.device, non_blocking=True),
            )


Batches = TensorBatches | DatasetBatches


def make_batches(
    split: Split,
    batch_size: int,
    device: torch.device,
    *,
    generator: torch.Generator | None = None,
    samples: int | None = None,
    num_workers: int = 0,
) -> Batches:
    """Return an iterable of (inputs, targets) on `device`; each iteration is one pass.

    With a `generator` every pass is shuffled by it. `samples` keeps only so many of the split
    (at most all of it), a fixed random choice.
    """
    count = sample_count(split)
    if samples is None:
        numbers = torch.arange(count)
    else:
        chosen = torch.randperm(count, generator=torch.Generator().manual_seed(SUBSET_SEED))
        numbers = chosen[:samples]
    order = Order(numbers, batch_size, generator)
    if isinstance(split, tuple):
        return TensorBatches(split, order)
    return DatasetBatches(split, order, device, num_workers)
