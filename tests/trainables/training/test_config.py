"""Config values are checked once, at the first step, each with a line that says what to do."""

from __future__ import annotations

import numpy as np
import pytest

from trainables import DigitsMlp
from trainables.training.config import KEYS, plain_config, read_settings
from tuner.errors import InvalidInput


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number >= 1, got 0; leave it out"),
        ({"batch_size": 2.5}, "batch_size must be a whole number >= 1, got 2.5"),
        ({"batch_size": True}, "batch_size must be a whole number >= 1, got True"),
        ({"lr": 0}, "lr must be a number > 0, got 0"),
        ({"lr": -1e-3}, "lr must be a number > 0, got -0.001"),
        ({"lr": float("nan")}, "lr must be a number > 0, got nan"),
        ({"lr": float("inf")}, "lr must be a number > 0, got inf"),
        ({"lr": "0.1"}, "lr must be a number > 0, got '0.1'"),
        ({"lr": None}, "lr must be a number > 0, got None"),
        ({"lr": True}, "lr must be a number > 0, got True"),
        ({"max_epochs": 0}, "max_epochs must be a whole number >= 1"),
        ({"momentum": 1}, "momentum must be a number in [0, 1), got 1"),
        ({"beta2": 1.0}, "beta2 must be a number in [0, 1)"),
        ({"weight_decay": -1}, "weight_decay must be a number >= 0"),
        ({"nesterov": 1}, "nesterov must be true or false"),
        ({"alpha": 1}, "alpha must be a number in (-1, 1), got 1; leave it out"),
        ({"layer_rates": {"hidden1*": -1}}, "to numbers >= 0, or None for 1 everywhere, got {'hid"),
        ({"layer_rates": [1, 2, 3]}, "layer_rates must be a mapping of layer name patterns"),
        ({"layer_rates": {"*": 2}}, "layer_rates must come with an optimizer that sets the rota"),
        (
            {"optimizer": "layca", "layer_rates": {"conv*": 2}},
            "layer_rates pattern 'conv*' matches no layer; known: hidden1.weight",
        ),
        ({"train_others": 0}, "train_others must be true or false, got 0"),
        ({"seed": -1}, "seed must be a whole number in [0, 2**32)"),
        ({"seed": 2**32}, "seed must be a whole number in [0, 2**32)"),
        ({"train_samples": 1}, "train_samples must be a whole number >= 2"),
        ({"data_dir": 3}, "data_dir must be the path of a folder"),
        ({"num_workers": -1}, "num_workers must be a whole number >= 0"),
        ({"checkpoint_every_s": -1}, "checkpoint_every_s must be a number >= 0"),
        ({"amp": True}, "amp must be 'auto' or 'off'"),
        ({"reports_per_epoch": 0}, "reports_per_epoch must be a whole number >= 1, or two of them"),
        ({"reports_per_epoch": [4, 0]}, "of each later one, got [4, 0]; leave it out"),
        ({"reports_per_epoch": (4, 2, 1)}, ", got (4, 2, 1); leave it out for the default"),
        ({"reports_per_epoch": 1.5}, "of each later one, got 1.5"),
        ({"reports_per_epoch": True}, "of each later one, got True"),
        ({"reports_per_epoch": [[4, 1], 1]}, "of each later one, got [[4, 1], 1]"),
        ({"step_factor": 0}, "step_factor must be a number > 0"),
        ({"step_at": [0.5, 1]}, "step_at must be a list of shares"),
        ({"step_at": 0.5}, "step_at must be a list of shares"),
        ({"warmup_epochs": -1}, "warmup_epochs must be a number >= 0"),
        ({"warmup_epochs": 2, "max_epochs": 2}, "warmup_epochs must be < max_epochs (2), got 2"),
        ({"optimizer": "sgdm"}, "unknown optimizer 'sgdm'; known: sgd"),
        ({"optimizer": ["sgd"]}, "unknown optimizer"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; known: cosine"),
    ],
)
def test_a_bad_value_is_one_line_with_rule_value_and_remedy(config, says):
    trial = DigitsMlp(config=config)
    with pytest.raises(InvalidInput) as raised:
        trial.step()
    assert says in str(raised.value)
    assert ";" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_keys_of_the_subclass_are_left_to_it():
    read_settings({"width": 64, "activation": "gelu"})


def test_numpy_scalars_count_as_numbers():
    config = plain_config({"batch_size": np.int64(8), "lr": np.float32(0.5), "width": np.int8(3)})
    assert config == {"batch_size": 8, "lr": 0.5, "width": 3}
    assert {type(value) for value in config.values()} == {int, float}
    assert read_settings(config).batch_size == 8


def test_numpy_scalars_inside_lists_and_mappings_count_as_numbers():
    config = {
        "reports_per_epoch": [2, np.int64(5)],
        "step_at": (np.float32(0.5),),
        "optimizer": "layca",
        "layer_rates": {"head.*": np.float32(2)},
    }
    settings = read_settings(config)
    assert (settings.reports_per_epoch, settings.step_at) == ((2, 5), (0.5,))
    assert type(plain_config(config)["layer_rates"]["head.*"]) is float


def test_every_default_keeps_its_own_rule():
    defaults = vars(read_settings({}))
    assert defaults.keys() < KEYS
    assert vars(read_settings(defaults)) == defaults
