"""What a trainable sets for its own task: its epochs and defaults, over which the config wins."""

from __future__ import annotations

import pytest
from smallest_net import Smallest

from tuner.errors import InvalidInput


class Own(Smallest):
    epochs = 3
    defaults = {"batch_size": 25, "schedule": "step", "step_at": (0.5,), "width": 5}  # noqa: RUF012


def settings(trial):
    trial.step()
    return trial.training_state.settings


def test_defaults_and_epochs_hold_where_the_config_says_nothing():
    trial = Own(config={"lr": 0.01})
    found = settings(trial)
    assert (found.max_epochs, found.batch_size, found.schedule) == (3, 25, "step")
    assert trial.model[0].out_features == 5
    assert trial.task_config == {**Own.defaults, "max_epochs": 3, "lr": 0.01}
    assert trial.config == {"lr": 0.01}


def test_the_config_wins_key_by_key():
    found = settings(Own(config={"batch_size": 50, "max_epochs": 7}))
    assert (found.max_epochs, found.batch_size, found.step_at) == (7, 50, (0.5,))


def test_a_reused_actor_takes_them_anew():
    trial = Own(config={"batch_size": 50})
    trial.step()
    assert trial.reset({})
    assert settings(trial).batch_size == 25


def test_without_any_the_settings_own_defaults_hold():
    found = settings(Smallest(config={}))
    assert (found.max_epochs, found.batch_size) == (20, 128)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"defaults": {"batch_size": 0}}, "Broken.defaults cannot be used: batch_size must be"),
        ({"defaults": {"schedule": "stp"}}, "Broken.defaults .* unknown schedule 'stp'"),
        ({"epochs": 0.5}, "Broken.defaults .* max_epochs must be a whole number >= 1, got 0.5"),
    ],
)
def test_a_wrong_default_is_one_line_that_names_the_class(changes, says):
    broken = type("Broken", (Smallest,), changes)
    # A trial that gives another value does not hide it.
    with pytest.raises(InvalidInput, match=says) as raised:
        broken(config={"batch_size": 8, "schedule": "cosine", "max_epochs": 2}).step()
    assert "\n" not in str(raised.value)


def test_a_default_warmup_is_held_against_the_trials_own_epochs():
    class Warm(Smallest):
        epochs = 20
        defaults = {"warmup_epochs": 5}  # noqa: RUF012

    assert settings(Warm(config={"max_epochs": 6})).warmup_epochs == 5
    with pytest.raises(InvalidInput, match=r"warmup_epochs must be < max_epochs \(5\), got 5"):
        Warm(config={"max_epochs": 5}).step()
