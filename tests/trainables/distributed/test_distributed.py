"""A trial on several processes trains as one on one, and never leaves anything behind."""

from __future__ import annotations

import copy
import gc
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from shared_nets import CONFIG, OfDataset, Shared, alone, other_processes
from smallest_net import epochs, reports
from torch import nn

from trainables.distributed.data_parallel import DataShard
from tuner.errors import InvalidInput


@pytest.fixture(scope="module")
def two():
    """Return a function that makes a new trial of the one that has two processes."""
    trial = Shared(config={})

    def make(**config) -> Shared:
        assert trial.reset({**CONFIG, "processes": 2, **config})
        return trial

    yield make
    trial.stop()


@pytest.fixture
def _no_others(two):
    """End the processes of the trial that has two."""
    two(processes=1).step()
    assert other_processes() == []


def assert_alike(one: nn.Module, other: nn.Module) -> None:
    for expected, found in zip(one.parameters(), other.parameters(), strict=True):
        assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"batch_size": 9},  # shares of 5 and 4, and a last batch of 1, which is dropped
        {"batch_size": 34},  # a last batch of 32
        {"batch_size": 15, "optimizer": "adamw", "lr": 0.01},
        {"batch_size": 9, "optimizer": "layca"},
        {"reports_per_epoch": 3},
        {"net": "half used", "weight_decay": 0.1},
    ],
    ids=str,
)
def test_two_processes_train_as_one(two, config):
    one, both = alone(**config), two(**config)
    for expected, found in zip(reports(one), reports(both), strict=True):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert_alike(one.model, both.model)


def test_a_last_batch_too_small_to_share_is_learnt_by_each_and_counts_once(two):
    one, both = alone(batch_size=97), two(batch_size=97)
    epochs(one)
    epochs(both)
    assert_alike(one.model, both.model)


def test_the_shards_make_up_the_batch_and_their_weights_its_mean():
    batch = torch.arange(11.0)
    shards = [DataShard(rank, 4) for rank in range(4)]
    selected = [shard.select(batch) for shard in shards]
    assert torch.cat(selected).tolist() == batch.tolist()
    weighted = [
        shard.weight(11) * samples.mean() for shard, samples in zip(shards, selected, strict=True)
    ]
    assert sum(weighted) / 4 == pytest.approx(batch.mean())
    small = batch[:7]
    assert [shard.select(small).tolist() for shard in shards] == [small.tolist()] * 4
    assert [shard.weight(7) for shard in shards] == [1.0] * 4


def notes(folder: Path, what: str) -> tuple[list[str], list[str]]:
    def of(rank: int) -> list[str]:
        lines = (folder / str(rank)).read_text().splitlines()
        return [line for line in lines if line.startswith(what)]

    return of(0), of(1)


def test_each_process_draws_its_own_noise_and_the_same_again(two, tmp_path):
    folders = tmp_path / "one", tmp_path / "other"
    found = []
    for folder in folders:
        folder.mkdir()
        found.append(epochs(two(noisy=True, notes=str(folder))))
    assert found[0] == found[1]
    first, second = notes(folders[0], "noise")
    assert len(first) == len(second) == 20
    assert not {*first} & {*second}
    assert notes(folders[1], "noise") == (first, second)


def test_on_a_cpu_running_statistics_are_the_mean_over_the_processes(two, tmp_path):
    trial = two(net="normalised", notes=str(tmp_path))
    epochs(trial)
    first, second = notes(tmp_path, "mean")
    steps = len(first) // 2
    # Each normalises its own share, and after an epoch they go on from the same.
    assert first[1:steps] != second[1:steps]
    assert first[steps] == second[steps]
    assert epochs(trial, 1)[-1]["val_accuracy"] > 0.9


@pytest.mark.parametrize("parts", [1, 2], ids=["after an epoch", "within one"])
def test_a_checkpoint_continues_as_if_unbroken(two, tmp_path, parts):
    config = {"noisy": True, "net": "normalised", "reports_per_epoch": parts}
    trial = two(**config)
    trial.step()
    trial.save(str(tmp_path))
    expected = epochs(trial, 2)
    again = two(**config)
    again.restore(str(tmp_path))
    assert epochs(again, 2) == expected


def test_the_model_is_the_users_own_and_can_be_copied(two):
    trial = two()
    trial.step()
    assert type(trial.model) is nn.Sequential
    assert list(trial.model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    mean = copy.deepcopy(trial.model).train()
    mean(torch.ones(2, 4)).sum().backward()  # nobody else takes this step
    assert mean[0].weight.grad is not None
    assert trial.model[0].weight is not mean[0].weight


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler: no g++")
def test_a_compiled_model_trains_as_one_too(two):
    one = alone()
    expected = epochs(one)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler warns of what it deprecates in itself
        trial = two(compile=True)
        found = epochs(trial)
    for report, other in zip(expected, found, strict=True):
        assert other == pytest.approx(report, abs=1e-4)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_checkpoint_continues_with_another_number_of_processes(two, tmp_path, before, after):
    unbroken = alone(reports_per_epoch=2)
    expected = reports(unbroken)[1:]
    trial = two(processes=before, reports_per_epoch=2)
    trial.step()
    trial.save(str(tmp_path))
    trial = two(processes=after, reports_per_epoch=2)
    trial.restore(str(tmp_path))
    for report, other in zip(reports(trial), expected, strict=True):
        assert other == pytest.approx(report, rel=1e-5, abs=1e-6)
    assert_alike(unbroken.model, trial.model)


def test_the_next_trial_has_the_same_processes_and_one_alone_has_none(two):
    two().step()
    pids = other_processes()
    assert len(pids) == 1
    two(lr=0.1).step()
    assert other_processes() == pids
    two(processes=1).step()
    assert other_processes() == []
    assert not torch.distributed.is_initialized()


@pytest.mark.usefixtures("_no_others")
def test_three_processes_train_as_one_on_a_dataset_and_end_with_the_trial():
    torch.set_num_threads(6)
    one = alone(OfDataset, batch_size=15)
    several = alone(OfDataset, batch_size=15, processes=3)
    expected, found = epochs(one), epochs(several)
    for report, other in zip(expected, found, strict=True):
        assert other == pytest.approx(report, rel=1e-5, abs=1e-6)
    assert_alike(one.model, several.model)
    assert len(other_processes()) == 2
    assert torch.get_num_threads() == 2
    several.stop()
    assert other_processes() == []
    assert torch.get_num_threads() == 6


@pytest.mark.usefixtures("_no_others")
def test_a_trial_that_is_forgotten_ends_its_processes():
    trial = alone(processes=2)
    trial.step()
    with pytest.raises(InvalidInput, match="only one trial on several processes"):
        alone(processes=2).step()
    del trial
    gc.collect()
    assert other_processes() == []
