"""What a study's own trials say of all that they are compared by."""

import math
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.rotation import halving as weights
from tuner.rotation.halving import (
    FEATURES,
    METRIC,
    PRIOR,
    ROTATION,
    TO_FALL,
    TRAIN_LOSS,
    Rung,
    learn,
    standardised,
)

NAN = math.nan
# A busy machine is no reason to fail.
UNHURRIED = settings(deadline=None)


def rung_of(epoch: float, features: dict[int, tuple[float, ...]]) -> Rung:
    rung = Rung(epoch)
    for number in sorted(features):
        rung = rung.with_trial(number, features[number])
    return rung


def study(trials: int, follows: tuple[float, ...], *, noise: float = 0.5, seed: int = 0):
    """Return two rungs, the metric at the second, the end, following what was seen at the first."""
    draw = np.random.default_rng(seed)
    first = draw.normal(size=(trials, len(FEATURES)))
    outcome = first @ np.array(follows) + noise * draw.normal(size=trials)
    second = np.column_stack([outcome, first[:, 1:]])
    numbers = np.arange(trials)
    return [Rung(1.0, numbers, first), Rung(2.0, numbers, second)]


def slow_learn(rungs: list[dict[int, tuple[float, ...]]]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return mean, deviation and evidence of the same regression, by its normal equations.

    The outcome short of the end is the standardised sum of metric and train loss, each as the
    prior weighs it; there a rate still to fall is left out of what it is laid to.
    """
    size = len(FEATURES)
    precision = [[0.0] * size for _ in range(size)]
    evidence = [0.0] * size
    for i in range(size):
        precision[i][i] = 1 / weights._PRIOR_DEVIATION**2
        evidence[i] = precision[i][i] * float(PRIOR[i])
    trials = 0
    for earlier, later in pairwise([rung for rung in rungs if len(rung) >= weights._ENOUGH]):
        both = sorted(earlier.keys() & later.keys())
        if len(both) < weights._ENOUGH:
            continue
        inputs = standardised(np.array([earlier[number] for number in both]))
        stood = standardised(np.array([later[number] for number in both]))
        at_the_end = later is rungs[-1]
        if at_the_end:
            outcomes = stood[:, 0].tolist()
        else:
            # One sum as the code makes it, so that what ties there ties here.
            outcomes = standardised((stood[:, :2] @ PRIOR[:2])[:, None])[:, 0].tolist()
        trials += len(both)
        for row, outcome in zip(inputs, outcomes, strict=True):
            if not at_the_end:
                row[3] = 0.0
            for i in range(size):
                evidence[i] += float(row[i] * outcome) / weights._NOISE
                for j in range(size):
                    precision[i][j] += float(row[i] * row[j]) / weights._NOISE
    deviation = np.sqrt(np.diag(np.linalg.inv(np.array(precision))))
    return np.linalg.solve(np.array(precision), np.array(evidence)), deviation, trials


LEVEL = st.sampled_from([-math.inf, 0.1, 0.2, 0.3, 0.4, 0.5, NAN])
MERITS = st.dictionaries(
    st.integers(0, 15), st.tuples(*[LEVEL] * len(FEATURES)), min_size=1, max_size=12
)


@UNHURRIED
@given(st.lists(MERITS, max_size=4))
def test_the_weights_match_the_reference(rungs):
    learnt = learn([rung_of(1.0 + at, features) for at, features in enumerate(rungs)])
    mean, deviation, trials = slow_learn(rungs)
    np.testing.assert_allclose(learnt.mean, mean, atol=1e-12)
    np.testing.assert_allclose(learnt.deviation, deviation, atol=1e-12)
    assert learnt.trials == trials


@UNHURRIED
@given(st.lists(MERITS, max_size=4))
def test_no_weight_that_is_used_is_negative(rungs):
    learnt = learn([rung_of(1.0 + at, features) for at, features in enumerate(rungs)])
    assert (learnt.used >= 0).all()
    assert np.isfinite(learnt.used).all()


@pytest.mark.parametrize(
    "rungs",
    [
        [],
        [Rung(1.0)],
        [Rung(1.0), Rung(2.0)],
        study(3, (1.0, 1.0, 1.0, 1.0)),
        study(50, (1.0, 1.0, 1.0, 1.0))[:1],
        [study(50, (1.0, 1.0, 1.0, 1.0))[0], Rung(2.0)],
        [
            rung_of(1.0, {number: (0.1 * number,) * 4 for number in range(6)}),
            rung_of(2.0, {number: (0.1 * number,) * 4 for number in range(6, 12)}),
        ],
    ],
    ids=["no rung", "empty", "two empty", "too few", "one rung", "none went on", "none at both"],
)
def test_without_evidence_they_are_the_prior(rungs):
    learnt = learn(rungs)
    np.testing.assert_allclose(learnt.mean, PRIOR)
    np.testing.assert_allclose(learnt.deviation, weights._PRIOR_DEVIATION)
    assert learnt.trials == 0
    assert learnt.rotation_is == "not known yet"


def test_a_trial_of_which_nothing_is_known_is_no_evidence():
    nothing = dict.fromkeys(range(30), (NAN,) * 4)
    np.testing.assert_allclose(learn([rung_of(1, nothing), rung_of(2, nothing)]).mean, PRIOR)


@pytest.mark.parametrize("trials", [4, 7])
@pytest.mark.parametrize("follows", [(0.0, 0.0, 5.0, 0.0), (0.0, 0.0, -5.0, 0.0)])
def test_little_evidence_is_not_known_yet(trials, follows):
    learnt = learn(study(trials, follows))
    assert learnt.trials == trials
    assert learnt.rotation_is == "not known yet"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("follows", "says"),
    [
        ((0.0, 0.0, 1.0, 0.0), "informative"),
        ((0.5, 0.5, 1.0, 0.5), "informative"),
        ((1.0, 0.5, 0.0, 0.0), "not informative"),
        ((1.0, 0.0, -1.0, 0.0), "not informative"),
        ((0.0, 0.0, -1.0, 0.0), "not informative"),
    ],
    ids=["rotation ranks", "and so do others", "it does not", "against it", "only against it"],
)
def test_strong_evidence_says_whether_rotation_ranks(follows, says, seed):
    learnt = learn(study(4000, follows, noise=0.2, seed=seed))
    assert learnt.rotation_is == says
    assert (learnt.used[ROTATION] > 0.3) == (says == "informative")


def test_a_rotation_that_goes_against_the_metric_counts_nothing():
    learnt = learn(study(1000, (1.0, 0.0, -1.0, 0.0)))
    assert learnt.mean[ROTATION] < -0.3
    assert learnt.used[ROTATION] == 0
    assert learnt.used[0] > 0.3


def test_a_rotation_that_is_never_known_keeps_its_prior():
    rungs = study(200, (1.0, 0.0, 0.0, 0.0))
    for rung in rungs:
        rung.features[:, ROTATION] = NAN
    learnt = learn(rungs)
    assert learnt.mean[ROTATION] == pytest.approx(PRIOR[ROTATION])
    assert learnt.deviation[ROTATION] == pytest.approx(weights._PRIOR_DEVIATION)


# What the outcome is.


def short_of_the_end(rungs: list[Rung]) -> list[Rung]:
    return [*rungs, Rung(3.0)]


@pytest.mark.parametrize(
    ("metric", "loss", "prefers"),
    [(1.0, 0.0, METRIC), (0.0, 1.0, TRAIN_LOSS)],
    ids=["the metric persists", "the train loss persists"],
)
def test_short_of_the_end_the_outcome_is_metric_and_train_loss(metric, loss, prefers):
    draw = np.random.default_rng(0)
    first = draw.normal(size=(2000, len(FEATURES)))
    second = draw.normal(size=first.shape)
    second[:, METRIC] += 9 * metric * first[:, METRIC]
    second[:, TRAIN_LOSS] += 9 * loss * first[:, TRAIN_LOSS]
    numbers = np.arange(len(first))
    rungs = [Rung(1.0, numbers, first), Rung(2.0, numbers, second)]
    early, end = learn(short_of_the_end(rungs)), learn(rungs)
    # What persists is worth as much of the outcome as the prior gives it there.
    share = PRIOR[prefers] / np.linalg.norm(PRIOR[: TRAIN_LOSS + 1])
    assert early.mean[prefers] == pytest.approx(share, abs=0.1)
    assert early.mean[1 - prefers] == pytest.approx(0, abs=0.1)
    # At the end only the metric is.
    assert end.mean[prefers] == pytest.approx(metric, abs=0.1)


def test_a_metric_not_known_yet_leaves_the_train_loss_as_the_outcome():
    first, second = study(1000, (0.0, 0.0, 1.0, 0.0))
    second.features[:, TRAIN_LOSS] = second.features[:, METRIC]
    second.features[:, METRIC] = NAN
    learnt = learn(short_of_the_end([first, second]))
    assert learnt.rotation_is == "informative"
    assert learnt.mean[ROTATION] > 0.5


@pytest.mark.parametrize("worth", [1.0, -1.0])
def test_only_ends_teach_what_a_rate_still_to_fall_is_worth(worth):
    rungs = study(1000, (0.0, 0.0, 0.0, worth))
    early, end = learn(short_of_the_end(rungs)), learn(rungs)
    assert early.mean[TO_FALL] == pytest.approx(PRIOR[TO_FALL])
    assert early.deviation[TO_FALL] == pytest.approx(weights._PRIOR_DEVIATION)
    assert end.mean[TO_FALL] == pytest.approx(0.9 * worth, abs=0.2)
    assert end.deviation[TO_FALL] < weights._PRIOR_DEVIATION / 2
    assert early.trials == end.trials == 1000


def test_rates_that_all_fall_alike_keep_their_prior():
    first, second = study(200, (1.0, 0.0, 0.0, 0.0))
    first.features[:, TO_FALL] = 1.5
    learnt = learn([first, second])
    assert learnt.mean[TO_FALL] == pytest.approx(PRIOR[TO_FALL])


# How sure it is.


def test_more_evidence_is_surer():
    deviations = [
        learn(study(n, (1.0, 0.0, 1.0, 0.0))).deviation[ROTATION] for n in (10, 100, 1000)
    ]
    assert deviations == sorted(deviations, reverse=True)
    assert deviations[-1] < 0.05


def test_only_trials_that_reached_both_rungs_are_compared():
    first, second = study(100, (0.0, 0.0, 1.0, 0.0))
    went_on = Rung(2.0, second.numbers[::2], second.features[::2])
    alone = Rung(1.0, first.numbers[::2], first.features[::2])
    np.testing.assert_array_equal(learn([first, went_on]).mean, learn([alone, went_on]).mean)
    assert learn([first, went_on]).trials == 50


def test_a_rung_that_few_have_reached_is_left_out():
    first, second = study(100, (0.0, 0.0, 1.0, 0.0))
    few = Rung(1.5, first.numbers[:3], first.features[:3])
    np.testing.assert_array_equal(learn([first, few, second]).mean, learn([first, second]).mean)


def test_a_thousand_trials_take_milliseconds():
    first, second = study(1000, (1.0, 0.5, 0.5, 0.5))
    rungs = [Rung(float(2**at), rung.numbers, rung.features) for at, rung in enumerate([first] * 4)]
    taken_s = []
    for _ in range(5):
        begun = time.perf_counter()
        learn([*rungs, second])
        taken_s.append(time.perf_counter() - begun)
    # About 1 ms when idle; the margin is for a busy machine.
    assert min(taken_s) < 0.02
