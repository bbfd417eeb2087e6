"""Who may go on from a rung, and who goes first."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rotation.made_up_states import by_metric, config_of, curve_of, descending, state_of
from tuner.rotation import HalvingState

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("started", "epoch", "more_to_come", "allowed"),
    [
        (1, 1, False, 1),
        (4, 1, False, 1),
        (5, 1, False, 2),
        (16, 1, False, 4),
        (16, 1, True, 4),
        (15, 1, True, 0),
        (1, 1, True, 0),
        (22, 1, False, 6),
        (22, 1, True, 5),
        (20, 0.25, False, 10),
        (20, 0.25, True, 10),
        (20, 2, False, 3),
        (20, 2, True, 2),
        (20, 4, False, 2),
        (20, 4, True, 1),
        (0, 1, False, 1),
        (0, 1, True, 0),
    ],
)
def test_how_many_may_go_on_follows_from_how_many_have_started(
    started, epoch, more_to_come, allowed
):
    state = by_metric(*[0.5] * started)
    (rung,) = (rung for rung in state.rungs if rung.epoch == epoch)
    assert state.promotion_quota(rung, more_to_come) == allowed


@pytest.mark.parametrize(("keep", "started", "allowed"), [(0.07, 100, 7), (0.29, 100, 29)])
@pytest.mark.parametrize("more_to_come", [False, True])
def test_shares_that_come_to_whole_trials_are_not_rounded_away(
    keep, started, allowed, more_to_come
):
    assert keep * started != allowed
    state = by_metric(*[0.5] * started, keep=keep)
    assert state.promotion_quota(state.rungs[1], more_to_come) == allowed


def test_all_that_were_compared_at_any_rung_have_started():
    early = {number: curve_of([0.25], loss=1.0 + number) for number in range(20)}
    late = {number: curve_of([0.25, 1.0]) for number in range(5)}
    state = state_of({**early, **late})
    assert state.started == 20
    assert state.promotion_quota(state.rungs[1], True) == 5


EVERYONE = set(range(20))  # keep is a quarter, so the best five go on


@pytest.mark.parametrize(
    ("waiting", "more_to_come", "chosen"),
    [
        (EVERYONE, True, 0),
        (EVERYONE, False, 0),
        (EVERYONE - {0, 1}, True, 2),
        (EVERYONE - {0, 1, 2, 3}, True, 4),
        (EVERYONE - {0, 1, 2, 3, 4}, True, None),
        (EVERYONE - {0, 1, 2, 3, 4}, False, None),
        ({19}, False, None),
        (set(), True, None),
        (set(), False, None),
        ({99}, False, None),
        (EVERYONE - {7, 8, 9, 10, 11}, True, 0),
    ],
    ids=[
        "all wait",
        "all wait, no new ones",
        "two run",
        "one is left of the best",
        "the best are gone",
        "the best are gone, no new ones",
        "the last",
        "nobody waits",
        "nobody waits, no new ones",
        "unknown",
        "worse ones went on on an earlier ranking",
    ],
)
def test_the_best_that_waits_goes_on_if_it_is_good_enough(waiting, more_to_come, chosen):
    state = by_metric(*descending(20))
    assert state.next_promotable(waiting, more_to_come) == chosen


@pytest.mark.parametrize(("compared", "chosen"), [(1, None), (15, None), (16, 0)])
def test_while_new_ones_are_to_come_nobody_goes_on_before_16_were_compared(compared, chosen):
    state = by_metric(*descending(compared))
    assert state.next_promotable(range(compared), more_to_come=True) == chosen
    assert state.next_promotable(range(compared), more_to_come=False) == 0


def test_at_least_one_goes_on_in_the_end():
    state = by_metric(0.1, 0.2, keep=0.01)
    assert state.next_promotable({0, 1}, more_to_come=False) == 1
    assert state.next_promotable({0}, more_to_come=False) is None


@pytest.mark.parametrize(
    ("waiting", "more_to_come", "chosen"),
    [
        ({0, 10}, True, 0),
        ({0, 10}, False, 10),
        ({4, 10}, True, 4),
        ({8, 10}, True, 10),
        ({8, 10}, False, 10),
        ({4, 12}, False, 4),
        ({8, 12}, True, None),
        ({8, 12}, False, None),
        ({8}, True, None),
        ({8}, False, None),
    ],
    ids=[
        "both may",
        "both may, no new ones",
        "worse but further",
        "too far behind where it is",
        "too far behind where it is, no new ones",
        "too far behind at the earlier rung, no new ones",
        "neither",
        "neither, no new ones",
        "not asked again at the rungs it has passed",
        "not asked again at the rungs it has passed, no new ones",
    ],
)
def test_the_furthest_goes_first_while_new_ones_are_to_come_and_then_the_least_far(
    waiting, more_to_come, chosen
):
    # Nine of 40 are at epoch 2, where the best five go on. At epoch 1 it is the best ten.
    curves = {
        number: curve_of([1.0, 2.0] if number < 9 else [1.0], metric=metric)
        for number, metric in enumerate(descending(40))
    }
    curves[10] = curve_of([1.0], metric=0.97)
    assert state_of(curves).next_promotable(waiting, more_to_come) == chosen


def test_of_equals_the_one_that_started_first_goes_on():
    assert by_metric(*[0.5] * 20).next_promotable({7, 3, 12}, more_to_come=True) == 3


def test_diverged_trials_are_last():
    study = {number: curve_of([1.0], metric=0.1, turned=0.1) for number in range(9)}
    study[9] = curve_of([1.0], metric=0.9, loss=INF, turned=1.0)
    study[10] = curve_of([0.25, 1.0], metric=0.9, loss=[1.0, NAN], turned=1.0)
    state = state_of(study)
    rung = state.rungs[1]
    assert [rung.place(number) for number in (8, 9, 10)] == [1, 10, 10]
    assert state.next_promotable({9, 10}, more_to_come=False) is None


def test_the_rotation_of_diverged_trials_sets_no_pace():
    study = {number: curve_of([1.0], turned=0.1 * number) for number in range(1, 6)}
    before = state_of(study).rungs[1]
    study |= {9: curve_of([1.0], loss=INF, turned=0.25)}
    after = state_of(study).rungs[1]
    assert [after.place(number) for number in range(1, 6)] == [
        before.place(number) for number in range(1, 6)
    ]
    assert np.isnan(after.features[-1, 2])


def test_a_trial_without_a_metric_is_never_next_at_a_whole_epoch():
    study = {number: curve_of([1.0], metric=0.5) for number in range(4)}
    study[4] = curve_of([1.0], metric=NAN)
    state = state_of(study, warmup_epochs=1)
    assert 4 not in state.rungs[0]
    assert state.next_promotable({4}, more_to_come=False) is None


# However rankings drift.


def test_who_has_gone_on_on_an_earlier_ranking_holds_no_place_against_better_ones():
    # The best five of 20 go on from epoch 1; five worse ones already have.
    curves = {
        number: curve_of([1.0, 2.0] if 7 <= number < 12 else [1.0], metric=metric)
        for number, metric in enumerate(descending(20))
    }
    state, waiting, went_on = state_of(curves), set(range(7)), []
    while (chosen := state.next_promotable(waiting, more_to_come=True)) is not None:
        waiting.remove(chosen)
        went_on.append(chosen)
    assert went_on == [0, 1, 2, 3, 4]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.25, 0.6]), st.integers(1, 8))
def test_whoever_goes_on_is_the_best_that_waits_at_its_rung_and_good_enough(seed, keep, slots):
    """Trials pause at each rung; at random times one starts, reports or goes on."""
    draw = random.Random(seed)
    state = HalvingState(config_of(keep=keep, early_keep=0.7), 20)
    epochs = [rung.epoch for rung in state.rungs]
    new, curves, waiting, running = iter(range(40)), {}, set(), set()
    more_to_come, furthest = True, 0
    while True:
        chosen = state.next_promotable(waiting, more_to_come) if len(running) < slots else None
        if chosen is None and not running and not more_to_come:
            break
        if chosen is not None:
            rung = state.rungs[len(curves[chosen]) - 1]
            beside = [number for number in waiting if len(curves[number]) == len(curves[chosen])]
            assert rung.place(chosen) <= state.promotion_quota(rung, more_to_come)
            assert rung.place(chosen) == min(rung.place(number) for number in beside)
            waiting.remove(chosen)
            running.add(chosen)
            continue
        if len(running) < slots and more_to_come:
            number = next(new, None)
            more_to_come = number is not None
            if number is not None:
                curves[number] = curve_of([])
                running.add(number)
            continue
        number = draw.choice(sorted(running))
        curve, epoch = curves[number], epochs[len(curves[number])]
        curves[number] = curve.append(
            epoch,
            dict.fromkeys(curve.layers, draw.random()),
            train_loss=draw.choice([draw.random(), NAN, INF]) if len(curve) else draw.random(),
            metric=draw.random() if epoch >= 1 else NAN,
        )
        state = state.with_report(number, curves[number])
        running.remove(number)
        furthest = max(furthest, len(curves[number]))
        if epoch < 20:
            waiting.add(number)
    assert state.started == len(curves) == 40
    assert furthest == len(epochs)  # one at least was trained to its end
    for at, rung in enumerate(state.rungs[:-1], 1):
        left = [number for number in waiting if len(curves[number]) == at]
        allowed = state.promotion_quota(rung, more_to_come=False)
        assert all(rung.place(number) > allowed for number in left)
