"""Probes of real networks at constant rates, from one initialisation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from smallest_net import Smallest
from torch import nn

from trainables import Data, DigitsMlp, Layca, RotationTrainable
from trainables.probes import run_probes
from tuner import InvalidInput
from tuner.rotation.finding import FoundRates
from tuner.rotation.rate import RateRelation

LAYCA = {"optimizer": "layca", "schedule": "cosine", "max_epochs": 10}


class Hopeless(RotationTrainable):
    """Four layers whose loss rises: its value is the opposite of what its gradient is of."""

    def build_model(self, config):
        return nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))

    def build_data(self, data_dir):
        inputs = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
        return Data(train=(inputs, inputs), validation=(inputs[:10], inputs[:10]))

    def loss(self, output, target):
        loss = (output - target).square().mean()
        return 2 * loss.detach() - loss


class BreaksDown(Hopeless):
    """Has no loss from the third step on."""

    def loss(self, output, target):
        self.taken = getattr(self, "taken", 0) + 1
        return super().loss(output, target) * (math.nan if self.taken > 2 else 1.0)


class Whole(DigitsMlp):
    """Trains an epoch in a way of its own."""

    def train_epoch(self):
        return 1.0


class OwnRate(DigitsMlp):
    """Has a rate of its own."""

    def build_optimizer(self, model, config):
        return Layca(torch.optim.SGD(model.parameters(), lr=0.1), rate=0.1)


def test_every_probe_starts_from_the_same_weights_and_takes_a_quarter_of_an_epoch_at_most():
    probed = run_probes(DigitsMlp, {**LAYCA, "batch_size": 32, "lr": 0.7, "warmup_epochs": 2})
    assert (probed.steps_per_epoch, len(probed.factors), probed.momentum) == (38, 380, 0.9)
    assert probed.layers == ("hidden1.weight", "hidden2.weight", "head.weight")
    assert [probe.steps[-1] for probe in probed.probes] == [9] * 4
    # The real run's, which its probes do not go through.
    assert probed.factors[0] < probed.factors[76] > probed.factors[-1]
    rates = [probe.rate for probe in probed.probes]
    relation = RateRelation(0.9)
    assert rates[:3] == [relation.rate_for(at, probed.factors) for at in (0.3, 0.7, 0.95)]
    assert rates[3] >= 2.5 * rates[2]
    for slower, faster in zip(probed.probes, probed.probes[1:], strict=False):
        assert slower.distances[-1] < faster.distances[-1]
    # A first step of equal direction turns by the rate.
    trial = DigitsMlp(config={**LAYCA, "batch_size": 32, "lr": rates[1], "schedule": "constant"})
    trial.config["reports_per_epoch"] = 38
    first = [trial.train() for _ in range(2)][-1]
    assert probed.probes[1].steps[0] == 2
    assert probed.probes[1].distances[0][1] == pytest.approx(first["rotation/hidden2.weight"])
    assert list(Path(trial.logdir).parent.glob("*")).count(Path(trial.logdir)) == 1


def test_layers_of_unequal_rates_have_their_shares():
    probed = run_probes(Smallest, {**LAYCA, "alpha": 0.5, "batch_size": 5})
    assert probed.shares == (0.5**5, 1.0)
    assert probed.probes[0].distances[-1][0] < probed.probes[0].distances[-1][1]


def test_where_the_loss_rises_at_every_rate_rotation_cannot_be_targeted():
    found = FoundRates(run_probes(Hopeless, {**LAYCA, "batch_size": 10}))
    assert found.learns == (False,) * 4
    assert found.targetable is False


def test_a_probe_that_breaks_down_does_not_learn():
    found = FoundRates(run_probes(BreaksDown, {**LAYCA, "batch_size": 10}))
    assert found.learns == (False,) * 4
    assert 0 < found.rate < 1


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        (DigitsMlp, {"batch_size": 512}, "at least 4 steps, one for each probe, got 3; use a sma"),
        (DigitsMlp, {"batch_size": -1}, "batch_size must be a whole number >= 1"),
        (DigitsMlp, {"optimizer": "adam"}, "must return a Layca that .*, got Adam; leave it out"),
        (OwnRate, {}, "must return a Layca that takes its rate from the config's lr, got Layca"),
        (Whole, {}, "train_epoch must take its batches from training_batches"),
    ],
)
def test_what_cannot_be_probed_is_told_in_one_line(kind, config, said):
    with pytest.raises(InvalidInput, match=said) as told:
        run_probes(kind, {**LAYCA, **config})
    assert "\n" not in str(told.value)
