"""The rules that end a trial whatever its peers do, each by a table."""

import pytest

from tests.rotation.made_up_cases import (
    INF,
    LAYERS,
    NAN,
    curve_of,
    judged,
    rule_of,
)
from tuner.rotation import RotationCurve

# Divergence.


@pytest.mark.parametrize(
    ("losses", "pruned"),
    [
        ([2.0, 1.0], False),
        ([2.0, INF], True),
        ([2.0, -INF], True),
        ([2.0, NAN], True),
        ([NAN, INF], True),
        ([NAN, NAN], False),
        ([INF, 1.0], False),
    ],
)
def test_a_loss_that_is_no_longer_finite_has_diverged(losses, pruned):
    verdict = judged(curve_of(losses=losses))
    assert verdict.prune is pruned
    assert (rule_of(verdict) == "diverged") is pruned


def test_divergence_prunes_even_in_warmup_and_within_an_epoch():
    curve = RotationCurve(LAYERS, 20).append(0.25, {}, train_loss=INF)
    assert judged(curve, warmup_epochs=5).reason == (
        "diverged: train loss inf at epoch 0.25. Saves 19.75 of 20 epochs."
    )


@pytest.mark.parametrize(
    ("epoch", "says"),
    [
        (1 / 3, "at epoch 0.33. Saves 1999.67 of 2000 epochs."),
        (1234, "at epoch 1234. Saves 766 of 2000 epochs."),
        (sum([0.1] * 10), "at epoch 1. Saves 1999 of 2000 epochs."),
    ],
)
def test_a_reason_counts_epochs_readably(epoch, says):
    curve = RotationCurve(LAYERS, 2000).append(epoch, {}, train_loss=INF)
    assert judged(curve).reason == f"diverged: train loss inf {says}"


# Rotating without learning.


@pytest.mark.parametrize(
    ("rotation", "losses", "pruned"),
    [
        ([0.4, 0.6], [2.3, 2.3], True),
        ([0.4, 0.6], [2.3, 2.4], True),
        ([0.4, 0.6], [2.3, 2.29], False),
        ([0.4, 0.5], [2.3, 2.4], False),
        ([0.6], [2.3], False),
        ([0.4, 0.6], [NAN, NAN], False),
        ([0.4, 0.6], [NAN, 2.3], False),
        ([0.4, NAN], [2.3, 2.4], False),
        ([0.4, 0.6, 0.7], [2.3, 1.0, 2.3], True),
    ],
    ids=[
        "loss flat",
        "loss rising",
        "loss falling",
        "turned by half exactly",
        "one epoch",
        "no loss known",
        "one loss known",
        "rotation unknown",
        "back to the start",
    ],
)
def test_rotating_without_learning(rotation, losses, pruned):
    verdict = judged(curve_of(rotation, epochs=len(rotation), losses=losses))
    assert verdict.prune is pruned
    assert (rule_of(verdict) == "rotating without learning") is pruned


def test_rotating_without_learning_waits_for_warmup_and_two_whole_epochs():
    turned = dict.fromkeys(LAYERS, 0.6)
    curve = RotationCurve(LAYERS, 20).append(0.5, turned, train_loss=2.3)
    curve = curve.append(1.9, turned, train_loss=2.4)
    assert not judged(curve, warmup_epochs=0.25).prune
    curve = curve.append(2, turned, train_loss=2.4)
    assert judged(curve, warmup_epochs=2).prune
    assert not judged(curve, warmup_epochs=3).prune


def test_its_reason_names_the_losses_the_rotation_the_threshold_and_what_is_saved():
    assert judged(curve_of([0.4, 0.6], losses=[2.3, 2.4])).reason == (
        "rotating without learning: train loss 2.3 to 2.4. By epoch 2 the hidden layers have "
        "turned by 0.60, more than 0.5, and neither the train loss nor the metric has improved. "
        "Saves 18 of 20 epochs."
    )


@pytest.mark.parametrize(("mode", "pruned"), [("max", False), ("min", True)])
def test_a_trial_whose_metric_improves_learns_though_its_train_loss_rises(mode, pruned):
    curve = RotationCurve(LAYERS, 20)
    for epoch, metric in ((1, 0.5), (2, 0.6), (3, 0.7)):
        curve = curve.append(
            epoch, dict.fromkeys(LAYERS, 0.6), train_loss=float(epoch), metric=metric
        )
    verdict = judged(curve, mode=mode)
    assert verdict.prune is pruned
    assert (rule_of(verdict) == "rotating without learning") is pruned
