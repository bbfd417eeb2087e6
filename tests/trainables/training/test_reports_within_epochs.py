"""Reports and checkpoints within an epoch: they change nothing of how the trial trains."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
import torch
from smallest_net import Pairs, Smallest, epochs, points, reports
from torch import nn

from trainables import Data

CONFIG = {"max_epochs": 2, "batch_size": 9, "schedule": "cosine", "warmup_epochs": 0.5}
STEPS = 11  # of 9 samples each; the hundredth, alone in a batch, is dropped


class FromTensors(Smallest):
    """With Dropout, whose draws tell whether every generator is where it should be."""

    def build_model(self, config):
        return nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2)
        )


class FromDataset(FromTensors):
    def build_data(self, data_dir):
        return Data(Pairs(100, 0), Pairs(50, 1))


both = pytest.mark.parametrize("trainable", [FromTensors, FromDataset])


def start(trainable: type[Smallest], **changes) -> Smallest:
    return trainable(config={**CONFIG, **changes})


def same_weights(one: Smallest, other: Smallest) -> bool:
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


@both
@pytest.mark.parametrize("reports_per_epoch", [3, 4, 11, (2, 5)])
def test_more_reports_change_neither_the_weights_nor_the_reports_of_whole_epochs(
    trainable, reports_per_epoch
):
    plain = start(trainable, reports_per_epoch=1)
    often = start(trainable, reports_per_epoch=reports_per_epoch)
    for expected, report in zip(epochs(plain), epochs(often), strict=True):
        assert report.pop("train_loss") == pytest.approx(expected.pop("train_loss"), rel=1e-12)
        assert report == expected
    assert same_weights(plain, often)


@both
@pytest.mark.parametrize("after", range(1, 8))
def test_a_trial_goes_on_from_any_report_as_if_unbroken(trainable, after, tmp_path):
    unbroken = start(trainable, reports_per_epoch=(4, 3))
    for _ in range(after):
        last = unbroken.step()
    unbroken.save(str(tmp_path))
    left = 2 if last["progress"] < 0.5 else 1
    expected = reports(unbroken, left)

    resumed = start(trainable, reports_per_epoch=(4, 3), seed=5)
    resumed.restore(str(tmp_path))
    assert reports(resumed, left) == expected
    assert same_weights(resumed, unbroken)


@both
def test_a_trial_in_the_middle_of_an_epoch_can_be_taken_back_to_another(trainable, tmp_path):
    trial = start(trainable, reports_per_epoch=4)
    trial.step()
    trial.save(str(tmp_path))
    expected = reports(trial)
    again = start(trainable, reports_per_epoch=4, seed=5)
    for _ in range(3):
        again.step()
    again.restore(str(tmp_path))
    # A checkpoint of a trial that was restored and has not gone on yet is as good as its own.
    again.save(str(tmp_path / "again"))
    again.restore(str(tmp_path / "again"))
    assert reports(again) == expected


def test_a_report_within_an_epoch_says_how_far_it_is_and_nothing_of_the_metric():
    found = reports(start(FromTensors, reports_per_epoch=(4, 1)))
    within = [report for report in found if "epoch" not in report]
    assert len(found) == 5
    assert [report["progress"] for report in found] == [
        done / (2 * STEPS) for done in (3, 6, 9, STEPS, 2 * STEPS)
    ]
    rotations = {"rotation/0.weight", "rotation/4.weight", "rotation_min", "rotation_mean"}
    for report in within:
        assert report.keys() == {"progress", "lr_progress", "train_loss", "done", *rotations}


def test_the_learning_rate_and_its_clock_count_the_steps_of_the_whole_run():
    class Watched(FromTensors):
        def optimize(self, loss):
            rates.append(self.optimizer.param_groups[0]["lr"])
            super().optimize(loss)

    rates = []
    epochs(start(Watched, reports_per_epoch=1))
    expected, rates = rates, []
    found = reports(start(Watched, reports_per_epoch=3))
    assert rates == expected
    spent = np.array(list(accumulate(rates))) / sum(rates)
    assert [report["lr_progress"] for report in found] == pytest.approx(
        spent[[3, 7, 10, 14, 18, 21]]
    )


def test_the_loss_is_the_mean_since_the_last_report_and_at_the_end_over_the_epoch():
    class Recorded(FromTensors):
        def loss(self, output, target):
            loss = super().loss(output, target)
            if self.model.training:
                losses.append(loss.item())
            return loss

    losses = []
    found = reports(start(Recorded, reports_per_epoch=3), 1)
    parts = [losses[:4], losses[4:8], losses]
    assert [report["train_loss"] for report in found] == pytest.approx(
        [sum(part) / len(part) for part in parts]
    )


@both
def test_the_parts_of_an_epoch_share_one_order_and_each_epoch_has_its_own(trainable):
    class Watched(trainable):
        def loss(self, output, target):
            if self.model.training:
                targets.append(tuple(target.tolist()))
            return super().loss(output, target)

    targets = []
    reports(start(Watched, reports_per_epoch=1))
    expected, targets = targets, []
    reports(start(Watched, reports_per_epoch=4))
    assert targets == expected
    assert targets[:STEPS] != targets[STEPS:]


def test_going_on_loads_only_the_samples_that_are_left(tmp_path):
    class Counting(Pairs):
        def __getitem__(self, number):
            loaded.append(number)
            return super().__getitem__(number)

    class Counted(FromDataset):
        def build_data(self, data_dir):
            return Data(Counting(100, 0), Pairs(50, 1))

    loaded = []
    trial = start(Counted, reports_per_epoch=4)
    trial.step()
    trial.save(str(tmp_path))
    first, loaded = loaded, []
    assert len(first) == 3 * 9
    resumed = start(Counted, reports_per_epoch=4)
    resumed.restore(str(tmp_path))
    reports(resumed, 1)
    assert len(loaded) == 8 * 9
    assert not {*first} & {*loaded}


@pytest.mark.parametrize(("batch_size", "progress"), [(4, 7 / 25), (50, 1 / 2)])
def test_another_batch_size_goes_on_with_the_batch_of_the_next_sample(
    batch_size, progress, tmp_path
):
    trial = start(FromTensors, reports_per_epoch=4)
    trial.step()
    trial.save(str(tmp_path))
    resumed = start(FromTensors, reports_per_epoch=4, batch_size=batch_size)
    resumed.restore(str(tmp_path))
    # 27 samples are done: 6 batches of 4 and a half, or no batch of 50.
    assert resumed.step()["progress"] == progress / 2


@pytest.mark.parametrize(("every_s", "asked"), [(0, [True] * 4), (3600, [None, None, None, True])])
def test_checkpoints_are_asked_for_by_time_after_any_report(every_s, asked):
    trial = start(FromTensors, reports_per_epoch=2, checkpoint_every_s=every_s)
    assert [trial.step().get("should_checkpoint") for _ in range(4)] == asked


def test_by_default_a_long_first_epoch_reports_within_and_a_short_one_does_not():
    class Long(FromTensors):
        def build_data(self, data_dir):
            return Data(points(5600, 0), points(50, 1))

    whole = ["epoch" in report for report in reports(Long(config={"max_epochs": 2}))]
    assert whole == [False, False, False, True, True]
    assert len(reports(start(FromTensors))) == 2


def test_random_transforms_in_workers_go_on_as_if_unbroken(tmp_path):
    class Noisy(Pairs):
        def __getitem__(self, number):
            inputs, target = super().__getitem__(number)
            return inputs + torch.randn(4), target

    class Augmented(FromTensors):
        def build_data(self, data_dir):
            return Data(Noisy(100, 0), Pairs(50, 1))

    config = {"reports_per_epoch": 2, "num_workers": 1}
    unbroken = start(Augmented, **config)
    unbroken.step()
    unbroken.save(str(tmp_path))
    expected = reports(unbroken)
    resumed = start(Augmented, **config)
    resumed.restore(str(tmp_path))
    assert reports(resumed) == expected
