"""Passes over a split: what is in them, in which order, and what a single last sample does."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import Dataset

from trainables.training.data import make_batches

CPU = torch.device("cpu")


class Squares(Dataset):
    """n, n squared."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int):
        return torch.tensor([number]), number**2


def tensors(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.arange(count)
    return numbers[:, None], numbers**2


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def numbers(batches) -> list[int]:
    return [int(number) for inputs, _ in batches for number in inputs]


@pytest.fixture(params=[tensors, Squares])
def split(request):
    return request.param


@pytest.mark.parametrize(("count", "size"), [(10, 3), (10, 4), (10, 20), (5, 1)])
def test_a_plain_pass_holds_every_sample_in_order(split, count, size):
    batches = make_batches(split(count), size, CPU)
    if count == 10 and size == 3:
        assert [len(inputs) for inputs, _ in batches] == [3, 3, 3, 1]
    assert numbers(batches) == list(range(count))
    assert len(list(batches)) == len(batches)


def test_inputs_keep_their_targets(split):
    for inputs, targets in make_batches(split(10), 3, CPU, generator=generator()):
        assert (inputs[:, 0] ** 2 == targets).all()


def test_each_shuffled_pass_has_another_order(split):
    batches = make_batches(split(12), 4, CPU, generator=generator())
    first, second = numbers(batches), numbers(batches)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(12))


def test_tensors_and_datasets_are_shuffled_alike():
    passes = [
        numbers(make_batches(make(12), 4, CPU, generator=generator()))
        for make in (tensors, Squares)
    ]
    assert passes[0] == passes[1]


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 1, [1, 1, 1]), (3, 8, [3])],
)
def test_a_shuffled_pass_drops_a_last_batch_of_one(split, count, size, sizes):
    batches = make_batches(split(count), size, CPU, generator=generator())
    assert [len(targets) for _, targets in batches] == sizes
    assert len(batches) == len(sizes)


def test_fewer_samples_are_the_same_ones_for_every_seed(split):
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    chosen = [
        sorted(numbers(make_batches(split(100), 5, CPU, generator=seed, samples=10)))
        for seed in seeds
    ]
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) == 10
    assert chosen[0] != list(range(10))
