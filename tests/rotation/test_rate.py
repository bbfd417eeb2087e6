"""The relation between a rate of rotation and the final distance, and what probes add to it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.reference import way_under_rotation
from tuner.errors import InvalidInput
from tuner.rotation.rate import _TRAITS, RateRelation, Reading, _path_length

STEPS = 300
COSINE = (1 + np.cos(np.pi * np.arange(STEPS) / STEPS)) / 2


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rate", [0.003, 0.05])
def test_the_way_is_the_sum_over_all_pairs_of_steps(rate, momentum):
    factors = COSINE[::5]
    found = _path_length(np.array([rate]), factors, momentum)[0]
    for at in range(0, len(found), 29):
        signal, memory = _TRAITS.signal[at], _TRAITS.memory[at]
        slow = way_under_rotation(rate * factors, momentum, signal, memory)
        assert found[at] == pytest.approx(slow, rel=1e-9)


def test_a_long_run_is_summed_in_blocks_without_losing_more_than_a_hundredth():
    rate, factors = 3**-4, (1 + np.cos(np.pi * np.arange(2000) / 2000)) / 2
    in_blocks = _path_length(np.array([rate]), factors, 0.9)[0]
    for at in (0, 70, 146):
        signal, memory = _TRAITS.signal[at], _TRAITS.memory[at]
        slow = way_under_rotation(rate * factors, 0.9, signal, memory)
        assert in_blocks[at] == pytest.approx(slow, rel=0.01)


def test_higher_rates_more_steps_and_momentum_turn_a_layer_further():
    relation = RateRelation(0.9)
    by_rate = [d.mid for d in relation.distances(list(3.0 ** np.arange(-7, 0)), COSINE)]
    assert by_rate == sorted(by_rate)
    assert by_rate[0] < 0.05 < 0.95 < by_rate[-1]
    (longer,) = relation.distances([3**-4], np.repeat(COSINE, 4))
    (shorter,) = relation.distances([3**-4], COSINE)
    (without,) = RateRelation(0.0).distances([3**-4], COSINE)
    assert without.mid < shorter.mid < longer.mid


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("distance", [0.05, 0.3, 0.6, 0.95, 0.98])
def test_the_rate_for_a_distance_gives_that_distance(distance, momentum):
    relation = RateRelation(momentum)
    rate = relation.rate_for(distance, COSINE)
    (found,) = relation.distances([rate], COSINE)
    assert found.mid == pytest.approx(distance, abs=0.02)
    assert found.low < distance < found.high


def test_a_distance_that_no_rate_reaches_gets_the_highest():
    assert RateRelation(0.0).rate_for(0.99, np.ones(2)) == 1.0


def test_what_a_probe_shows_moves_the_relation_towards_it():
    prior = RateRelation(0.9)
    (before,) = prior.distances([3**-4], COSINE)
    (expected,) = prior.distances([3**-4], np.ones(40))
    for factor in (0.3, 3.0):
        readings = [Reading(3**-4, 40, min(0.8, factor * expected.mid))] * 3
        (after,) = prior.updated(readings).distances([3**-4], COSINE)
        assert (after.mid > before.mid) == (factor > 1)
        assert abs(after.mid - before.mid) > 0.01


def test_readings_of_one_probe_count_as_one():
    reading = Reading(3**-4, 40, 0.05)
    once = RateRelation(0.9).updated([reading])
    often = RateRelation(0.9).updated([reading] * 9)
    assert often.weights == pytest.approx(once.weights)


@pytest.mark.parametrize("distance", [0.0, 0.95, 1.3, math.nan])
def test_a_layer_that_has_not_moved_or_has_turned_all_the_way_says_nothing(distance):
    assert RateRelation(0.9).updated([Reading(0.1, 10, distance)]) == RateRelation(0.9)


def test_a_rate_of_zero_in_the_schedule_changes_nothing():
    with_pause = np.concatenate([np.zeros(50), COSINE, np.zeros(50)])
    paused, plain = (RateRelation(0.0).distances([0.05], each) for each in (with_pause, COSINE))
    assert paused[0].mid == pytest.approx(plain[0].mid, abs=0.01)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: RateRelation(1.0), r"momentum must be in \[0, 1\), got 1.0; use e.g. 0.9"),
        (
            lambda: RateRelation().rate_for(1.0, COSINE),
            r"distance must be in \(0, 1\), got 1.0; use 0.95",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(ask, said):
    with pytest.raises(InvalidInput, match=said):
        ask()
