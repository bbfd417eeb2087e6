"""Promotion: which trials pause at a rung, continue from it, or are pruned there."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.rotation.made_up_states import config_of, curve_of, up_to
from tuner.rotation import Action, HalvingState, Promotion
from tuner.rotation.decision import is_audited

RUNGS = (1.0, 2.0, 4.0)
CURVES = {
    number: curve_of(RUNGS[: 1 + number % 3], metric=(number * 7 % 20) / 20) for number in range(20)
}


def promotion_of(may_pause: bool = True, **settings) -> Promotion:
    return Promotion(config_of(warmup_epochs=1, **settings), 20, may_pause=may_pause)


def reported(promotion: Promotion, number: int, metric: float, more_to_come: bool = True):
    """Report a trial's first epoch, and write its checkpoint if it pauses."""
    decision = promotion.report(number, curve_of((1.0,), metric=metric), more_to_come=more_to_come)
    if decision.action is Action.PAUSE:
        promotion.pause(number)
    return decision


def assert_same(state: HalvingState, other: HalvingState) -> None:
    for mine, theirs in zip(state.rungs, other.rungs, strict=True):
        for column in ("numbers", "features", "scores", "ascending"):
            np.testing.assert_array_equal(getattr(mine, column), getattr(theirs, column))
    np.testing.assert_array_equal(state.weights.mean, other.weights.mean)
    assert state.weights.trials == other.weights.trials


class TestAtARung:
    def test_trials_pause_until_enough_have_been_compared(self):
        promotion = promotion_of()
        for number in range(15):
            assert reported(promotion, number, number / 20).action is Action.PAUSE
            assert promotion.pop_promotable(more_to_come=True) is None
        assert [*promotion.paused] == list(range(15))

    def test_one_that_would_be_promoted_at_once_does_not_pause(self):
        promotion = promotion_of()
        for number in range(15):
            reported(promotion, number, number / 20)
        best = reported(promotion, 15, 0.9)
        assert (best.action, best.verdict.pause) == (Action.CONTINUE, True)
        assert 15 not in promotion.paused

    def test_one_whose_checkpoint_is_being_written_keeps_its_place(self):
        promotion = promotion_of()
        curves = [curve_of((1.0,), metric=metric) for metric in (0.9, 0.5)]
        for number, curve in enumerate(curves):
            decision = promotion.report(number, curve, more_to_come=True)
            assert decision.action is Action.PAUSE
        third = promotion.report(2, curve_of((1.0,), metric=0.7), more_to_come=False)
        assert third.action is Action.PAUSE  # trial 0 is ahead, though it is not paused yet
        assert promotion.pop_promotable(more_to_come=False) is None
        promotion.pause(0)
        assert promotion.pop_promotable(more_to_come=False) == (0, "")

    def test_one_that_ends_instead_of_pausing_keeps_no_place(self):
        promotion = promotion_of()
        promotion.report(0, curve_of((1.0,), metric=0.9), more_to_come=True)
        promotion.discard(0, failed=True)
        assert promotion.report(1, curve_of((1.0,), metric=0.5), more_to_come=False).action is (
            Action.CONTINUE
        )

    def test_where_none_may_pause_the_worst_are_pruned(self):
        promotion = promotion_of(may_pause=False)
        actions = [reported(promotion, number, 1 - number / 10).action for number in range(8)]
        assert Action.PAUSE not in actions
        assert actions[0] is Action.CONTINUE
        assert actions[-1] is Action.STOP
        assert not promotion.paused

    def test_one_that_is_exempt_neither_pauses_nor_stops(self):
        promotion = promotion_of()
        for number in range(4):
            reported(promotion, number, 0.9)
        promotion.add(4, curve_of(()), exempt=True)
        assert reported(promotion, 4, 0.1).action is Action.CONTINUE

    def test_a_diverged_one_stops_and_says_why(self):
        decision = promotion_of().report(0, curve_of((1.0,), loss=math.inf), more_to_come=True)
        assert decision.action is Action.STOP
        assert decision.verdict.reason.startswith("diverged: ")


class TestAfterAllHaveStarted:
    def test_the_best_continue_and_the_others_are_pruned_with_a_reason(self):
        promotion = promotion_of()
        for number in range(12):
            reported(promotion, number, number / 20)
        promoted = []
        while (chosen := promotion.pop_promotable(more_to_come=False)) is not None:
            promoted.append(chosen.number)
        assert promoted == [11, 10, 9]
        pruned = dict(promotion.pop_unpromotable())
        assert [*pruned] == list(range(9))
        assert not promotion.paused
        assert pruned[0].startswith("peers: 12th of 12 at epoch 1; ")
        assert pruned[0].endswith(" Saves 19 of 20 epochs.")

    def test_control_trials_continue_last_with_the_reason_against_them(self):
        promotion = promotion_of(audit=0.3, seed=4)
        for number in range(24):
            reported(promotion, number, number / 30)
        order = []
        while (chosen := promotion.pop_promotable(more_to_come=False)) is not None:
            order.append(chosen)
        control = [chosen for chosen in order if chosen.audit]
        assert control
        assert order[-len(control) :] == control
        config = promotion.state.config
        assert all(is_audited(number, config) for number, _ in control)
        assert not any(is_audited(number, config) for number, _ in promotion.pop_unpromotable())

    def test_a_control_trial_pauses_no_more(self):
        promotion = promotion_of(audit=0.999999)
        for number in range(8):
            reported(promotion, number, number / 30)
        control = next(
            chosen for _ in range(8) if (chosen := promotion.pop_promotable(False)) and chosen.audit
        )
        curve = curve_of((1.0, 2.0), metric=0.0)
        decision = promotion.report(control.number, curve, more_to_come=False)
        assert (decision.action, decision.verdict.pause) == (Action.CONTINUE, False)


class TestAfterARestart:
    def test_it_stands_as_it_did(self):
        before, after = promotion_of(), promotion_of()
        for number, curve in CURVES.items():
            for reports in range(1, len(curve) + 1):
                before.report(number, up_to(curve, reports), more_to_come=True)
        after.load(CURVES)
        assert_same(before.state, after.state)

    def test_trials_left_at_a_rung_are_paused_and_others_are_not(self):
        promotion = promotion_of()
        curves = {0: curve_of((1.0,)), 1: curve_of((1.0, 2.0, 3.0)), 2: curve_of(())}
        promotion.load(curves)
        for number, curve in curves.items():
            promotion.add(number, curve)
        assert [promotion.recover(number) for number in curves] == [True, False, False]
        assert [*promotion.paused] == [0]

    def test_a_control_trial_left_at_a_rung_continues(self):
        promotion = promotion_of()
        promotion.load({0: curve_of((1.0,))})
        promotion.add(0, curve_of((1.0,)), audited=True)
        assert not promotion.recover(0)

    def test_the_last_report_is_decided_again_and_counts_once(self):
        promotion = promotion_of()
        promotion.load({0: curve_of((1.0,))})
        promotion.add(0, (curve := curve_of((1.0,))))
        before = promotion.state
        assert promotion.report(0, curve, more_to_come=True).action is Action.PAUSE
        assert promotion.state is before


class TestReportsOutOfOrder:
    @pytest.mark.parametrize("late", [1, 2])
    def test_a_late_one_is_compared_where_it_belongs(self, late):
        whole = curve_of(RUNGS, metric=(0.1, 0.2, 0.3), lr_progress=(0.05, 0.1, 0.2))
        columns = [at for at in range(3) if at != late - 1]
        early = curve_of(
            [RUNGS[at] for at in columns],
            metric=[whole.metric[at] for at in columns],
            lr_progress=[whole.lr_progress[at] for at in columns],
        )
        promotion, ordered = promotion_of(), promotion_of()
        promotion.report(0, early, more_to_come=True)
        promotion.report(0, whole, more_to_come=True)
        ordered.load({0: whole})
        assert_same(promotion.state, ordered.state)


class TestFailedTrials:
    def test_no_trial_is_compared_with_one_that_failed(self):
        with_failure, without = promotion_of(), promotion_of()
        for number in range(9):
            for promotion in (with_failure, without):
                if promotion is with_failure or number != 4:
                    reported(promotion, number, number / 20)
        with_failure.discard(4, failed=True)
        assert_same(with_failure.state, without.state)

    def test_one_that_ended_well_counts_on(self):
        promotion = promotion_of()
        reported(promotion, 0, 0.5)
        promotion.discard(0)
        assert promotion.state.started == 1
