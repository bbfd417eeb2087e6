"""RotationCurve: a value that only takes reports in order and in range."""

import dataclasses
import math

import pytest

from tuner.errors import InvalidInput
from tuner.rotation import RotationCurve

EMPTY = RotationCurve(layers=("a", "b"), max_epochs=4)


def test_an_empty_curve_has_no_progress():
    assert len(EMPTY) == 0
    assert EMPTY.progress == 0.0


def test_appending_returns_a_new_curve_and_leaves_the_old_one():
    curve = EMPTY.append(1, {"a": 0.1, "b": 0.2}, lr_progress=0.4, train_loss=2.0, metric=0.5)
    assert len(EMPTY) == 0
    assert curve == RotationCurve(
        layers=("a", "b"),
        max_epochs=4,
        epochs=(1.0,),
        lr_progress=(0.4,),
        distances=((0.1, 0.2),),
        train_loss=(2.0,),
        metric=(0.5,),
    )
    assert len(curve.append(2, {})) == 2


def test_distances_are_kept_in_the_order_of_the_layers():
    assert EMPTY.append(1, {"b": 0.2, "a": 0.1}).distances == ((0.1, 0.2),)


def test_what_is_not_reported_becomes_nan():
    curve = EMPTY.append(0.25, {"b": 0.2})
    unknown = [curve.distances[0][0], curve.lr_progress[0], curve.train_loss[0], curve.metric[0]]
    assert all(math.isnan(value) for value in unknown)
    assert curve.distances[0][1] == 0.2


@pytest.mark.parametrize(("epoch", "progress"), [(0.5, 0.125), (1, 0.25), (4, 1.0)])
def test_progress_is_the_share_of_epochs_done(epoch, progress):
    assert EMPTY.append(epoch, {}).progress == progress


def test_a_diverged_loss_and_metric_are_kept_as_they_are():
    curve = EMPTY.append(1, {}, train_loss=math.inf, metric=-math.inf)
    assert (curve.train_loss, curve.metric) == ((math.inf,), (-math.inf,))


def test_a_curve_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        EMPTY.max_epochs = 5


@pytest.mark.parametrize(
    ("value", "kept"), [(-1e-3, 0.0), (2.004, 2.0), (0.0, 0.0), (2.0, 2.0), (1.2, 1.2)]
)
def test_a_distance_out_of_range_by_rounding_is_clipped(value, kept):
    assert EMPTY.append(1, {"a": value}).distances[0][0] == kept


@pytest.mark.parametrize("value", [-0.1, 2.1, 57.3, math.inf, -math.inf])
def test_a_distance_out_of_range_is_refused(value):
    with pytest.raises(InvalidInput, match=r"rotation/a must be within 0 and 2, got .*; use NaN"):
        EMPTY.append(1, {"a": value})


@pytest.mark.parametrize("value", [-0.1, 1.1, math.inf])
def test_lr_progress_out_of_range_is_refused(value):
    with pytest.raises(InvalidInput, match="lr_progress must be within 0 and 1"):
        EMPTY.append(1, {}, lr_progress=value)


def test_lr_progress_that_falls_is_refused_across_an_unknown_one():
    curve = EMPTY.append(1, {}, lr_progress=0.5).append(2, {})
    assert len(curve.append(3, {}, lr_progress=0.5)) == 3
    with pytest.raises(InvalidInput, match=r"lr_progress must never fall, got 0\.4 after 0\.5"):
        curve.append(3, {}, lr_progress=0.4)


@pytest.mark.parametrize("epoch", [2, 1.5, 1, 0, -1, 4.5, math.nan])
def test_epochs_must_strictly_increase_within_the_run(epoch):
    curve = EMPTY.append(2, {})
    with pytest.raises(InvalidInput, match=r"epochs must strictly increase within \(0, 4\]"):
        curve.append(epoch, {})


def test_a_layer_that_the_curve_lacks_is_refused_with_the_known_ones():
    with pytest.raises(InvalidInput, match="unknown layer 'c'; known: a, b"):
        EMPTY.append(1, {"a": 0.1, "c": 0.2})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_epochs": 0}, "max_epochs must be >= 1, got 0"),
        ({"metric": ()}, "metric must have one entry for each of 1 epochs, got 0"),
        ({"lr_progress": (0.1, 0.2)}, "lr_progress must have one entry"),
        ({"distances": ((0.1,),)}, "one entry for each of 2 layers, got 1"),
    ],
)
def test_a_curve_that_does_not_fit_together_is_refused(change, message):
    curve = EMPTY.append(1, {"a": 0.1, "b": 0.2})
    with pytest.raises(InvalidInput, match=message):
        dataclasses.replace(curve, **change)
