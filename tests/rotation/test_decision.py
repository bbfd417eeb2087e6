"""decide: when nothing is known, and what must hold whatever the case."""

import dataclasses
import pickle
import time
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rotation.made_up_cases import (
    BETTER,
    INF,
    LAYERS,
    NAN,
    OWN,
    by_metric,
    curve_of,
    informative,
    judged,
    rule_of,
    state_of,
)
from tuner.rotation import RotationCurve, Verdict, decide

# A busy machine is no reason to fail.
UNHURRIED = settings(deadline=None)
LATER = RotationCurve(LAYERS, 20).append(3, {}, metric=0.9)


# No evidence never prunes.


@pytest.mark.parametrize(
    ("curve", "peers"),
    [
        (RotationCurve(LAYERS, 20), BETTER),
        (curve_of(epochs=2), []),
        (curve_of(0.001, epochs=10), []),
        (by_metric(0.1), []),
        (curve_of(0.001, epochs=4, metric=NAN), BETTER),
        (curve_of(epochs=4), [curve_of(0.9, epochs=4, metric=NAN)] * 9),
        (RotationCurve(LAYERS, 20).append(1, {}), BETTER),
        (RotationCurve(LAYERS, 20).append(0.25, {}), BETTER),
        (RotationCurve(LAYERS, 20).append(0.25, {}, metric=NAN), [LATER] * 9),
    ],
    ids=[
        "empty",
        "no peers",
        "no peers, hardly turning",
        "plain metric, no peers",
        "no metric",
        "no peer has a metric",
        "nothing known of an epoch",
        "nothing known within an epoch",
        "nothing known, nor of the others",
    ],
)
@pytest.mark.parametrize("warmup_epochs", [0.25, 1])
def test_no_evidence_never_prunes(curve, peers, warmup_epochs):
    state = state_of(curve, peers, warmup_epochs=warmup_epochs, keep=0.1, early_keep=0.1)
    assert not decide(OWN, curve, state).prune
    assert not decide(OWN, curve, informative(state)).prune


def test_a_trial_that_the_state_does_not_know_goes_on():
    curve = curve_of(epochs=1, metric=0.1)
    assert not decide(99, curve, state_of(curve, BETTER)).prune


@pytest.mark.parametrize(("epochs", "pruned"), [(1, False), (2, False), (3, True)])
def test_no_decision_before_warmup(epochs, pruned):
    curve = curve_of(0.001, epochs=epochs, metric=0.1)
    assert judged(curve, BETTER, warmup_epochs=3).prune is pruned


@pytest.mark.parametrize("loss", [1.0, INF, NAN])
@pytest.mark.parametrize("may_pause", [False, True])
def test_the_last_epoch_is_never_pruned(loss, may_pause):
    curve = curve_of(0.4, epochs=9, max_epochs=9, metric=0.0, losses=[0.5] * 8 + [loss])
    state = informative(state_of(curve, [curve_of(0.2, epochs=9, max_epochs=9)] * 9))
    verdict = decide(OWN, curve, state, may_pause=may_pause)
    assert verdict == Verdict(prune=False, reason="", forecast=verdict.forecast)


def test_nor_is_a_last_epoch_summed_from_fractions():
    *_, epoch = accumulate([0.1] * 10)  # `sum` corrects itself since Python 3.12
    assert epoch != 1
    curve = RotationCurve(LAYERS, 1).append(epoch, {}, train_loss=INF, metric=0.1)
    assert not judged(curve).prune


# What holds for every case.


def test_no_scheduler_can_see_the_test_split():
    assert {field.name for field in dataclasses.fields(RotationCurve)} == {
        "layers",
        "max_epochs",
        "epochs",
        "lr_progress",
        "distances",
        "train_loss",
        "metric",
    }


MAYBE = st.just(NAN) | st.floats(0, 1)
CURVES = st.builds(
    lambda rotation, losses, metric, epochs: dataclasses.replace(
        curve_of(rotation, epochs=epochs, losses=losses), metric=(metric,) * epochs
    ),
    st.lists(MAYBE, min_size=10, max_size=10),
    st.lists(st.floats(0, 3), min_size=10, max_size=10),
    MAYBE,
    st.integers(1, 10),
)
PEERS = st.lists(CURVES, max_size=8)
CRITERIA = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["min", "max"]),
        "warmup_epochs": st.sampled_from([0.25, 1, 2]),
        "keep": st.sampled_from([0.1, 0.5, 1]),
        "audit": st.sampled_from([0, 0.5]),
    }
)


@UNHURRIED
@given(CURVES, PEERS, CRITERIA, st.booleans(), st.booleans(), st.booleans())
def test_a_verdict_is_one_thing_with_a_reason_or_none_without_and_always_the_same(
    curve, peers, given_, may_pause, final, ranked
):
    state = state_of(curve, peers, **given_)
    state = informative(state) if ranked else state
    verdict = decide(OWN, curve, state, may_pause=may_pause, final=final)
    assert verdict.prune + verdict.pause + verdict.audit == bool(verdict.reason)
    assert may_pause or not verdict.pause
    again = decide(OWN, curve, state, may_pause=may_pause, final=final)
    assert repr(again) == repr(verdict)


@UNHURRIED
@given(CURVES, PEERS)
def test_a_verdict_changes_nothing(curve, peers):
    state = state_of(curve, peers)
    assert state.started <= 1 + len(peers)  # worked out once, and kept
    before = pickle.dumps((curve, state))
    decide(OWN, curve, state, may_pause=True)
    decide(OWN, curve, state, final=True)
    assert pickle.dumps((curve, state)) == before


@UNHURRIED
@given(CURVES)
def test_without_peers_only_a_run_that_does_not_learn_is_pruned(curve):
    learning = dataclasses.replace(curve, train_loss=tuple(1 / epoch for epoch in curve.epochs))
    assert not judged(learning).prune
    assert rule_of(judged(curve)) in ("", "rotating without learning")


@UNHURRIED
@given(CURVES, PEERS, st.booleans())
def test_the_best_by_everything_is_never_pruned(curve, peers, ranked):
    best = dataclasses.replace(
        curve,
        metric=(2.0,) * len(curve),
        distances=((1.0,) * len(LAYERS),) * len(curve),
        train_loss=tuple(-epoch for epoch in curve.epochs),
    )
    state = state_of(best, peers, keep=0.01)
    verdict = decide(OWN, best, informative(state) if ranked else state)
    assert verdict == Verdict(prune=False, reason="", forecast=verdict.forecast)


def test_a_decision_among_a_thousand_takes_milliseconds_at_most():
    curve = curve_of(0.15, epochs=4, metric=0.1)
    peers = [curve_of(0.15, epochs=4, metric=0.5 + index / 2000) for index in range(1000)]
    state = state_of(curve, peers)
    taken_s = []
    for _ in range(10):
        start = time.perf_counter()
        verdict = decide(OWN, curve, state)
        taken_s.append(time.perf_counter() - start)
    assert verdict.prune
    # Well under 1 ms when idle; the margin is for a busy machine.
    assert min(taken_s) < 0.005
