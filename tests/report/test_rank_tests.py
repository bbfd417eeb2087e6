"""Rank statistics of few trials, against what they are by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.report.advice.rank_tests import (
    are_lower,
    chance_of,
    correlation,
    correlation_given,
    is_positive,
)


def test_correlation_shares_the_ranks_of_equals():
    # By hand: ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4.
    assert correlation([1, 5, 5, 9], [0.1, 0.3, 0.2, 7]) == pytest.approx(0.9486833)
    assert correlation([1, 1, 1], [1, 2, 3]) == 0.0
    assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)


def test_what_a_third_explains_is_taken_off():
    first, second, third = [1, 3, 2, 5, 4, 6], [2, 1, 3, 4, 6, 5], [1, 2, 3, 4, 5, 6]
    # By what a line through the ranks leaves of each.
    left = [np.array(one) - np.polyval(np.polyfit(third, one, 1), third) for one in (first, second)]
    by_hand = np.corrcoef(*left)[0, 1]
    assert correlation_given(first, second, third) == pytest.approx(by_hand)
    assert correlation_given(first, second, [7] * 6) == correlation(first, second)
    assert correlation_given(first, second, first) == 0.0


def test_few_pairs_show_nothing():
    assert not is_positive(1.0, 2)
    assert is_positive(0.7, 8)
    assert not is_positive(0.55, 8)


def test_lower_is_meant_by_more_than_chance():
    assert are_lower([1, 2, 3], [4, 5, 6, 7])
    assert not are_lower([4, 5, 6], [1, 2, 3, 7])
    assert not are_lower([1, 2], [4, 5, 6, 7])


def test_the_chance_of_successes_is_the_binomials():
    assert chance_of(2, 3, 0.1) == pytest.approx(0.028)
