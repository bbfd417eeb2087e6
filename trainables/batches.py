"""Passes over a split in batches, in file order or in an order that a generator draws."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from trainables.data import Split, sample_count
from trainables.share import ALONE, Share

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

    def cut(self, numbers: Tensor, share: Share = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
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

    def cut(self, numbers: Tensor, share: Share = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
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
