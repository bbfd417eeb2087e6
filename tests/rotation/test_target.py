"""RotationTarget: which layers must turn, and how their distances become one number."""

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from pydantic import TypeAdapter

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
        ({"first": 0.0}, r"first must be None or in \(0, 2\], got 0\.0; use None"),
        ({"head": 2.1}, r"head must be None or in \(0, 2\], got 2\.1; use None"),
        ({"shortcut": math.nan}, r"shortcut must be None or in \(0, 2\], got nan; use None"),
        ({"head": "none"}, "head must be None or .*, got 'none'; use None"),
        ({"patterns": {"fc.*": 3}}, r"patterns must give None or .* \(0, 2\], got 3 for 'fc.\*'; "),
        ({"patterns": {"fc.*": "1"}}, r"patterns must give .*, got '1' for 'fc.\*'; use None"),
        ({"patterns": ["fc.*"]}, r"patterns must map .*, got \['fc.\*'\]; use {'head.\*': 0.5}"),
        ({"patterns": "fc.*"}, r"patterns must map .*, got 'fc.\*'; use "),
        ({"patterns": ("fc.*",)}, r"patterns must map .*, got \('fc.\*',\); use "),
        ({"patterns": {1: 0.5}}, r"patterns must map layer names .*, got {1: 0.5}; use "),
        ({"patterns": None}, "patterns must map .*, got None; use "),
    ],
)
def test_values_out_of_range_are_refused_with_the_rule_and_a_remedy(values, message):
    with pytest.raises(InvalidInput, match=message):
        RotationTarget(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"distance": 2.0},
        {"tolerance": 0.0},
        {"quantile": 0.0},
        {"quantile": 1.0},
        {"first": 2.0},
        {"head": 2},
        {"shortcut": None},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(values):
    target = RotationTarget(**values)
    assert all(getattr(target, name) == value for name, value in values.items())


RESNET = (
    "conv1.weight",
    "layer1.0.conv1.weight",
    "layer1.0.conv2.weight",
    "layer2.0.conv1.weight",
    "layer2.0.conv2.weight",
    "layer2.0.downsample.0.weight",
    "fc.weight",
)
SEQUENTIAL = ("0.weight", "4.weight", "8.weight", "13.weight", "16.weight")
NAN = math.nan


@pytest.mark.parametrize(
    ("values", "layers", "bars"),
    [
        ({}, (), ()),
        ({}, ("first", "last"), (1, 1)),
        ({}, SEQUENTIAL, (NAN, 1, 1, 1, NAN)),
        ({}, RESNET, (NAN, 1, 1, 1, 1, 0.73, NAN)),
        ({"distance": 0.8}, RESNET, (NAN, 0.8, 0.8, 0.8, 0.8, 0.73, NAN)),
        ({"shortcut": None}, RESNET, (NAN, 1, 1, 1, 1, NAN, NAN)),
        ({"first": 0.67, "head": 0.58}, SEQUENTIAL, (0.67, 1, 1, 1, 0.58)),
        ({"patterns": {"16.*": 0.5}}, SEQUENTIAL, (NAN, 1, 1, 1, 0.5)),
        ({"patterns": {"8.*": None}}, SEQUENTIAL, (NAN, 1, NAN, 1, NAN)),
        ({"patterns": {"*.downsample.*": 1}}, RESNET, (NAN, 1, 1, 1, 1, 1, NAN)),
        ({"patterns": {"8.weight": 0.6, "*": None}}, SEQUENTIAL, (NAN, NAN, 0.6, NAN, NAN)),
        ({"patterns": {"*": None, "8.weight": 0.6}}, SEQUENTIAL, (NAN,) * 5),
        ({"patterns": {"FC.*": 0.5, "layer3.*": 0.5}}, RESNET, (NAN, 1, 1, 1, 1, 0.73, NAN)),
        ({"patterns": {"last": 0.5}}, ("first", "last"), (1, 0.5)),
    ],
)
def test_each_layer_has_the_bar_of_its_role_unless_a_pattern_names_it(values, layers, bars):
    assert RotationTarget(**values).bars(layers) == pytest.approx(bars, nan_ok=True)


def test_no_role_is_asked_for_more_than_the_hidden_layers_but_a_pattern_may_be():
    target = RotationTarget(distance=0.3, first=0.8, head=0.2, patterns={"8.*": 0.9})
    assert target.bars(("0.weight", "4.weight", "5.shortcut", "8.weight", "16.weight")) == (
        (0.3, 0.3, 0.3, 0.9, 0.2)
    )


@pytest.mark.parametrize(
    ("patterns", "layers", "hidden"),
    [
        ({}, RESNET, (1, 2, 3, 4)),
        ({"layer1.*": None}, RESNET, (3, 4)),
        ({"layer1.*": 0.9}, RESNET, (3, 4)),
        ({"fc.*": 1.0}, RESNET, (1, 2, 3, 4)),
        ({"*": 0.5}, SEQUENTIAL, ()),
    ],
)
def test_shortcuts_and_what_a_pattern_names_are_not_hidden(patterns, layers, hidden):
    assert RotationTarget(patterns=patterns).hidden(layers) == hidden


@pytest.mark.parametrize(
    ("values", "distances", "reached"),
    [
        # At its bar, a layer counts as the target, and in proportion below and above.
        ({"patterns": {"8.*": 0.5, "*": None}}, (0, 0, 0.5, 0, 0), 1.0),
        ({"patterns": {"8.*": 0.5, "*": None}}, (0, 0, 0.2, 0, 0), 0.4),
        ({"patterns": {"8.*": 0.5, "*": None}}, (0, 0, 0.6, 0, 0), 1.2),
        ({"distance": 0.6, "patterns": {"8.*": 0.3, "*": None}}, (0, 0, 0.3, 0, 0), 0.6),
        # A hidden layer counts as it is, whatever the target.
        ({"distance": 0.6, "tolerance": 0, "quantile": 0}, (0, 0.7, 0.8, 0.9, 0), 0.7),
        ({"first": 0.67, "head": 0.58, "quantile": 0}, (0.67, 1.0, 1.1, 1.0, 0.58), 1.0),
        ({"head": 0.5, "quantile": 0}, (0, 0.9, 0.9, 0.9, 0.2), 0.4),
    ],
)
def test_a_layer_counts_in_units_of_its_bar(values, distances, reached):
    target = RotationTarget(**values)
    assert target.reached(distances, SEQUENTIAL) == pytest.approx(reached)


def test_a_good_run_of_a_residual_net_reaches_the_target_with_its_shortcuts_at_the_papers_figures():
    distances = (0.7, 0.95, 0.93, 0.97, 0.96, 0.74, 0.6)
    assert RotationTarget(quantile=0.0).reached(distances, RESNET) == pytest.approx(0.93)


def test_nothing_that_counts_reaches_nan():
    target = RotationTarget(patterns={"*": None})
    assert math.isnan(target.reached((0.5,) * 5, SEQUENTIAL))


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 30])
def test_the_quantile_is_numpys(quantile, count):
    random = np.random.default_rng(count)
    layers = ("first", *(f"layer{index}" for index in range(count)), "head")
    distances = random.uniform(0, 2, len(layers))
    distances[1:-1][random.uniform(size=count) < 0.2] = NAN
    hidden = distances[1:-1]
    known = hidden[~np.isnan(hidden)]
    expected = np.quantile(known, quantile) if known.size else NAN
    reached = RotationTarget(quantile=quantile).reached(distances, layers)
    assert type(reached) is float
    assert reached == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_layers_may_come_in_any_sequence():
    distances = (0.0, 0.5, 0.6, 0.7, 0.0)
    target = RotationTarget()
    assert target.reached(list(distances), list(SEQUENTIAL)) == target.reached(
        distances, SEQUENTIAL
    )


class TestValue:
    """A target is a value: it compares, hashes, travels and prints as one."""

    TARGET = RotationTarget(head=0.5, patterns={"stem.*": None, "neck.*": 0.4})

    def test_patterns_are_kept_as_pairs_in_the_order_given(self):
        assert self.TARGET.patterns == (("stem.*", None), ("neck.*", 0.4))
        turned = RotationTarget(head=0.5, patterns={"neck.*": 0.4, "stem.*": None})
        assert turned != self.TARGET

    def test_a_mapping_changed_afterwards_changes_nothing(self):
        patterns = {"stem.*": None}
        target = RotationTarget(patterns=patterns)
        patterns["neck.*"] = 0.4
        assert target == RotationTarget(patterns={"stem.*": None})

    @pytest.mark.parametrize(
        "copied",
        [
            lambda target: pickle.loads(pickle.dumps(target)),
            lambda target: eval(repr(target)),
            dataclasses.replace,
            lambda target: RotationTarget(head=0.5, patterns=dict(target.patterns)),
        ],
        ids=["pickle", "repr", "replace", "anew"],
    )
    def test_a_copy_is_equal_hashes_alike_and_decides_alike(self, copied):
        copy = copied(self.TARGET)
        assert copy == self.TARGET
        assert hash(copy) == hash(self.TARGET)
        layers = ("stem.0", "neck.0", "body.0", "body.1", "head")
        distances = (0.1, 0.3, 0.9, 0.8, 0.6)
        assert copy.reached(distances, layers) == self.TARGET.reached(distances, layers)

    def test_a_job_takes_one_as_a_value_or_as_its_fields(self):
        fields = {"head": 0.5, "patterns": {"stem.*": None, "neck.*": 0.4}}
        for given in (self.TARGET, fields):
            held = TypeAdapter(RotationTarget).validate_python(given)
            assert held == self.TARGET
            assert hash(held) == hash(self.TARGET)

    def test_as_json_it_comes_back_the_same(self):
        for target in (self.TARGET, RotationTarget(), RotationTarget(np.float32(0.6), first=1)):
            again = RotationTarget.from_dict(json.loads(json.dumps(target.to_dict())))
            assert again == target
            assert hash(again) == hash(target)

    def test_fields_of_another_version_are_left_out_and_missing_ones_are_the_default(self):
        read = RotationTarget.from_dict({"distance": 0.6, "of_a_later_version": [1]})
        assert read == RotationTarget(0.6)

    @pytest.mark.parametrize(
        "values",
        [
            {"distance": "far"},
            {"tolerance": None},
            {"head": "x"},
            {"patterns": [["*"]]},
            {"first": 3},
        ],
        ids=str,
    )
    def test_what_is_no_target_is_refused(self, values):
        with pytest.raises(InvalidInput):
            RotationTarget.from_dict(values)


def test_a_layer_counts_as_there_at_the_same_share_of_its_bar_as_the_whole():
    target = RotationTarget(0.8, tolerance=0.2, head=0.4, patterns={"2.*": 0.2})
    layers = ("0.weight", "1.weight", "2.weight", "head")
    assert target.floors(layers) == pytest.approx((math.nan, 0.6, 0.15, 0.3), nan_ok=True)
    for layer, floor in enumerate(target.floors(layers)):
        alone = [floor if at == layer else math.nan for at in range(4)]
        if not math.isnan(floor):
            assert target.reached(alone, layers) == pytest.approx(target.floor)
