"""Where reports come within an epoch: the rule alone, in numbers of steps and samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainables.training.loop import Position, next_report_step, reports_in_epoch


def ends(steps: int, reports: int) -> list[int]:
    found = [0]
    while found[-1] < steps:
        found.append(next_report_step(found[-1], steps, reports))
    return found[1:]


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 47, 48, 469])
def test_report_i_of_k_comes_after_its_share_of_the_steps_rounded_up(steps):
    for reports in range(1, min(steps, 12) + 1):
        expected = [math.ceil(i * steps / reports) for i in range(1, reports + 1)]
        assert ends(steps, reports) == expected


def test_from_a_step_between_two_reports_the_next_one_comes():
    assert [next_report_step(step, 10, 4) for step in range(10)] == [3, 3, 3, 5, 5, 8, 8, 8, 10, 10]


@pytest.mark.parametrize(
    ("asked", "first", "later"),
    [(1, 1, 1), (3, 3, 3), ((4, 1), 4, 1), ([2, np.int64(5)], 2, 5), (100, 20, 20)],
)
def test_what_is_asked_for_is_kept_up_to_a_report_a_step(asked, first, later):
    assert reports_in_epoch(asked, 0, 20, 640) == first
    assert reports_in_epoch(asked, 1, 20, 640) == later
    assert reports_in_epoch(asked, 9, 20, 640) == later


@pytest.mark.parametrize(
    ("steps", "samples", "first"),
    [
        (422, 54_000, 4),
        (47, 6000, 4),  # fashion-cnn in the examples
        (32, 4000, 2),  # mnist-mlp
        (10, 1197, 1),  # digits-mlp
        (12, 6000, 1),
        (1, 1, 1),
    ],
)
def test_by_default_the_first_epoch_reports_as_often_as_its_parts_are_long(steps, samples, first):
    assert reports_in_epoch(None, 0, steps, samples) == first
    assert reports_in_epoch(None, 1, steps, samples) == 1


def test_the_mean_loss_of_an_epoch_weighs_its_parts_by_their_samples():
    within = Position(epoch=1, train_loss=9.0).after(3, 5, 30, 2.0)
    assert within == Position(1, 3, 30, 2.0)
    assert within.after(5, 5, 10, 1.0) == Position(epoch=2, train_loss=1.75)


def test_an_epoch_in_one_part_keeps_its_loss_as_it_is():
    assert Position().after(5, 5, 0, 0.1) == Position(epoch=1, train_loss=0.1)
    assert Position().after(5, 5, 7, 0.1) == Position(epoch=1, train_loss=0.1)
