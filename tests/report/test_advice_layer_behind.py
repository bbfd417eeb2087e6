"""A layer that turns too little gets the advice of its own rate, but only where it matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution

from tests.report.advice_studies import LAYERS, LR, starting, steady, study, trial
from tuner.report.advice import advice
from tuner.rotation.rate import at_times
from tuner.study.result import TrialResult

ALPHAS = CategoricalDistribution([-0.6, -0.3, 0.0, 0.3, 0.6])


def layered(
    slow: str = "hidden2.weight",
    helps: float = 0.1,
    alpha: float | None = None,
    layers: Sequence[str] = LAYERS,
):
    """A study whose layers come to .9 but for one, which gets a little further in better trials."""
    trials = []
    for number in range(12):
        behind = 0.05 + 0.02 * number
        ends = [behind if layer in slow.split() else 0.9 for layer in layers]
        params = {"lr": 0.01 * (number + 1)} | ({} if alpha is None else {"alpha": alpha})
        trials.append(trial(number, params, 0.5 + helps * behind, steady(*ends), layers=layers))
    return trials


def all_further():
    """Behind in each, and further in the better ones, but only as all layers are."""
    trials = []
    for number in range(12):
        others = 0.5 + 0.03 * number
        ends = [0.4 * others if layer == "hidden2.weight" else others for layer in LAYERS]
        trials.append(trial(number, {"lr": 0.01 * (number + 1)}, others, steady(*ends)))
    return trials


def under_layca(trials: list[TrialResult], **fields: Any) -> list[TrialResult]:
    return [replace(each, optimizer="layca", **fields) for each in trials]


class TestLayerBehind:
    title = "hidden2.weight turns too little: raise its rate"

    def test_a_layer_alone_is_named_with_the_rate_it_takes(self):
        (piece,) = starting(advice(study(layered(), {"lr": LR})), self.title)
        ends = "hidden2.weight ends at 0.25 and the other layers at 0.90"
        assert f"in the best 3 trials {ends}" in piece.evidence
        assert "layer_rates={'hidden2.weight': " in piece.action
        assert piece.params is None

    def test_under_layca_one_trial_gives_it_a_rate_of_its_own(self):
        trials = under_layca(layered())
        (piece,) = starting(advice(study(trials, {"lr": LR})), self.title)
        leader = trials[-1]
        (times,) = piece.config["layer_rates"].values()
        assert piece.config == {"layer_rates": {"hidden2.weight": times}}
        assert at_times(leader.rotation["hidden2.weight"], times) == pytest.approx(0.9, abs=0.01)
        assert piece.params == leader.params
        assert f"layer_rates={piece.config['layer_rates']} in trial 11's" in piece.action

    def test_several_get_theirs_in_the_same_trial(self):
        layers = [f"layer{number}.weight" for number in range(9)]
        trials = under_layca(layered("layer3.weight layer5.weight", layers=layers))
        title = "layer3.weight and layer5.weight turn too little: raise their rates"
        (piece,) = starting(advice(study(trials, {"lr": LR})), title)
        assert piece.config["layer_rates"].keys() == {"layer3.weight", "layer5.weight"}

    def test_a_trial_that_tests_it_is_gone_on_from(self):
        known = {"hidden2.weight": 0.5, "head.*": 0.25}
        trials = under_layca(layered(), config={"layer_rates": known, "momentum": 0.5})
        (piece,) = starting(advice(study(trials, {"lr": LR})), self.title)
        (once,) = starting(advice(study(under_layca(layered()), {"lr": LR})), self.title)
        times = once.config["layer_rates"]["hidden2.weight"]
        rates = {"hidden2.weight": pytest.approx(times / 2, rel=0.01), "head.*": 0.25}
        assert piece.config == {"layer_rates": rates, "momentum": 0.5}

    def test_it_is_not_advised_again_once_it_was_tried(self):
        trials = under_layca(layered())
        (piece,) = starting(advice(study(trials, {"lr": LR})), self.title)
        tried = replace(trials[0], number=12, params=piece.params, config=piece.config)
        assert not starting(advice(study([*trials, tried], {"lr": LR})), self.title)

    def test_where_the_best_trial_has_it_with_the_others_there_is_nothing_to_do(self):
        trials = under_layca(layered())
        there = replace(trials[-1], curve=trial(11, {}, 0.5, steady(0.88)).curve, value=0.9)
        assert not starting(advice(study([*trials[:-1], there], {"lr": LR})), self.title)

    @pytest.mark.parametrize(
        ("slow", "now", "then"), [("hidden3.weight", -0.6, 0.0), ("hidden1.weight", 0.6, 0.0)]
    )
    def test_where_alpha_is_searched_it_is_what_to_change(self, slow, now, then):
        (piece,) = starting(
            advice(study(layered(slow, alpha=now), {"lr": LR, "alpha": ALPHAS})), slow
        )
        assert piece.params is not None
        assert (now < piece.params["alpha"]) if now < 0 else (piece.params["alpha"] < now)
        assert piece.params["lr"] == 0.12
        assert f"alpha {now:g} -> {piece.params['alpha']:g}" in piece.action

    @pytest.mark.parametrize(
        ("trials", "why"),
        [
            (layered(helps=-0.1), "further is worse"),
            (layered(slow="none"), "no layer is behind"),
            (all_further(), "the others turn further in the better trials just as well"),
            (layered(slow="stem.weight"), "the first layer need not turn"),
            (layered()[:7], "too few"),
            (under_layca(layered(helps=-0.1)), "further is worse, under Layca too"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_otherwise_it_is_silent(self, trials, why):
        found = advice(study(trials, {"lr": LR}))
        assert not [piece for piece in found if "too little" in piece.title], why
