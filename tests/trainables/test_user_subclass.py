"""What a person can write: as little as a model and data, or any part of the loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from smallest_net import Smallest, comparable, epochs, points, reports
from torch import nn

from trainables import Data, RotationTrainable
from tuner.errors import InvalidInput


def test_a_model_and_data_are_enough():
    last = epochs(Smallest(config={"max_epochs": 5, "batch_size": 10}), 5)[-1]
    assert last["done"]
    assert last["val_accuracy"] > 0.9
    assert {"rotation/0.weight", "rotation/2.weight", "rotation_min"} <= last.keys()
    assert not [key for key in last if key.startswith("test_")]


def test_the_config_reaches_the_model():
    trial = Smallest(config={"width": 16})
    trial.step()
    assert trial.model[0].out_features == 16


def test_nothing_is_built_before_the_first_step():
    class Broken(Smallest):
        def build_model(self, config):
            raise InvalidInput("width must be > 0, got 0; use 8")

    trial = Broken(config={"batch_size": -1})
    assert trial.reset({})
    with pytest.raises(InvalidInput, match="width must be"):
        trial.train()


def test_an_own_epoch_can_use_the_loops_parts():
    class Clipped(Smallest):
        rates = ()

        def train_epoch(self):
            losses, rates = [], []
            for inputs, target in self.training_batches():
                rates.append(self.optimizer.param_groups[0]["lr"])
                loss = self.loss(self.model(inputs), target)
                self.optimize(loss)
                losses.append(loss.item())
            self.rates = (*self.rates, *rates)
            return sum(losses) / len(losses)

    trial = Clipped(config={"max_epochs": 2, "batch_size": 50, "lr": 0.5, "warmup_epochs": 1})
    first, last = epochs(trial)
    assert trial.rates == (0.25, 0.5, 0.5, 0.5)
    assert (first["lr_progress"], last["lr_progress"]) == (0.75 / 1.75, 1.0)
    assert first["train_loss"] > last["train_loss"]


def test_an_own_epoch_is_called_for_each_part_and_its_losses_are_averaged():
    class Counted(Smallest):
        calls = ()

        def train_epoch(self):
            count = sum(len(target) for _, target in self.training_batches())
            self.calls = (*self.calls, count)
            return float(len(self.calls))

    trial = Counted(config={"max_epochs": 2, "batch_size": 20, "reports_per_epoch": 2})
    found = reports(trial)
    assert trial.calls == (60, 40, 60, 40)
    assert [report["train_loss"] for report in found] == pytest.approx([1, 1.4, 3, 3.4])


def test_an_own_epoch_without_the_batches_reports_whole_epochs_only():
    class OwnLoader(Smallest):
        def train_epoch(self):
            self.optimize(self.loss(self.model(points(10, 3)[0]), points(10, 3)[1]))
            return 0.5

    found = reports(OwnLoader(config={"max_epochs": 2, "batch_size": 10, "reports_per_epoch": 4}))
    assert [report["epoch"] for report in found] == [1, 2]
    assert [report["progress"] for report in found] == [0.5, 1.0]
    assert [report["train_loss"] for report in found] == [0.5, 0.5]


def test_leaving_the_loop_early_skips_the_rest_of_the_part():
    class Hasty(Smallest):
        rates = ()

        def train_epoch(self):
            for _ in self.training_batches():
                self.rates = (*self.rates, self.optimizer.param_groups[0]["lr"])
                break
            return 1.0

    trial = Hasty(
        config={"max_epochs": 2, "batch_size": 25, "warmup_epochs": 1, "reports_per_epoch": 2}
    )
    found = reports(trial)
    assert [report["progress"] for report in found] == [0.25, 0.5, 0.75, 1.0]
    assert trial.rates == pytest.approx((0.025, 0.075, 0.1, 0.1))


def test_an_own_optimizer_keeps_the_rates_of_its_groups_apart():
    class TwoGroups(Smallest):
        def build_optimizer(self, model, config):
            slow, fast = model[0].parameters(), model[2].parameters()
            return torch.optim.SGD([{"params": slow, "lr": 0.01}, {"params": fast, "lr": 1.0}])

    trial = TwoGroups(config={"max_epochs": 2, "batch_size": 50, "schedule": "step"})
    rates = []
    for _ in range(2):
        trial.step()
        rates.append([group["lr"] for group in trial.optimizer.param_groups])
    assert rates == [[0.01, 1.0], pytest.approx([0.0004, 0.04])]


def test_own_metrics_are_reported_for_both_splits():
    class Counts(Smallest):
        metric = "val_samples"

        def build_data(self, data_dir):
            return Data(points(100, 0), points(50, 1), points(30, 2))

        def evaluate(self, data):
            assert not self.model.training
            assert not torch.is_grad_enabled()
            return {"val_samples": sum(len(target) for _, target in self.evaluation_batches(data))}

    last = epochs(Counts(config={"max_epochs": 1}), 1)[0]
    assert (last["val_samples"], last["test_samples"]) == (50, 30)


def test_targets_that_are_no_classes_have_a_loss_and_no_accuracy():
    class Regression(RotationTrainable):
        metric, mode = "val_loss", "min"

        def build_model(self, config):
            return nn.Linear(4, 1)

        def build_data(self, data_dir):
            inputs, _ = points(100, 0)
            return Data((inputs, inputs.sum(dim=1)), (inputs, inputs.sum(dim=1)))

        def loss(self, output, target):
            return nn.functional.mse_loss(output[:, 0], target)

    report = epochs(Regression(config={"lr": 0.01}), 1)[0]
    assert report["val_loss"] > 0
    assert "val_accuracy" not in report


def test_excluded_layers_are_not_reported():
    class WithoutHead(Smallest):
        exclude = ("2.*",)

    report = epochs(WithoutHead(config={}), 1)[0]
    assert [key for key in report if key.startswith("rotation/")] == ["rotation/0.weight"]


@pytest.mark.parametrize("batch_size", [99, 33, 11])
def test_a_last_batch_of_one_sample_does_not_stop_batch_normalisation(batch_size):
    epochs(Smallest(config={"batch_size": batch_size}))


class Sized(Smallest):
    """Keeps what it was configured with, and counts its epochs, as people do."""

    def setup(self, config):
        super().setup(config)
        self.width = config["width"]

    def build_model(self, config):
        return super().build_model({"width": self.width})

    def train_epoch(self):
        self.calls = getattr(self, "calls", 0) + 1
        self.mean = 0.5 * getattr(self, "mean", 0.0) + 0.5
        return super().train_epoch()

    def get_extra_state(self):
        return {"calls": np.int64(self.calls), "means": [np.float32(self.mean), np.ones(2)]}

    def set_extra_state(self, state):
        self.calls, self.mean = state["calls"], state["means"][0]


def test_setup_runs_for_every_trial_and_nothing_of_the_last_one_stays():
    trial = Sized(config={"width": 4, "max_epochs": 2, "reports_per_epoch": 1})
    epochs(trial, 2)
    assert trial.calls == 2
    assert trial.reset({"width": 16, "max_epochs": 2, "reports_per_epoch": 1})
    assert not hasattr(trial, "calls")
    assert not hasattr(trial, "mean")
    assert trial.width == 16
    assert trial.model[0].out_features == 16
    again = [comparable(report) for report in epochs(trial, 2)]
    fresh = Sized(config={"width": 16, "max_epochs": 2, "reports_per_epoch": 1})
    assert again == [comparable(report) for report in epochs(fresh, 2)]


def test_state_of_ones_own_is_in_the_checkpoint(tmp_path):
    config = {"width": 4, "max_epochs": 3, "reports_per_epoch": 1}
    first = Sized(config=dict(config))
    first.train()
    first.save_checkpoint(str(tmp_path))
    again = Sized(config=dict(config))
    again.load_checkpoint(str(tmp_path))
    assert (again.calls, again.mean) == (1, 0.5)
    again.train()
    assert again.calls == 2


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"seen": {1, 2}}, r"the extra state\['seen'\] is a builtins.set"),
        ({"a": [object()]}, r"the extra state\['a'\]\[0\] is a builtins.object"),
    ],
)
def test_state_that_no_checkpoint_can_hold_is_refused_at_the_first_one(tmp_path, state, message):
    class Odd(Smallest):
        def get_extra_state(self):
            return state

    trial = Odd(config={"max_epochs": 3})
    trial.train()
    with pytest.raises(InvalidInput, match=message):
        trial.save_checkpoint(str(tmp_path))


def test_numbers_of_numpy_in_an_optimizer_are_saved_and_read(tmp_path):
    class Numpy(Smallest):
        def build_optimizer(self, model, config):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            optimizer.param_groups[0]["scale"] = np.float64(0.5)
            return optimizer

    trial = Numpy(config={"max_epochs": 3})
    trial.train()
    trial.save_checkpoint(str(tmp_path))
    again = Numpy(config={"max_epochs": 3})
    again.load_checkpoint(str(tmp_path))
    assert again.optimizer.param_groups[0]["scale"] == 0.5
    assert again.train()["train_loss"] == trial.train()["train_loss"]


def test_what_an_own_constructor_sets_is_set_again_for_every_trial():
    class Remembering(Smallest):
        def __init__(self, *args, **kwargs):
            self.early = []
            super().__init__(*args, **kwargs)
            self.history = []

        def train_epoch(self):
            self.history.append(1)
            self.early.append(1)
            return super().train_epoch()

    config = {"max_epochs": 2, "reports_per_epoch": 1}
    trial = Remembering(config=dict(config))
    for _ in range(3):
        epochs(trial, 2)
        assert (trial.history, trial.early) == ([1, 1], [1, 1])
        assert trial.reset(dict(config))
        assert trial.iteration == 0
