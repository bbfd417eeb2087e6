"""Trials that can be paused wait at rungs instead of being pruned."""

import pytest

from tests.rotation.made_up_cases import (
    HOPELESS,
    INF,
    LAYERS,
    NAN,
    OWN,
    by_metric,
    curve_of,
    informative,
    peers_of,
    rule_of,
    state_of,
)
from tuner.rotation import RotationCurve, Verdict, decide


@pytest.mark.parametrize("metric", [0.1, 0.95])
def test_a_trial_that_may_pause_waits_at_a_rung_whatever_its_place(metric):
    own = by_metric(metric)
    state = state_of(own, [by_metric(0.9)] * 9)
    verdict = decide(OWN, own, state, may_pause=True)
    assert (verdict.prune, verdict.pause) == (False, True)
    standing = "1st of 10 at epoch 1; the 3 places are taken"
    if metric < 0.9:
        standing = "10th of 10 at epoch 1; the best 3 go on"
    assert verdict.reason == (
        f"peers: {standing}. Compared by metric; the study has 10 trials so far"
    )


@pytest.mark.parametrize(
    ("curve", "peers"),
    [
        (by_metric(0.1, epochs=3), [by_metric(0.9, epochs=3)] * 9),
        (curve_of(epochs=1, metric=NAN), [by_metric(0.9)] * 9),
        (RotationCurve(LAYERS, 20).append(0.5, {}, train_loss=9.0), [by_metric(0.9)] * 9),
        (RotationCurve(LAYERS, 20), [by_metric(0.9)] * 9),
    ],
    ids=["between rungs", "no metric", "in warmup", "no report"],
)
@pytest.mark.parametrize("final", [False, True])
def test_where_it_is_not_compared_it_does_not_wait(curve, peers, final):
    verdict = decide(OWN, curve, state_of(curve, peers), may_pause=not final, final=final)
    assert verdict == Verdict(prune=False, reason="", forecast=verdict.forecast)


@pytest.mark.parametrize("metric", [0.1, 0.95])
def test_one_that_has_waited_and_is_not_to_go_on_is_pruned_whatever_its_place(metric):
    own = by_metric(metric)
    state = state_of(own, [by_metric(0.9)] * 9)
    waiting = decide(OWN, own, state, may_pause=True)
    closed = decide(OWN, own, state, final=True)
    assert (closed.prune, closed.pause) == (True, False)
    assert closed.reason == waiting.reason + ". Saves 19 of 20 epochs."
    assert decide(OWN, own, state).prune is (metric < 0.9)


@pytest.mark.parametrize(
    ("curve", "rule"),
    [
        (curve_of(losses=[1.0, INF]), "diverged"),
        (curve_of([0.4, 0.6], losses=[2.3, 2.4]), "rotating without learning"),
    ],
)
def test_what_does_not_learn_does_not_wait(curve, rule):
    state = informative(state_of(curve, peers_of(*[0.6] * 9)))
    verdict = decide(OWN, curve, state, may_pause=True)
    assert (verdict.prune, verdict.pause, rule_of(verdict)) == (True, False, rule)


def test_one_whose_target_is_out_of_reach_waits_like_any_other():
    state = informative(state_of(HOPELESS, peers_of(*[0.6] * 9)))
    verdict = decide(OWN, HOPELESS, state, may_pause=True)
    assert (verdict.prune, verdict.pause, rule_of(verdict)) == (False, True, "peers")
    closed = decide(OWN, HOPELESS, state, final=True)
    assert closed.reason == verdict.reason + ". Saves 16 of 20 epochs."


@pytest.mark.parametrize("may_pause", [False, True])
def test_one_that_is_to_run_whole_is_neither_paused_nor_pruned_for_its_peers(may_pause):
    own = by_metric(0.1)
    state = state_of(own, [by_metric(0.9)] * 9)
    verdict = decide(OWN, own, state, may_pause=may_pause, exempt=True)
    assert verdict == Verdict(prune=False, reason="", forecast=verdict.forecast)


def test_one_that_is_to_run_whole_is_pruned_when_it_diverges():
    own = curve_of(epochs=2, losses=[1.0, NAN])
    verdict = decide(OWN, own, state_of(own, []), exempt=True)
    assert verdict == decide(OWN, own, state_of(own, []))
