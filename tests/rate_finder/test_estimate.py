"""What probes of a made-up network say of its rates."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.rate_finder.made_up_probes import (
    FACTORS,
    FALLING,
    LAYERS,
    RATES,
    RISING,
    SLOW,
    STUCK,
    made_up,
)
from tuner.errors import InvalidInput
from tuner.rate_finder.estimate import FoundRates
from tuner.rotation import RotationTarget
from tuner.rotation.rate import RateRelation


def test_layers_that_turn_as_expected_leave_the_relation_as_it_is():
    found, relation = FoundRates(made_up()), RateRelation(0.9)
    for ours, alone in zip(found.distances(RATES), relation.distances(RATES, FACTORS), strict=True):
        assert ours.mid == pytest.approx(alone.mid, abs=0.03)
        assert ours.low < ours.mid < ours.high
    assert found.rate == pytest.approx(relation.rate_for(0.95, FACTORS), rel=0.1)


def test_layers_that_turn_faster_than_expected_need_a_lower_rate():
    fast = FoundRates(made_up(ways=(4.0,) * 5))
    slow = FoundRates(made_up(ways=(0.25,) * 5))
    assert fast.rate < FoundRates(made_up()).rate < slow.rate
    assert fast.distances([0.03])[0].mid > slow.distances([0.03])[0].mid


def test_the_ladder_and_the_range_are_the_rates_of_their_distances():
    found = FoundRates(made_up(), distance=0.6)
    ladder = found.ladder()
    assert list(ladder) == [0.95, 0.6, 0.3]
    assert ladder[0.3] < ladder[0.6] < ladder[0.95]
    assert found.rate == ladder[0.6]
    assert found.range == (ladder[0.3], ladder[0.95])
    for distance, rate in ladder.items():
        assert found.distances([rate])[0].mid == pytest.approx(distance, abs=0.03)


def test_only_the_hidden_layers_say_how_far_it_turns():
    ends_lag = FoundRates(made_up(ways=(0.1, 1.0, 1.0, 1.0, 0.1)))
    assert ends_lag.rate == FoundRates(made_up()).rate
    assert ends_lag.lagging() == ()


def test_a_hidden_layer_that_falls_behind_is_named_with_what_it_would_need():
    found = FoundRates(made_up(ways=(1.0, 0.3, 1.0, 1.0, 1.0)))
    (lag,) = found.lagging()
    assert lag.layer == "one"
    assert 0.5 < lag.distance < 0.85
    assert 1.2 < lag.times < 5
    assert found.lagging(0.6)[0].distance < lag.distance


def test_those_furthest_behind_come_first_and_a_wide_tolerance_lets_them_be():
    probed = made_up(ways=(1.0, 0.3, 0.1, 1.0, 1.0))
    # The middle of the three is one of those behind, in units of which another is ahead.
    assert [lag.layer for lag in FoundRates(probed).lagging()] == ["two"]
    wide = RotationTarget(tolerance=0.9)
    assert FoundRates(probed, target=wide).lagging() == ()


def test_probes_that_have_hardly_turned_say_nothing_of_which_layers_lag():
    found = FoundRates(made_up(rates=(0.001, 0.002, 0.004, 0.008)))
    assert found.lagging() is None


def test_a_probe_in_which_it_does_not_learn_says_nothing_of_which_layers_lag():
    fast = made_up(ways=(1.0, 0.3, 1.0, 1.0, 1.0)).probes[-1]
    broken = replace(fast, losses=RISING)
    probed = made_up()
    learnt = FoundRates(replace(probed, probes=(*probed.probes[:3], fast)))
    assert [lag.layer for lag in learnt.lagging()] == ["one"]
    others = FoundRates(replace(probed, probes=(*probed.probes[:3], broken)))
    assert not others.lagging()


def test_a_layers_own_rate_is_a_share_of_the_runs():
    halved = FoundRates(made_up(shares=(0.5,) * 5, rates=[2 * rate for rate in RATES]))
    # As it would be of layers at the whole rate: the probes' distances are of twice the rate.
    assert halved.rate > FoundRates(made_up()).rate
    held = FoundRates(made_up(shares=(1.0, 0.0, 1.0, 1.0, 1.0)))
    assert [LAYERS[layer] for layer in held.turned] == ["two", "three"]


@pytest.mark.parametrize(
    ("losses", "learns", "targetable"),
    [
        ((FALLING,) * 4, (True,) * 4, True),
        ((RISING,) * 4, (False,) * 4, False),
        ((SLOW, SLOW, RISING, RISING), (True, True, False, False), False),
        ((STUCK,) * 4, (False,) * 4, False),
        ((FALLING, FALLING, FALLING, RISING), (True, True, True, False), True),
        ((FALLING, FALLING, SLOW, RISING), (True, True, False, False), False),
        ((FALLING, FALLING, (math.nan,) * 4, (math.inf,) * 4), (True, True, False, False), False),
        (((math.nan,) * 4,) * 4, (False,) * 4, False),
    ],
)
def test_it_can_be_targeted_where_the_loss_falls_at_the_targets_rate(losses, learns, targetable):
    found = FoundRates(made_up(losses))
    assert found.learns == learns
    assert found.targetable is targetable


def test_the_loss_of_a_fast_probe_is_held_against_where_all_of_them_start():
    jumped = (9.0, 5.0, 4.0, 3.0)
    assert FoundRates(made_up((FALLING, FALLING, FALLING, jumped))).learns[3] is False


def test_too_few_steps_do_not_tell_whether_it_learns():
    probed = made_up()
    short = [replace(probe, steps=(1, 2, 3, 4)) for probe in probed.probes]
    found = FoundRates(replace(probed, probes=tuple(short)))
    assert found.learns == (None,) * 4
    assert found.targetable is None


def test_layers_that_broke_down_say_nothing():
    probed = made_up()
    broken = [replace(probe, distances=((math.nan,) * 5,) * 4) for probe in probed.probes]
    found = FoundRates(replace(probed, probes=tuple(broken)))
    assert found.rate == pytest.approx(RateRelation(0.9).rate_for(0.95, FACTORS), rel=1e-6)
    assert found.lagging() is None


def test_the_cost_is_all_steps_of_all_probes():
    found = FoundRates(made_up())
    assert (found.probed.steps, found.probed.epochs) == (80, 2.0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"distance": 1.0}, r"distance must be in \(0, 1\), got 1.0; use 0.95 for nearly 1"),
        ({"probed": made_up(shares=(0.0,) * 5)}, "a layer must rotate, all 5 are held fixed"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(fields, said):
    with pytest.raises(InvalidInput, match=said):
        FoundRates(**{"probed": made_up(), **fields})
