"""Each layer's rate, for all to end equally far: the multipliers, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.errors import InvalidInput
from tuner.rotation.rate import MOST, POWER, RateRelation, at_times, levelling_rates, power_between


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("steps", [100, 400, 2000])
@pytest.mark.parametrize("times", [0.5, 2.0, 3.0])
def test_the_power_is_amid_those_of_the_relation_between_rate_and_distance(momentum, steps, times):
    relation = RateRelation(momentum)
    factors = (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    slow = relation.rate_for(0.3 if times > 1 else 0.8, factors)
    before, after = (each.mid for each in relation.distances([slow, times * slow], factors))
    assert POWER - 0.4 < power_between(before, after, times) < POWER + 0.6


def test_layers_at_the_level_keep_their_rates_whichever_they_have():
    ends = {"slow": 0.5, "near": 0.86, "there": 0.9, "fast": 0.97}
    assert levelling_rates(ends, 0.9).keys() == {"slow", "fast"}
    assert levelling_rates({"near": 0.86}, 0.9, {"near": 3.0}) == {}
    slow, fast = levelling_rates(ends, 0.9).values()
    assert slow > 1 > fast


@pytest.mark.parametrize("distance", [0.2, 0.5, 0.75])
def test_a_layer_is_forecast_to_end_at_the_level_with_its_multiplier(distance):
    times = levelling_rates({"one": distance}, 0.9)["one"]
    assert at_times(distance, times) == pytest.approx(0.9, abs=0.002)
    assert at_times(distance, 1.0) == pytest.approx(distance)


def test_multipliers_go_on_from_those_there_are():
    alone = levelling_rates({"one": 0.5}, 0.9)["one"]
    assert levelling_rates({"one": 0.5}, 0.9, {"one": 0.5})["one"] == pytest.approx(
        alone / 2, rel=0.01
    )


@pytest.mark.parametrize(
    ("distance", "now", "bound"),
    [(0.0, 1.0, MOST), (0.5, 7.0, MOST), (1.2, 1.0, 1 / MOST), (0.3, 1e-4, 1 / MOST)],
)
def test_no_multiplier_leaves_its_bounds(distance, now, bound):
    level = 0.9 if distance < 1 else 0.1
    assert levelling_rates({"one": distance}, level, {"one": now}) == {"one": bound}


def test_beyond_a_quarter_turn_a_layer_has_arrived():
    assert levelling_rates({"one": 1.2}, 0.97) == {}


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5])
def test_a_level_that_no_layer_can_end_at_is_refused(level):
    with pytest.raises(InvalidInput, match=r"distance must be in \(0, 1\)"):
        levelling_rates({"one": 0.5}, level)
