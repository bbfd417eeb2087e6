"""Checkpoints: when they are asked for, and that a trial continues from one as if unbroken."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from smallest_net import Pairs, Smallest, epochs
from torch import nn

from trainables import Data


def test_datasets_resume_in_the_same_order(tmp_path):
    class FromDataset(Smallest):
        def build_data(self, data_dir):
            return Data(Pairs(100, 0), Pairs(50, 1))

    unbroken = FromDataset(config={})
    unbroken.step()
    unbroken.save(str(tmp_path))
    resumed = FromDataset(config={})
    resumed.restore(str(tmp_path))
    assert epochs(resumed) == epochs(unbroken)


def test_every_generator_resumes_where_it_was(tmp_path):
    class Noisy(Smallest):
        def build_model(self, config):
            return nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 2))

        def loss(self, output, target):
            noise = random.random() + np.random.random() + np.random.standard_normal()
            return super().loss(output, target) * (1 + noise / 10)

    unbroken = Noisy(config={"optimizer": "adamw", "lr": np.float64(0.01)})
    unbroken.step()
    unbroken.save(str(tmp_path))
    expected = epochs(unbroken, 3)
    resumed = Noisy(config={"optimizer": "adamw", "lr": np.float64(0.01)})
    resumed.restore(str(tmp_path))
    assert epochs(resumed, 3) == expected


def test_a_changed_learning_rate_holds_after_a_restore(tmp_path):
    trial = Smallest(config={"lr": 0.1})
    trial.step()
    trial.save(str(tmp_path))
    perturbed = Smallest(config={"lr": 0.02})
    perturbed.restore(str(tmp_path))
    perturbed.step()
    assert perturbed.optimizer.param_groups[0]["lr"] == 0.02


def test_a_trial_restored_from_its_last_epoch_reports_it_again(tmp_path):
    trial = Smallest(config={"max_epochs": 2})
    last = epochs(trial)[-1]
    trial.save(str(tmp_path))
    restored = Smallest(config={"max_epochs": 2})
    restored.restore(str(tmp_path))
    assert epochs(restored, 1) == [last]


def test_a_checkpoint_has_the_format_that_earlier_versions_can_read_and_wrote(tmp_path):
    trial = Smallest(config={})
    trial.step()
    trial.save(str(tmp_path))
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert state.keys() == {
        *("model", "optimizer", "scaler", "monitor", "position", "batch_size"),
        *("extra", "rng", "rng_of_others"),
    }
    assert state["position"].keys() == {"epoch", "step", "samples", "train_loss"}
    assert state["rng"].keys() == {"python", "numpy", "torch", "cuda", "shuffle"}


@pytest.mark.parametrize(
    ("every_s", "asked"), [(0, [True, True, True]), (3600, [None, None, True])]
)
def test_checkpoints_are_asked_for_by_time_and_at_the_end(every_s, asked):
    trial = Smallest(config={"max_epochs": 3, "checkpoint_every_s": every_s})
    assert [trial.step().get("should_checkpoint") for _ in range(3)] == asked
