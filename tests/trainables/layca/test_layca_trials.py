"""Trials whose config names Layca: the angle of each step, the schedule, the checkpoint."""

from __future__ import annotations

import math

import pytest
from smallest_net import Smallest, reports
from turned_net import array

from tests.reference import turn
from trainables.training.schedules import lr_factors

CONFIG = {"max_epochs": 2, "batch_size": 20, "schedule": "cosine", "optimizer": "layca"}


class Watched(Smallest):
    """Keeps the angle that each kernel turned by at each step."""

    def optimize(self, loss):
        kernels = [self.model[0].weight, self.model[2].weight]
        before = [array(kernel) for kernel in kernels]
        super().optimize(loss)
        turned = [turn(array(now), then) for now, then in zip(kernels, before, strict=True)]
        self.angles = [*getattr(self, "angles", []), turned]


@pytest.mark.parametrize(
    ("changes", "rate", "layers"),
    [
        ({}, 3**-3, (1, 1)),
        ({"lr": 0.1, "momentum": 0.0}, 0.1, (1, 1)),
        ({"alpha": 0.2}, 3**-3, (0.8**5, 1)),
        ({"alpha": -0.2, "weight_decay": 0.1}, 3**-3, (1, 0.8**5)),
        ({"optimizer": "layca-adam"}, 3**-5, (1, 1)),
        ({"optimizer": "layca-adam", "lr": 0.01, "beta1": 0.5}, 0.01, (1, 1)),
    ],
)
def test_each_step_turns_each_layer_by_what_is_left_of_the_rate(changes, rate, layers):
    trial = Watched(config={**CONFIG, **changes})
    reports(trial)
    factors = lr_factors("cosine", 10)
    expected = [[math.atan(rate * at * layer) for layer in layers] for at in factors]
    # At the end of a cosine the angle comes near to what float32 weights can hold.
    assert [angle for step in trial.angles for angle in step] == pytest.approx(
        [angle for step in expected for angle in step], rel=1e-5, abs=1e-7
    )


@pytest.mark.parametrize("train_others", [True, False])
def test_the_other_parameters_train_unless_told_otherwise(train_others):
    trial = Smallest(config={**CONFIG, "train_others": train_others, "warmup_epochs": 0.5})
    initial = trial.model[1].weight.detach().clone()
    reports(trial)
    assert (trial.model[1].weight == initial).all() != train_others


@pytest.mark.parametrize("optimizer", ["layca", "layca-adam"])
@pytest.mark.parametrize("reports_per_epoch", [1, 2], ids=["at-an-end", "within"])
def test_a_resumed_trial_reports_what_an_unbroken_one_does(optimizer, reports_per_epoch, tmp_path):
    config = {**CONFIG, "optimizer": optimizer, "reports_per_epoch": reports_per_epoch}
    unbroken = Smallest(config=config)
    unbroken.train()
    saved = unbroken.save(str(tmp_path))
    expected = reports(unbroken, 1)

    resumed = Smallest(config={**config, "seed": 7})
    resumed.restore(saved)
    assert reports(resumed, 1) == expected


def test_a_restored_trial_turns_at_its_own_rate_and_not_at_the_saved_one(tmp_path):
    donor = Smallest(config=CONFIG)
    donor.train()
    saved = donor.save(str(tmp_path))
    trial = Watched(config={**CONFIG, "lr": 0.2, "schedule": "constant"})
    trial.restore(saved)
    reports(trial, 1)
    assert trial.angles[0] == pytest.approx([math.atan(0.2)] * 2, rel=1e-5)
