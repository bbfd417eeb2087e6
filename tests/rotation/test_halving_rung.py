"""How trials compare at one epoch."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import rank
from tuner.rotation.halving import FEATURES, Rung, standardised

NAN, INF = math.nan, math.inf
EQUALLY = np.ones(len(FEATURES))
BY_METRIC = np.array([1.0, 0.0, 0.0, 0.0])
# A busy machine is no reason to fail.
UNHURRIED = settings(deadline=None)

LEVEL = st.sampled_from([-INF, -1.0, 0.0, 0.5, 1.0, INF, NAN])
MERITS = st.lists(st.tuples(*[LEVEL] * len(FEATURES)), min_size=1, max_size=12)


def slow_standardised(column: list[float]) -> list[float]:
    """Return the logistic scores of a column's ranks, one by one."""
    known = [value for value in column if not math.isnan(value)]
    scores = []
    for value in column:
        if math.isnan(value) or len(known) < 2:
            scores.append(0.0)
            continue
        share = (rank(value, known) - 0.5) / len(known)
        scores.append(math.sqrt(3) / math.pi * math.log(share / (1 - share)))
    return scores


def rung_of(features: list[tuple[float, ...]], weights: np.ndarray = EQUALLY) -> Rung:
    """Return a scored rung, whose trials are numbered from 0."""
    rung = Rung(1.0)
    for number, its in enumerate(features):
        rung = rung.with_trial(number, its)
    return rung.scored(weights)


def by_metric(*metrics: float) -> Rung:
    return rung_of([(metric, NAN, NAN, NAN) for metric in metrics], BY_METRIC)


def places(rung: Rung) -> list[int]:
    return [rung.place(number) for number in rung.numbers.tolist()]


# Standardised ranks.


@UNHURRIED
@given(MERITS)
def test_standardised_ranks_match_the_reference(features):
    scores = standardised(np.array(features))
    for column, expected in zip(scores.T, zip(*features, strict=True), strict=True):
        np.testing.assert_allclose(column, slow_standardised(list(expected)), atol=1e-12)


@pytest.mark.parametrize(("count", "within"), [(2, 0.5), (10, 0.2), (100, 0.05), (1000, 0.01)])
@pytest.mark.parametrize("unknown", [0, 5])
def test_their_mean_is_0_and_their_deviation_about_1(count, within, unknown):
    values = np.random.default_rng(0).normal(size=(count + unknown, 1))
    values[:unknown] = NAN
    scores = standardised(values)
    assert scores.mean() == pytest.approx(0, abs=1e-12)
    assert scores[unknown:].std() == pytest.approx(1, abs=within)


@pytest.mark.parametrize(
    "values",
    [[1.0, 2.0, 3.0], [-5.0, 0.0, 1e300], [-INF, 0.0, INF], [0.1, 0.11, 0.1100001]],
)
def test_only_the_order_counts(values):
    scores = standardised(np.array(values)[:, None])[:, 0]
    np.testing.assert_allclose(scores, slow_standardised([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    ("values", "zero"),
    [
        ([NAN, 1.0, 2.0], [True, False, False]),
        ([NAN, 1.0, NAN], [True, True, True]),
        ([NAN, NAN], [True, True]),
        ([1.0, 1.0, 1.0], [True, True, True]),
        ([1.0], [True]),
        ([], []),
    ],
    ids=["unknown", "only one known", "nothing known", "all alike", "alone", "empty"],
)
def test_what_is_unknown_or_cannot_be_compared_is_in_the_middle(values, zero):
    scores = standardised(np.array(values).reshape(-1, 1))[:, 0]
    assert (scores == 0).tolist() == zero


def test_equals_share_their_rank():
    low, first, second, high = standardised(np.array([[0.1], [0.2], [0.2], [0.3]]))[:, 0]
    assert low < first == second < high
    assert first == 0


# Places.


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ((0.5,), [1]),
        ((0.1, 0.3, 0.2), [3, 1, 2]),
        ((0.2, 0.2, 0.1), [1, 1, 3]),
        ((0.3, 0.2, 0.2, 0.1), [1, 2, 2, 4]),
        ((0.2, 0.2), [1, 1]),
        ((0.1, NAN, 0.3), [3, 2, 1]),
        ((-INF, 0.1, NAN), [3, 1, 2]),
        ((-INF, -INF, 0.1), [2, 2, 1]),
    ],
)
def test_place_1_is_best_and_equals_share_the_better_place(metrics, expected):
    assert places(by_metric(*metrics)) == expected


def test_a_trial_is_placed_by_the_weighted_sum_of_its_scores():
    features = [(0.1, 0.9, 0.9, 1.5), (0.2, 0.5, 0.1, 1.5), (0.3, 0.1, 0.5, 1.0)]
    assert places(rung_of(features, np.array([1.0, 0.0, 0.0, 0.0]))) == [3, 2, 1]
    assert places(rung_of(features, np.array([0.0, 1.0, 0.0, 0.0]))) == [1, 2, 3]
    assert places(rung_of(features, np.array([0.0, 0.0, 1.0, 0.0]))) == [1, 3, 2]
    assert places(rung_of(features, np.array([0.0, 0.0, 0.0, 1.0]))) == [1, 1, 3]
    assert places(rung_of(features, np.array([1.0, 0.0, 0.6, 0.0]))) == [2, 3, 1]
    assert places(rung_of(features, np.zeros(4))) == [1, 1, 1]


@pytest.mark.parametrize(
    "worst", [(-INF, 9.0, 9.0, 1.0), (9.0, -INF, 9.0, 1.0), (9.0, 9.0, -INF, 1.0)]
)
def test_the_worst_there_is_comes_last_whatever_else_is_known(worst):
    rung = rung_of([(0.1,) * 4, worst, (0.2,) * 4], np.array([0.5, 0.0, 0.5, 0.5]))
    assert places(rung) == [2, 3, 1]


@UNHURRIED
@given(MERITS, st.tuples(*[st.sampled_from([0.0, 0.2, 1.0])] * len(FEATURES)))
def test_a_place_is_one_more_than_how_many_score_higher(features, weights):
    rung = rung_of(features, np.array(weights))
    scores = rung.scores.tolist()
    assert places(rung) == [1 + sum(other > own for other in scores) for own in scores]


# Updates.


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_insertion_does_not_matter(seed):
    draw = random.Random(seed)
    trials = {number: (draw.random(), draw.random(), NAN, 1.0) for number in range(20)}
    expected, rung = Rung(2.0), Rung(2.0)
    for number, features in trials.items():
        expected = expected.with_trial(number, features)
    for number in draw.sample(sorted(trials), len(trials)):
        rung = rung.with_trial(number, trials[number])
    for column in ("numbers", "features"):
        np.testing.assert_array_equal(getattr(rung, column), getattr(expected, column))
    np.testing.assert_array_equal(rung.scored(EQUALLY).scores, expected.scored(EQUALLY).scores)


def test_a_trial_that_is_there_is_replaced():
    rung = by_metric(0.1, 0.2, 0.3)
    changed = rung.with_trial(0, (0.9, NAN, NAN, NAN)).scored(BY_METRIC)
    assert len(changed) == 3
    assert places(changed) == [1, 3, 2]


def test_an_update_leaves_the_rung_as_it_was():
    rung = by_metric(0.1, 0.2, 0.3)
    features = rung.features.copy()
    rung.with_trial(0, (0.9, NAN, NAN, NAN))
    rung.with_trial(7, (0.9, NAN, NAN, NAN))
    rung.scored(EQUALLY)
    np.testing.assert_array_equal(rung.features, features)
    assert places(rung) == [3, 2, 1]


def test_it_knows_which_trials_it_has():
    rung = Rung(1.0).with_trial(3, (0.1, NAN, 0.2, NAN)).with_trial(8, (0.1, 0.2, 0.3, 1.0))
    assert [number for number in range(10) if number in rung] == [3, 8]
    assert len(rung) == 2
    assert rung.epoch == 1.0


def test_it_holds_a_trial_only_with_the_same_merits():
    rung = Rung(1.0).with_trial(3, (0.1, NAN, 0.2, 1.0))
    assert rung.holds(3, (0.1, NAN, 0.2, 1.0))
    assert not rung.holds(3, (0.1, 0.0, 0.2, 1.0))
    assert not rung.holds(3, (0.1, NAN, NAN, 1.0))
    assert not rung.holds(3, (0.1, NAN, 0.2, 1.5))
    assert not rung.holds(4, (0.1, NAN, 0.2, 1.0))
    assert not Rung(1.0).holds(0, (NAN,) * 4)


def test_an_empty_rung_can_be_scored():
    assert len(Rung(1.0).scored(EQUALLY)) == 0


def test_a_rung_is_equal_to_itself_alone_and_can_be_hashed():
    first, second = by_metric(0.1, 0.2), by_metric(0.1, 0.2)
    assert first != second
    assert len({first, second, first}) == 2
