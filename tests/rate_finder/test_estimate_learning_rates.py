"""What probes of a made-up network at learning rates say of whole runs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.rate_finder.made_up_probes import FACTORS, RATES, RISING, STUCK, made_up_lrs, way_at
from tuner.rate_finder.estimate import FoundRates
from tuner.rotation.rate import middle_distance

RAMP = 1 - 0.9 ** np.arange(1, 401)


@pytest.mark.parametrize("memory", [2.0, 10.0, 50.0])
@pytest.mark.parametrize("lengths", [None, RAMP], ids=["steps of one length", "momentum"])
def test_layers_that_tire_as_expected_end_where_they_do(memory, lengths):
    found = FoundRates(made_up_lrs(memory=memory, lengths=lengths))
    whole = float(np.dot(FACTORS, np.ones(400) if lengths is None else lengths))
    for rate, ends in zip(RATES[:3], found.distances(RATES[:3]), strict=True):
        truth = middle_distance(way_at(rate, whole, memory))
        assert ends.low < truth < ends.high
        assert ends.mid == pytest.approx(truth, abs=0.25)


def test_without_the_clock_of_the_steps_momentum_looks_like_speed():
    ramped = made_up_lrs(lengths=RAMP)
    (misled,) = FoundRates(replace(ramped, lengths=np.ones(400))).distances([0.03])
    (told,) = FoundRates(ramped).distances([0.03])
    assert misled.mid > told.mid + 0.2


def test_between_the_probes_and_beyond_them_it_turns_further_at_a_higher_rate():
    found = FoundRates(made_up_lrs())
    mids = [ends.mid for _, ends in found.curve]
    assert mids == sorted(mids)
    assert found.curve[0][0] == pytest.approx(0.1 * RATES[0])
    assert found.curve[-1][0] == pytest.approx(3 * RATES[-1])
    ladder = found.ladder()
    assert ladder[0.3] < ladder[0.6] < ladder[0.95]
    for distance, rate in ladder.items():
        assert found.distances([rate])[0].mid == pytest.approx(distance, abs=0.03)


def test_beyond_the_probes_the_low_end_stays_where_they_left_it():
    found = FoundRates(made_up_lrs())
    (highest, above) = found.distances([RATES[-1], 2 * RATES[-1]])
    assert above.low == highest.low
    assert above.mid > highest.mid


def test_a_probe_in_which_the_loss_rises_does_not_count():
    probed = made_up_lrs()
    *learnt, fastest = probed.probes
    wild = replace(fastest, losses=RISING, distances=((0.9,) * 5,) * 4)
    without = FoundRates(replace(probed, probes=tuple(learnt)))
    found = FoundRates(replace(probed, probes=(*learnt, wild)))
    assert found.learns == (True, True, True, False)
    assert found.distances(RATES) == without.distances(RATES)


def test_what_broke_down_says_nothing_and_is_no_error():
    probed = made_up_lrs()
    broken = [
        replace(probe, losses=(math.nan,) * 4, distances=((math.nan,) * 5,) * 4)
        for probe in probed.probes
    ]
    last = FoundRates(replace(probed, probes=(*probed.probes[:3], broken[3])))
    assert last.distances([0.03]) == FoundRates(probed).distances([0.03])
    every = FoundRates(replace(probed, probes=tuple(broken)))
    (ends,) = every.distances([0.03])
    assert (ends.low, ends.high) == (0.0, 1.0)
    assert every.targetable is False


def test_where_nothing_is_learnt_yet_layers_may_turn_much_further():
    learnt, stuck = FoundRates(made_up_lrs()), FoundRates(made_up_lrs((STUCK,) * 4))
    assert stuck.learns == (False,) * 4
    (told,), (unknown,) = learnt.distances([0.01]), stuck.distances([0.01])
    assert (unknown.low, unknown.mid) == (told.low, told.mid)
    assert unknown.high > told.high + 0.3


def test_a_run_that_is_over_after_the_probe_has_turned_as_far_as_it():
    probed = made_up_lrs(factors=np.ones(8))
    for probe, ends in zip(probed.probes, FoundRates(probed).distances(RATES), strict=True):
        assert (ends.low, ends.mid, ends.high) == pytest.approx((probe.distances[-1][1],) * 3)


def test_a_single_report_leaves_more_open():
    (seen,) = FoundRates(made_up_lrs()).distances([0.03])
    probed = made_up_lrs()
    single = [
        replace(probe, steps=(8,), losses=probe.losses[-1:], distances=probe.distances[-1:])
        for probe in probed.probes
    ]
    (unseen,) = FoundRates(replace(probed, probes=tuple(single))).distances([0.03])
    assert unseen.high - unseen.low > seen.high - seen.low


def test_a_hidden_layer_that_falls_behind_is_named_with_what_it_would_need():
    found = FoundRates(made_up_lrs(ways=(1.0, 0.3, 1.0, 1.0, 0.1)), distance=0.6)
    (lag,) = found.lagging()
    assert lag.layer == "one"
    assert 0.1 < lag.distance < 0.5
    assert 1.2 < lag.times < 5


@pytest.mark.parametrize(("distance", "reached"), [(0.3, True), (0.999999, False), (1e-7, False)])
def test_a_distance_that_no_rate_is_known_to_end_at_cannot_be_targeted(distance, reached):
    found = FoundRates(made_up_lrs(), distance=distance)
    assert found.reached is reached
    assert found.targetable is reached
