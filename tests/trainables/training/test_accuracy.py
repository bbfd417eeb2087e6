"""Accuracy is the share of right classes in every form of targets, or is left out."""

from __future__ import annotations

import pytest
import torch
from smallest_net import Smallest, epochs, points
from torch import nn
from torch.nn import functional

from trainables import Data
from trainables.training.accuracy import count_hits


def counted(output, target) -> tuple[int, int] | None:
    found = count_hits(torch.tensor(output), torch.tensor(target))
    return None if found is None else (int(found[0]), int(found[1]))


SCORES = [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]


@pytest.mark.parametrize(
    ("output", "target", "expected"),
    [
        (SCORES, [1, 0, 0], (2, 3)),
        (SCORES, [[1], [0], [0]], (2, 3)),
        (SCORES, [1, -100, 0], (1, 2)),
        (SCORES, [-100, -100, -100], (0, 0)),
        ([[[0.9, 0.1], [0.1, 0.9]]], [[0, 1]], (2, 2)),
        ([0.5, -0.5, 2.0], [1, 1, 0], (1, 3)),
        ([[0.5], [-0.5], [2.0]], [1, 0, 0], (2, 3)),
        ([[0.5], [-0.5], [2.0]], [[1], [0], [-100]], (2, 2)),
        ([0.5, -0.5], [[1], [0]], (2, 2)),
        ([[0.5, -0.5], [0.1, 0.1]], [[1, 0], [0, 1]], (3, 4)),
        ([[0.5]], [1], (1, 1)),
        (SCORES, [1.0, 0.0, 0.0], None),
        ([0.5, -0.5], [3, 7], None),
        (SCORES, [1, 0], None),
        ([[0.5], [0.1]], [[1, 0], [0, 1]], None),
    ],
)
def test_hits_are_counted_or_the_shapes_do_not_fit(output, target, expected):
    assert counted(output, target) == expected


class Shaped(Smallest):
    """Has its targets in a column, as people read them from a table."""

    def build_data(self, data_dir):
        column = [(x, y[:, None]) for x, y in (points(100, 0), points(50, 1))]
        return Data(*column)


def test_targets_in_a_column_have_the_accuracy_of_plain_ones():
    class Column(Shaped):
        def loss(self, output, target):
            return functional.cross_entropy(output, target.squeeze(1))

    config = {"max_epochs": 2, "batch_size": 10}
    plain = epochs(Smallest(config=dict(config)), 2)[-1]
    assert epochs(Column(config=dict(config)), 2)[-1]["val_accuracy"] == plain["val_accuracy"] <= 1


def test_one_logit_for_two_classes_has_the_accuracy_of_its_sign():
    class Binary(Smallest):
        def build_model(self, config):
            return nn.Linear(4, 1)

        def loss(self, output, target):
            return functional.binary_cross_entropy_with_logits(output.squeeze(1), target.float())

    last = epochs(Binary(config={"max_epochs": 6, "batch_size": 10, "lr": 0.5}), 6)[-1]
    assert 0.9 < last["val_accuracy"] <= 1
