"""Finding the rate of rotation by real probes, in a process of Ray's."""

from __future__ import annotations

import sys

import pytest
from ray import cloudpickle

from search_spaces import SPACES
from trainables import DigitsMlp
from tuner import InvalidInput, TuningJob, find_rate

# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.usefixtures("two_cpus")


def space(trial):
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "layca"])
    batch_size = 32 if optimizer == "layca" else 128
    return {"optimizer": optimizer, "batch_size": batch_size, "lr": 0.5, "schedule": "cosine"}


def usual(trial):
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "adamw"])
    own = {"momentum": 0.5} if optimizer == "sgd" else {"weight_decay": 0.02}
    lr = trial.suggest_float(f"{optimizer}_lr", 1e-4, 0.0256, log=True)
    return {"optimizer": optimizer, "lr": lr, "batch_size": 32, "schedule": "cosine", **own}


class Broken(DigitsMlp):
    """Has no model."""

    def build_model(self, config):
        raise RuntimeError("no model\nat all")


def job(trainable, **fields) -> TuningJob:
    defaults = {"name": "rates", "search_space": space, "max_epochs": 10}
    return TuningJob(trainable=trainable, **{**defaults, **fields})


def test_probes_cost_less_than_an_epoch_and_are_of_the_spaces_own_configuration_for_layca():
    found = find_rate(job(DigitsMlp))
    assert found.config == {"optimizer": "layca", "batch_size": 32, "schedule": "cosine"}
    assert (found.probed.steps_per_epoch, len(found.probed.factors)) == (38, 380)
    assert found.probed.steps == 36
    assert 0 < found.probed.epochs <= 1
    assert found.targetable is True
    low, high = found.range
    assert 0.001 < low < found.rate == high < 0.5
    assert found.distances([found.rate])[0].mid == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("optimizer", ["layca", "layca-adam"])
def test_a_space_that_searches_rotation_is_probed_where_its_studies_begin(optimizer):
    found = find_rate(job(DigitsMlp, search_space=SPACES["rotation-budget"]), optimizer=optimizer)
    expected = {"optimizer": optimizer, "batch_size": 128, "schedule": "cosine"}
    assert found.config.items() >= expected.items()


def test_a_usual_optimizer_is_probed_over_what_the_space_searches_of_its_learning_rate():
    found = find_rate(job(DigitsMlp, search_space=usual), optimizer="adamw", distance=0.3)
    assert found.config == {
        "optimizer": "adamw",
        "batch_size": 32,
        "schedule": "cosine",
        "weight_decay": 0.02,
    }
    rates = [probe.rate for probe in found.probed.probes]
    assert rates == pytest.approx([0.0004, 0.0016, 0.0064, 0.0256])
    assert found.probed.epochs <= 1
    (ends,) = found.distances([found.rate])
    assert ends.low < ends.mid < ends.high
    assert ends.mid == pytest.approx(0.3, abs=0.02)
    assert found.targetable is True


def test_an_optimizer_that_the_space_lacks_has_its_usual_range_and_nothing_of_the_others():
    found = find_rate(job(DigitsMlp, search_space=usual), optimizer="rmsprop")
    assert found.config == {"optimizer": "rmsprop", "batch_size": 32, "schedule": "cosine"}
    assert found.probed.probes[-1].rate == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("fields", "asked", "said"),
    [
        ({}, {"config": {"batch_size": 512}}, "at least 4 steps, one for each probe, got 3"),
        ({"trainable": Broken}, {}, "a trial must train, Broken raised RuntimeError: no model; ru"),
        ({"cpus_per_trial": 99}, {}, "at most the 2 CPUs that one node has, got 99"),
        (
            {},
            {"optimizer": "adagrad"},
            "must be one whose rate can be found, got adagrad; use sgd, ",
        ),
        ({}, {"distance": 2}, r"distance must be in \(0, 1\), got 2"),
    ],
)
def test_what_cannot_be_probed_is_told_in_one_line(fields, asked, said):
    with pytest.raises(InvalidInput, match=said) as told:
        find_rate(job(**{"trainable": DigitsMlp, **fields}), **asked)
    assert "\n" not in str(told.value)
