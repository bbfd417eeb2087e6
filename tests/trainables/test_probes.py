"""Probes of real networks at constant rates, from one initialisation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from smallest_net import Smallest
from torch import nn

from trainables import Data, DigitsMlp, Layca, RotationTrainable
from tuner import InvalidInput
from tuner.rate_finder.estimate import FoundRates
from tuner.rate_finder.probes import LR_RANGES, run_probes
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


class OwnOptimizer(DigitsMlp):
    """Has an optimizer of its own, at a rate of its own."""

    def build_optimizer(self, model, config):
        return torch.optim.SGD(model.parameters(), lr=0.1)


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


@pytest.mark.parametrize(("optimizer", "lengths"), [("sgd", (1, 1.9, 2.71)), ("adamw", (1, 1, 1))])
def test_learning_rates_are_spread_over_their_range_and_forecast_what_a_run_reaches(
    optimizer, lengths
):
    config = {"optimizer": optimizer, "schedule": "cosine", "max_epochs": 10, "batch_size": 32}
    probed = run_probes(DigitsMlp, config)
    assert not probed.sets_rotation
    # Momentum builds up, and Adam's averages are corrected for that.
    assert probed.lengths[:3] == pytest.approx(lengths)
    found = FoundRates(probed)
    rates = [probe.rate for probe in probed.probes]
    low, high = LR_RANGES[optimizer]
    assert rates == pytest.approx([low * (high / low) ** (part / 4) for part in (1, 2, 3, 4)])
    assert probed.epochs <= 1
    trial = DigitsMlp(config={**config, "lr": rates[1]})
    report = trial.train()
    while not report["done"]:
        report = trial.train()
    # Of three kernels the one between the ends is hidden.
    reaches = report["rotation/hidden2.weight"]
    (ends,) = found.distances([rates[1]])
    assert ends.low < reaches < ends.high
    assert ends.mid == pytest.approx(reaches, abs=0.15)
    assert reaches > 1.5 * probed.probes[1].distances[-1][1]


def test_learning_rates_may_be_looked_for_in_another_range():
    config = {"optimizer": "sgd", "max_epochs": 10, "batch_size": 32}
    rates = [probe.rate for probe in run_probes(DigitsMlp, config, (0.01, 0.16)).probes]
    assert rates == pytest.approx([0.02, 0.04, 0.08, 0.16])


def test_a_probe_ends_where_it_breaks_down():
    config = {"optimizer": "sgd", "max_epochs": 10, "batch_size": 5}
    probed = run_probes(Hopeless, config, (1e-4, 1e12))
    *_, fastest = probed.probes
    assert not math.isfinite(fastest.losses[-1])
    assert fastest.steps[-1] < probed.probes[0].steps[-1]
    found = FoundRates(probed)
    assert found.learns[-1] is False
    assert found.targetable is False
    assert 0 < found.rate < math.inf


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
        (
            DigitsMlp,
            {"optimizer": "adagrad"},
            "must be one whose rate can be found, got adagrad; us",
        ),
        (OwnOptimizer, {}, "must return a Layca that takes its rate .*, got SGD; leave it out"),
        (
            OwnOptimizer,
            {"optimizer": "sgd"},
            "must take its learning rate from .*, got 0.1 at each",
        ),
        (
            OwnRate,
            {"optimizer": "sgd"},
            "build_optimizer must return no Layca for sgd; leave it out",
        ),
        (OwnRate, {}, "must return a Layca that takes its rate from the config's lr, got Layca"),
        (Whole, {}, "train_epoch must take its batches from training_batches"),
    ],
)
def test_what_cannot_be_probed_is_told_in_one_line(kind, config, said):
    with pytest.raises(InvalidInput, match=said) as told:
        run_probes(kind, {**LAYCA, **config})
    assert "\n" not in str(told.value)
