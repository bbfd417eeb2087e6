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

from trainables.distributed.data_parallel import SINGLE_PROCESS, DataShard
from trainables.training.randomness import seed_everything
from tuner.errors import InvalidInput

Split = tuple[Tensor, Tensor] | Dataset[Any]
"""Tensors of inputs and targets (first axis: samples), or a Dataset of (input, target) items."""


class Data(NamedTuple):
    """The splits of a task: for training, for the metric, and for the test at the last epoch.

    A pair of tensors stays on the trial's device as a whole and is by far the fastest. A Dataset
    must have a length; a DataLoader reads it.

    Example:
        >>> inputs, targets = torch.randn(100, 4), torch.randint(0, 2, (100,))
        >>> data = Data((inputs[:80], targets[:80]), (inputs[80:], targets[80:]))
        >>> data.test is None
        True
    """

    train: Split
    validation: Split
    test: Split | None = None


# The keys are weak: if a notebook defines a class again, the data of the old class can go.
_LOADED: WeakKeyDictionary[type, dict[tuple[str | None, str], Data]] = WeakKeyDictionary()


def shared_data(
    owner: type,
    load: Callable[[str | None], Data],
    data_dir: str | Path | None,
    device: torch.device,
) -> Data:
    """Return the data of a trainable on a device; load it once for each class and folder.

    Every process loads with the same seed. So all trials have the same random splits.

    Args:
        owner: the class whose trials share the data.
        load: returns the splits of a folder.
        data_dir: the folder. A relative path counts from the folder where the job was started,
            because Ray gives each trial its own working directory.
        device: the device of the tensors.

    Raises:
        InvalidInput: the splits cannot be used.
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
    """Return the data on a device after its checks."""
    where = f"{owner.__name__}.build_data"
    if not isinstance(data, Data):
        raise InvalidInput(
            f"{where} must return Data, got {type(data).__name__}; "
            "return Data(train, validation, test)"
        )
    test = None if data.test is None else _placed_split(data.test, "test", where, 1, device)
    return Data(
        # A single sample cannot be batch-normalised.
        _placed_split(data.train, "train", where, 2, device),
        _placed_split(data.validation, "validation", where, 1, device),
        test,
    )


def _placed_split(split: Any, name: str, where: str, minimum: int, device: torch.device) -> Split:
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
                f"got {len(inputs)} inputs and {len(targets)} targets; drop the unpaired samples"
            )
        placed: Split = (inputs.to(device), targets.to(device))
    elif isinstance(split, Dataset) and hasattr(split, "__len__"):
        placed = split
    else:
        raise InvalidInput(
            f"the {name} split of {where} must be two tensors or a Dataset with a length, "
            f"got {type(split).__name__}; return (inputs, targets)"
        )
    if sample_count(placed) < minimum:
        raise InvalidInput(
            f"the {name} split of {where} must hold >= {minimum} samples, "
            f"got {sample_count(placed)}; check the data folder"
        )
    return placed


def sample_count(split: Split) -> int:
    """Return the number of samples of a checked split."""
    return len(split[0]) if isinstance(split, tuple) else len(split)  # type: ignore[arg-type]


SUBSET_SEED = 0
"""The subset of `train_samples` is the same for every trial, so that trials can be compared."""

SEEDING_SAMPLES = 16
"""This many shuffled sample numbers identify an interval of an epoch."""


class Order:
    """The sample numbers of a pass; with a generator, each pass has a new random order.

    A random pass drops a last batch of a single sample, which cannot be batch-normalised. Each pass
    drops another sample.

    Args:
        numbers: the numbers of the samples, shape (n,).
        batch_size: samples of a batch.
        generator: draws the order; None keeps the order of `numbers`.
    """

    def __init__(self, numbers: Tensor, batch_size: int, generator: torch.Generator | None):
        self.numbers = numbers
        self.batch_size = batch_size
        self.generator = generator
        single_left = len(numbers) > 1 and len(numbers) % batch_size == 1
        self.kept = len(numbers) - int(single_left and generator is not None)

    def __len__(self) -> int:
        """Return the number of batches of one pass."""
        return -(-self.kept // self.batch_size)

    def draw(self) -> Tensor:
        """Return the sample numbers of the next pass, shape `(kept,)`."""
        if self.generator is None:
            return self.numbers
        drawn = torch.randperm(len(self.numbers), generator=self.generator)
        return self.numbers[drawn[: self.kept]]


class TensorBatches:
    """Batches of a pair of tensors, selected on the tensors' device."""

    def __init__(self, split: tuple[Tensor, Tensor], order: Order):
        self.inputs, self.targets = split
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.load(self.order.draw())

    def load(
        self, numbers: Tensor, shard: DataShard = SINGLE_PROCESS
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's shard of each batch of the given sample numbers."""
        for batch in torch.split(numbers.to(self.inputs.device), self.order.batch_size):
            own = shard.select(batch)
            yield self.inputs[own], self.targets[own]


class DatasetBatches:
    """Batches of a Dataset, which a DataLoader collates and moves to the device.

    The random numbers of the loader's workers depend only on the requested sample numbers.
    """

    def __init__(self, split: Split, order: Order, device: torch.device, num_workers: int):
        self.split = split
        self.order = order
        self.device = device
        self.num_workers = num_workers

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.load(self.order.draw())

    def load(
        self, numbers: Tensor, shard: DataShard = SINGLE_PROCESS
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's shard of each batch of the given sample numbers.

        No other samples are loaded.
        """
        batches = [shard.select(batch) for batch in torch.split(numbers, self.order.batch_size)]
        # Without its own generator, a loader seeds its workers from the global generator. The
        # weights of a trial would then depend on the number of its reports.
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
    """Return an iterable of (inputs, targets) on a device; each iteration is one pass.

    Args:
        split: a checked split.
        batch_size: samples of a batch.
        device: the device of the batches.
        generator: shuffles every pass; None keeps the order of the split.
        samples: how many samples of the split to use, a fixed random choice; None uses all.
        num_workers: loader processes for a Dataset.
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
