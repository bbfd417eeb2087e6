"""Every included space suggests configs that every trainable accepts."""

from __future__ import annotations

import optuna
import pytest

from search_spaces import SPACES, find
from trainables.training.config import KEYS, read_settings
from tuner.errors import InvalidInput

# How many keys a space sets without searching them: all but `mixed` name one optimizer.
FIXED = {"mixed": 0}


def suggestions(name: str, seed: int = 0, count: int = 40) -> list[tuple[dict, dict]]:
    """Return the configs that a space gives, each with the parameters that were suggested."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trials = [study.ask() for _ in range(count)]
    return [(SPACES[name](trial), trial.params) for trial in trials]


@pytest.fixture(params=SPACES)
def space(request) -> str:
    return request.param


def test_every_config_is_valid_however_short_the_run(space):
    for config, _ in suggestions(space):
        read_settings({**config, "max_epochs": 1})


def test_only_known_keys_are_given_and_all_of_them_searched(space):
    for config, searched in suggestions(space):
        assert config.keys() <= KEYS
        assert len(searched) == len(config) - FIXED.get(space, 1)


def test_the_same_seed_gives_the_same_configs(space):
    assert suggestions(space, seed=1) == suggestions(space, seed=1)
    assert suggestions(space, seed=1) != suggestions(space, seed=2)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "layca"])
def test_a_space_of_one_optimizer_names_it(name):
    assert {config["optimizer"] for config, _ in suggestions(name)} == {name}


def test_a_budget_of_rotation_is_a_distance_below_a_quarter_turn():
    distances = [config["final_distance"] for config, _ in suggestions("rotation-budget")]
    assert 0.05 <= min(distances) < 0.2 < 0.8 < max(distances) < 1


def test_mixed_chooses_among_all_and_names_their_parameters_apart():
    chosen = set()
    for config, searched in suggestions("mixed"):
        optimizer = config["optimizer"]
        chosen.add(optimizer)
        rate = "final_distance" if optimizer == "layca" else "lr"
        assert searched[f"{optimizer}_{rate}"] == config[rate]
        assert "lr" not in searched
        assert not [name for name in searched if name.startswith("beta")]
    assert chosen == {"sgd", "adam", "adamw", "rmsprop", "layca"}


def test_mixed_searches_each_optimizer_as_its_own_space_does():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(40):
        trial = study.ask()
        config = SPACES["mixed"](trial)
        if config["optimizer"] == "layca":
            continue  # its own space searches the rate
        own = study.ask()
        SPACES[config["optimizer"]](own)
        prefix = f"{config['optimizer']}_"
        ranges = {name.removeprefix(prefix): of for name, of in trial.distributions.items()}
        ranges.pop("optimizer")
        assert ranges == own.distributions


def test_every_space_says_its_ranges_in_one_line(space):
    assert find(space) is SPACES[space]
    assert (SPACES[space].__doc__ or "").partition("\n")[0].endswith(".")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InvalidInput, match="unknown search space 'adamw2'; known: adamw, adam"):
        find("adamw2")
