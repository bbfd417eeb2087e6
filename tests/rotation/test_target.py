"""RotationTarget: which layers must turn, and how their distances become one number."""

import math

import pytest

from tuner.errors import InvalidInput
from tuner.rotation import RotationTarget

FIVE = ("stem", "a", "b", "c", "head")


@pytest.mark.parametrize(
    ("layers", "hidden"),
    [
        ((), ()),
        (("only",), (0,)),
        (("first", "last"), (0, 1)),
        (("first", "middle", "last"), (1,)),
        (FIVE, (1, 2, 3)),
    ],
)
def test_the_first_and_last_of_three_or_more_layers_need_not_turn(layers, hidden):
    assert RotationTarget().hidden(layers) == hidden


@pytest.mark.parametrize(
    ("quantile", "reached"), [(0.0, 0.2), (0.25, 0.3), (0.5, 0.4), (0.75, 0.65), (1.0, 0.9)]
)
def test_reached_is_the_quantile_of_the_hidden_layers(quantile, reached):
    target = RotationTarget(quantile=quantile)
    assert target.reached((0.0, 0.9, 0.2, 0.4, 2.0), FIVE) == pytest.approx(reached)


def test_one_slow_layer_among_many_does_not_decide():
    layers = tuple(f"layer{index}" for index in range(12))
    assert RotationTarget().reached([0.5, 0.1, *[0.95] * 9, 0.5], layers) == pytest.approx(0.95)


def test_unknown_distances_are_left_out():
    assert RotationTarget().reached((0.0, math.nan, 0.2, math.nan, 0.0), FIVE) == 0.2


@pytest.mark.parametrize(
    ("distances", "layers"), [((), ()), ((0.5, math.nan, 0.5), ("first", "middle", "last"))]
)
def test_nothing_known_reaches_nan(distances, layers):
    assert math.isnan(RotationTarget().reached(distances, layers))


def test_a_distance_for_each_layer_is_needed():
    with pytest.raises(InvalidInput, match="one value for each of 5 layers, got 2"):
        RotationTarget().reached((0.1, 0.2), FIVE)


def test_the_floor_is_the_distance_less_the_tolerance():
    assert RotationTarget().floor == pytest.approx(0.9)
    assert RotationTarget(distance=0.5, tolerance=0.2).floor == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"distance": 0.0}, r"distance must be in \(0, 2\], got 0\.0; use"),
        ({"distance": 2.1}, r"distance must be in \(0, 2\], got 2\.1"),
        ({"distance": math.nan}, "distance must be"),
        ({"tolerance": -0.1}, r"tolerance must be in \[0, 1\.0\), got -0\.1; use"),
        ({"distance": 0.3, "tolerance": 0.3}, r"tolerance must be in \[0, 0\.3\), got 0\.3"),
        ({"tolerance": math.nan}, "tolerance must be"),
        ({"quantile": -0.01}, r"quantile must be in \[0, 1\], got -0\.01; use"),
        ({"quantile": 1.01}, "quantile must be"),
        ({"quantile": math.nan}, "quantile must be"),
    ],
)
def test_values_out_of_range_are_refused_with_the_rule_and_a_remedy(values, message):
    with pytest.raises(InvalidInput, match=message):
        RotationTarget(**values)


@pytest.mark.parametrize(
    "values",
    [{"distance": 2.0}, {"tolerance": 0.0}, {"quantile": 0.0}, {"quantile": 1.0}],
)
def test_the_ends_of_the_ranges_are_allowed(values):
    target = RotationTarget(**values)
    assert all(getattr(target, name) == value for name, value in values.items())
