"""Search spaces in every form people write them suggest what their authors meant."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from ray import tune

from tuner.errors import InvalidInput
from tuner.study.search_space import as_function, fingerprint, suggest

# A busy machine is no reason to fail.
UNHURRIED = settings(deadline=None, max_examples=60)
# Of eight values the rarest is missed by so many draws in less than one case of a million.
DRAWS = 600


def ask(seed: int = 0) -> optuna.Trial:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()


def distribution_of(domain: Any) -> BaseDistribution:
    trial = ask()
    suggest(as_function({"x": domain}), trial)
    return trial.distributions["x"]


def reachable(distribution: BaseDistribution) -> list[Any]:
    """Return every value that an Optuna distribution can give."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    assert isinstance(distribution, FloatDistribution)
    assert distribution.step is not None
    steps = round((distribution.high - distribution.low) / distribution.step)
    return [distribution.low + step * distribution.step for step in range(steps + 1)]


def drawn_by_ray(domain: Any) -> list[Any]:
    """Return every value that Ray draws, in order."""
    return sorted({round(float(value), 9) for value in domain.sample(size=DRAWS, random_state=0)})


def rounded(values: list[Any]) -> list[float]:
    return [round(float(value), 9) for value in values]


class TestOptunaDistributions:
    def test_nested_dicts_and_constants_keep_their_places(self):
        space = as_function(
            {
                "lr": FloatDistribution(0.1, 0.2),
                "model": {"layers": IntDistribution(1, 3), "act": {"name": "relu"}, "bias": None},
                "sizes": [1, 2],
            }
        )
        trial = ask()
        config = suggest(space, trial)
        assert trial.params.keys() == {"lr", "model/layers"}
        assert config == {
            "lr": trial.params["lr"],
            "model": {
                "layers": trial.params["model/layers"],
                "act": {"name": "relu"},
                "bias": None,
            },
            "sizes": [1, 2],
        }

    @pytest.mark.parametrize(
        "distribution",
        [
            FloatDistribution(1e-4, 1.0, log=True),
            FloatDistribution(0.0, 0.9, step=0.3),
            IntDistribution(1, 64, log=True),
            IntDistribution(2, 10, step=4),
            CategoricalDistribution(["sgd", None, 2, 0.5, True]),
        ],
    )
    def test_a_distribution_is_drawn_as_it_is(self, distribution):
        assert distribution_of(distribution) == distribution


class TestRayDomains:
    @pytest.mark.parametrize(
        ("domain", "values"),
        [
            (tune.randint(2, 5), [2, 3, 4]),
            (tune.randint(-2, 0), [-2, -1]),
            (tune.randint(3, 4), [3]),
            (tune.lograndint(1, 6), [1, 2, 3, 4, 5]),
            (tune.qrandint(0, 12, 4), [0, 4, 8, 12]),
            (tune.qrandint(3, 13, 4), [4, 8, 12]),
            (tune.qrandint(2, 6, 2), [2, 4, 6]),
            (tune.qrandint(2, 6, 1), [2, 3, 4, 5]),
            (tune.qlograndint(2, 6, 1), [2, 3, 4, 5]),
            (tune.quniform(0.0, 1.0, 0.25), [0.0, 0.25, 0.5, 0.75, 1.0]),
            (tune.quniform(0.1, 0.7, 0.1), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
            (tune.quniform(-3.0, 3.0, 1.5), [-3.0, -1.5, 0.0, 1.5, 3.0]),
            (tune.choice([1, 4, 9]), [1, 4, 9]),
        ],
    )
    def test_every_value_that_ray_draws_can_be_suggested_and_no_other(self, domain, values):
        assert drawn_by_ray(domain) == rounded(values)
        assert rounded(reachable(distribution_of(domain))) == rounded(values)

    @UNHURRIED
    @given(st.integers(-30, 30), st.integers(0, 40), st.integers(1, 9))
    def test_quantized_integers_are_those_of_ray(self, low, width, q):
        width = min(width, 7 * q)
        multiples = [value for value in range(low, low + width + 1) if value % q == 0]
        if not multiples or (q == 1 and width == 0):
            return
        domain = tune.qrandint(low, low + width, q)
        assert reachable(distribution_of(domain)) == drawn_by_ray(domain)

    @UNHURRIED
    @given(st.integers(-10, 10), st.integers(1, 7), st.sampled_from([0.05, 0.1, 0.3, 1.0, 2.5]))
    def test_quantized_floats_are_those_of_ray(self, first, steps, q):
        domain = tune.quniform(first * q, (first + steps) * q, q)
        assert rounded(reachable(distribution_of(domain))) == drawn_by_ray(domain)

    @UNHURRIED
    @given(st.integers(1, 20), st.integers(1, 7), st.booleans())
    def test_integers_are_those_of_ray(self, low, width, log):
        domain = (tune.lograndint if log else tune.randint)(low, low + width)
        distribution = distribution_of(domain)
        assert reachable(distribution) == drawn_by_ray(domain)
        assert distribution.log == log

    @UNHURRIED
    @given(st.floats(1e-6, 1e3), st.floats(1.01, 1e3), st.booleans())
    def test_floats_are_drawn_from_the_same_range_on_the_same_scale(self, low, times, log):
        domain = (tune.loguniform if log else tune.uniform)(low, low * times)
        assert distribution_of(domain) == FloatDistribution(low, low * times, log=log)

    def test_a_choice_among_plain_values_keeps_them_and_their_types(self):
        choices = ["sgd", None, 2, 0.5, True]
        assert reachable(distribution_of(tune.choice(choices))) == choices

    def test_a_choice_among_other_values_gives_the_values_themselves(self):
        layers = [[64], [64, 32], (1, 2), {"a": 1}]
        space = as_function({"layers": tune.choice(layers)})
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        trials = [study.ask() for _ in range(60)]
        chosen = [suggest(space, trial)["layers"] for trial in trials]
        assert all(value in layers for value in chosen)
        assert all(value in chosen for value in layers)
        assert {trial.params["layers"] for trial in trials} == {str(value) for value in layers}

    def test_choices_that_look_alike_are_told_apart(self):
        choices = [[1], "[1]", (2,)]
        space = as_function({"x": tune.choice(choices)})
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        chosen = [suggest(space, study.ask())["x"] for _ in range(60)]
        assert all(value in chosen for value in choices)

    def test_domains_may_be_nested_among_constants(self):
        space = as_function({"model": {"width": tune.randint(1, 9)}, "epochs": 3})
        trial = ask()
        assert suggest(space, trial) == {
            "model": {"width": trial.params["model/width"]},
            "epochs": 3,
        }

    @pytest.mark.parametrize(
        ("domain", "told"),
        [
            (tune.grid_search([1, 2]), "got tune.grid_search; use tune.choice"),
            (tune.randn(0, 1), "got tune.randn"),
            (tune.qrandn(0, 1, 0.1), "got tune.randn"),
            (tune.sample_from(lambda _: 1), "got tune.sample_from"),
            (tune.qloguniform(2, 8, 2), "got a quantised log domain; use tune.loguniform"),
            (tune.qloguniform(1, 8, 1), "got a quantised log domain; use tune.loguniform"),
            (tune.qlograndint(2, 8, 2), "got a quantised log domain"),
            (tune.randint(3, 3), ""),
            (tune.qrandint(11, 19, 10), ""),
            (tune.choice([1, {"a": tune.sample_from(lambda _: 1)}]), "got tune.sample_from"),
            ([{"a": tune.grid_search([1, 2])}], "got tune.grid_search"),
        ],
    )
    def test_what_optuna_cannot_draw_is_refused_by_one_line(self, domain, told):
        with pytest.raises(InvalidInput) as caught:
            as_function({"model": {"width": domain}})
        message = str(caught.value)
        assert message.startswith("search space key 'model/width")
        assert told in message
        assert "; use " in message
        assert "\n" not in message


@pytest.mark.parametrize("space", [None, 5, [1], "sgd"])
def test_what_is_no_space_is_refused_by_one_line(space):
    kind = type(space).__name__
    with pytest.raises(InvalidInput, match=f"function of a trial or a dict, got {kind}; write def"):
        as_function(space)


def test_a_function_is_used_as_it_is():
    def space(trial: optuna.Trial) -> dict[str, Any]:
        return {"lr": trial.suggest_float("lr", 0, 1)}

    assert as_function(space) is space


def _raises(_: optuna.Trial) -> dict[str, Any]:
    raise KeyError("lr")


def _returns_a_list(trial: optuna.Trial) -> Any:
    return [trial.suggest_float("lr", 0, 1)]


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (_raises, "must not raise, _raises raised KeyError: 'lr'; call it with "),
        (_returns_a_list, "must return a dict, _returns_a_list returned list; return "),
        (lambda trial: None, "must return a dict, .*<lambda> returned NoneType; return "),
        (lambda trial: {"lr": 0.1}, "must suggest something, .*<lambda> suggested nothing in "),
        (partial(_raises), "must not raise, functools.partial.* raised KeyError: 'lr'; "),
        (lambda trial: {"x": trial.suggest_float("x", 2, 1)}, "must not raise, .*ValueError"),
    ],
)
def test_an_unusable_space_is_one_line_with_the_remedy(space, told):
    with pytest.raises(InvalidInput, match=f"^a search space {told}"):
        fingerprint(space)


OTHERS = [
    [(64,), (64, 64)],
    [np.int64(1), np.int64(2)],
    [np.float32(0.5), None],
    [[1, 2], {"a": 1}],
    [int, float],
    [torch.nn.ReLU, torch.nn.Tanh],
]


@pytest.mark.parametrize("choices", OTHERS)
@pytest.mark.parametrize("form", ["function", "distribution", "domain"])
def test_choices_of_any_type_are_the_same_before_and_after_a_storage(tmp_path, choices, form):
    spaces = {
        "function": lambda trial: {"x": trial.suggest_categorical("x", choices)},
        "domain": {"x": tune.choice(choices)},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna's own, about such choices
        spaces["distribution"] = {"x": CategoricalDistribution(choices)}
    space = as_function(spaces[form])
    url = f"sqlite:///{tmp_path}/study.db"
    fingerprints, chosen = set(), []
    for number in range(14):  # TPE reads what is stored from the eleventh on
        sampler = optuna.samplers.TPESampler(seed=number, n_startup_trials=2)
        study = optuna.create_study(
            study_name="s", storage=url, sampler=sampler, load_if_exists=True
        )
        trial = study.ask()
        value = suggest(space, trial)["x"]
        assert any(value == choice for choice in choices)
        assert "suggest_categorical" not in vars(trial)
        chosen.append(value)
        study.tell(trial, number)
        fingerprints.add(fingerprint(space))
    assert len(fingerprints) == 1
    assert len({str(value) for value in chosen}) == 2


class TestNested:
    SPACE: ClassVar[dict[str, Any]] = {
        "optimizer": tune.choice([{"n": "sgd", "m": tune.uniform(0, 0.9)}, {"n": "adam"}]),
        "layers": [{"u": tune.randint(8, 64)}, {"u": 4}],
        "pair": (FloatDistribution(0, 1), "x"),
        "deep": tune.choice(
            [tune.uniform(0, 1), tune.choice([{"k": IntDistribution(1, 3)}, None])]
        ),
    }

    def draws(self, count: int = 40) -> list[tuple[optuna.Trial, dict[str, Any]]]:
        space = as_function(self.SPACE)
        trials = [ask(seed) for seed in range(count)]
        return [(trial, suggest(space, trial)) for trial in trials]

    def test_a_distribution_within_a_choice_is_suggested_only_if_it_is_chosen(self):
        seen = set()
        for trial, config in self.draws():
            chosen = config["optimizer"]
            seen.add(chosen["n"])
            assert trial.params["optimizer"] == f"n={chosen['n']}"
            if chosen["n"] == "sgd":
                assert chosen["m"] == trial.params["optimizer/n=sgd/m"]
            else:
                assert chosen == {"n": "adam"}
                assert "optimizer/n=sgd/m" not in trial.params
        assert seen == {"sgd", "adam"}

    def test_a_distribution_within_a_list_is_suggested(self):
        for trial, config in self.draws(5):
            assert config["layers"] == [{"u": trial.params["layers/0/u"]}, {"u": 4}]
            assert config["pair"] == (trial.params["pair/0"], "x")

    def test_nothing_of_a_domain_is_left_at_any_depth(self):
        kinds = {type(config["deep"]) for _, config in self.draws()}
        assert kinds == {float, dict, type(None)}
        for _, config in self.draws():
            assert "ray.tune" not in repr(config)
            assert "Distribution" not in repr(config)


def lr_up_to(high: float) -> Callable[[optuna.Trial], dict[str, Any]]:
    return lambda trial: {"lr": trial.suggest_float("lr", 0.1, high)}


def conditional(adam_high: float) -> Callable[[optuna.Trial], dict[str, Any]]:
    def space(trial: optuna.Trial) -> dict[str, Any]:
        kind = trial.suggest_categorical("kind", ["sgd", "sgd ", "momentum", "adam"])
        high = adam_high if kind == "adam" else 1.0
        return {"kind": kind, "lr": trial.suggest_float(f"{kind}_lr", 0.1, high)}

    return space


class TestFingerprint:
    def test_it_is_json_of_every_distribution(self):
        made_of = json.loads(fingerprint(conditional(0.5)))
        assert made_of.keys() == {"kind", "sgd_lr", "sgd _lr", "momentum_lr", "adam_lr"}
        assert json.loads(made_of["adam_lr"])["attributes"]["high"] == 0.5

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (lr_up_to(1.0), lr_up_to(1.0)),
            (lr_up_to(1.0), as_function({"lr": FloatDistribution(0.1, 1.0), "constant": 1})),
            (lr_up_to(1.0), as_function({"lr": tune.uniform(0.1, 1.0)})),
            (conditional(0.5), conditional(0.5)),
            (
                as_function({"a": IntDistribution(1, 2), "b": IntDistribution(1, 3)}),
                as_function({"b": tune.randint(1, 4), "a": tune.randint(1, 3)}),
            ),
        ],
    )
    def test_equal_spaces_have_equal_ones_however_they_are_written(self, one, other):
        assert fingerprint(one) == fingerprint(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (lr_up_to(1.0), lr_up_to(1.0 + 1e-9)),
            (lr_up_to(1.0), as_function({"lr": tune.loguniform(0.1, 1.0)})),
            (lr_up_to(1.0), as_function({"rate": tune.uniform(0.1, 1.0)})),
            (conditional(0.5), conditional(0.6)),
            (as_function({"a": tune.choice([1, 2])}), as_function({"a": tune.choice([2, 1])})),
            (as_function({"a": tune.randint(1, 9)}), as_function({"a": tune.qrandint(1, 9, 2)})),
        ],
    )
    def test_a_changed_space_has_another(self, one, other):
        assert fingerprint(one) != fingerprint(other)
