"""Data: loaded once for all trials, the same in every process, and checked before it is used."""

from __future__ import annotations

import pytest
import torch
from smallest_net import Pairs, Smallest, epochs, points
from torch.utils.data import TensorDataset

from trainables import Data
from tuner.errors import InvalidInput


def test_the_data_is_loaded_once_for_all_trials_of_a_process():
    loads = []

    class Counted(Smallest):
        def build_data(self, data_dir):
            loads.append(data_dir)
            return super().build_data(data_dir)

    first = Counted(config={})
    first.step()
    assert first.reset({"batch_size": 20})
    first.step()
    Counted(config={"seed": 1}).step()
    assert loads == [None]


def test_a_random_split_is_the_same_in_every_process():
    class RandomSplit(Smallest):
        def build_data(self, data_dir):
            inputs, targets = points(150, 0)
            order = torch.randperm(150)
            train, rest = order[:100], order[100:]
            return Data((inputs[train], targets[train]), (inputs[rest], targets[rest]))

    class SameAgain(RandomSplit):
        pass

    held_out = []
    for owner, seed in ((RandomSplit, 1), (SameAgain, 2)):
        torch.manual_seed(seed)
        trial = owner(config={"seed": seed})
        trial.step()
        held_out.append(trial.training_state.data.validation[0])
    assert torch.equal(*held_out)


def test_the_first_trial_of_a_process_trains_like_the_later_ones():
    class DrawsWhileLoading(Smallest):
        def build_data(self, data_dir):
            torch.rand(3)
            return super().build_data(data_dir)

    assert epochs(DrawsWhileLoading(config={})) == epochs(DrawsWhileLoading(config={}))


@pytest.mark.parametrize("make", [Pairs, lambda *of: TensorDataset(*points(*of))])
def test_a_dataset_trains_as_its_tensors_do(make):
    class FromDataset(Smallest):
        def build_data(self, data_dir):
            return Data(make(100, 0), make(50, 1), make(30, 2))

    last = epochs(FromDataset(config={"max_epochs": 2, "batch_size": 16}))[-1]
    assert 0 <= last.pop("test_accuracy") <= 1
    last.pop("test_loss")
    assert last == epochs(Smallest(config={"max_epochs": 2, "batch_size": 16}))[-1]


def test_a_relative_folder_counts_from_where_the_job_was_started(tmp_path, monkeypatch):
    folders = []

    class Where(Smallest):
        def build_data(self, data_dir):
            folders.append(data_dir)
            return super().build_data(data_dir)

    monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", str(tmp_path))
    Where(config={"data_dir": "data"}).step()
    assert folders == [str(tmp_path / "data")]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ((points(9, 0), points(9, 1)), "must return Data, got tuple"),
        (Data(points(1, 0), points(9, 1)), "train split .* >= 2 samples, got 1"),
        (Data(points(9, 0), points(0, 1)), "validation split .* >= 1 samples, got 0"),
        (Data(points(9, 0), points(9, 1), points(0, 2)), "test split .* >= 1 samples, got 0"),
        (Data((torch.ones(3), torch.ones(2)), points(9, 1)), "got 3 inputs and 2 targets"),
        (Data(([1], [2]), points(9, 1)), "must be two tensors, .* got list, list"),
        (Data(torch.ones(3, 2), points(9, 1)), "or a Dataset with a length, got Tensor"),
    ],
)
def test_unusable_data_is_one_line_that_names_the_split(data, says):
    class Unusable(Smallest):
        def build_data(self, data_dir):
            return data

    with pytest.raises(InvalidInput, match=says):
        Unusable(config={}).step()


def test_more_samples_than_there_are_is_one_line():
    with pytest.raises(InvalidInput, match=r"train_samples must be <= 100, .* got 101; leave it"):
        Smallest(config={"train_samples": 101}).step()
