"""Some of the trials to be pruned are trained to their end all the same."""

import dataclasses
import math

import pytest

from tests.rotation.made_up_cases import (
    BETTER,
    INF,
    OWN,
    by_metric,
    config_of,
    curve_of,
    informative,
    judged,
    rule_of,
    state_of,
)
from tuner.rotation import HalvingState, decide
from tuner.rotation.decision import is_audited


def test_an_audited_trial_keeps_its_reason_and_goes_on():
    own, peers = curve_of(epochs=1, metric=0.1), BETTER
    pruned = judged(own, peers, audit=0)
    audited = judged(own, peers, audit=0.999999)
    assert (pruned.prune, pruned.audit) == (True, False)
    assert audited == dataclasses.replace(pruned, prune=False, audit=True)


def test_it_is_neither_pruned_nor_paused_later():
    own = curve_of(0.01, epochs=20, metric=0.1)
    peers = [curve_of(0.01, epochs=20, metric=0.9)] * 9
    state = informative(state_of(own, peers, audit=0.999999))
    rules = set()
    for epochs in range(1, 21):
        verdict = decide(OWN, curve_of(0.01, epochs=epochs, metric=0.1), state)
        assert not verdict.prune
        assert not verdict.pause
        assert verdict.audit == bool(verdict.reason)
        rules.add(rule_of(verdict))
    assert rules == {"", "peers"}


@pytest.mark.parametrize("may_pause", [False, True])
def test_a_diverged_trial_is_not_audited(may_pause):
    curve = curve_of(losses=[1.0, INF])
    state = state_of(curve, BETTER, audit=0.999999)
    verdict = decide(OWN, curve, state, may_pause=may_pause)
    assert (verdict.prune, verdict.audit) == (True, False)


def test_a_trial_that_goes_on_anyway_is_not_audited():
    assert not judged(by_metric(0.95), [by_metric(0.9)] * 9, audit=0.999999).audit


def test_one_that_has_waited_is_audited_as_it_was_drawn():
    own, peers = by_metric(0.1), [by_metric(0.9)] * 9
    state = state_of(own, peers, audit=0.999999)
    assert decide(OWN, own, state, may_pause=True).pause
    closed = decide(OWN, own, state, final=True)
    assert (closed.prune, closed.audit) == (False, True)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_the_share_of_audited_trials_is_as_asked(share, seed):
    config = config_of(audit=share, seed=seed)
    drawn = sum(is_audited(number, config) for number in range(10_000))
    assert abs(drawn - 10_000 * share) <= 4 * math.sqrt(10_000 * share * (1 - share))


def test_the_draw_depends_on_seed_and_number_alone():
    def drawn(**given_: object) -> list[int]:
        config = config_of(audit=0.03, **given_)
        return [number for number in range(1000) if is_audited(number, config)]

    assert drawn(seed=1) == drawn(seed=1, keep=0.5, mode="min", metric_name="loss")
    assert drawn(seed=1) != drawn(seed=2)


def test_each_trial_is_audited_or_pruned_as_it_was_drawn():
    config = config_of(audit=0.3, seed=4)
    peers = {number: by_metric(0.9) for number in range(100, 200)}
    for number in range(30):
        state = HalvingState(config, 20).with_curves(peers | {number: by_metric(0.1)})
        verdict = decide(number, by_metric(0.1), state)
        assert (verdict.audit, verdict.prune) == (
            is_audited(number, config),
            not is_audited(number, config),
        )
