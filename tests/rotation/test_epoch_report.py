"""EpochReport: what a trainable returns, what the study stores, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tuner.errors import InvalidInput
from tuner.rotation import EpochReport, RotationCurve
from tuner.rotation.report import epoch_of, is_report

NAN = math.nan
WHOLE = {
    "epoch": 2,
    "progress": 0.5,
    "lr_progress": 0.75,
    "train_loss": 1.5,
    "accuracy": 0.25,
    "rotation/a": 0.12345678,
    "rotation/b": NAN,
    "rotation_min": 0.12345678,
    "epoch_s": 3.5,
    "test_accuracy": 0.125,
    "stage": "warm",
    "is_warm": True,
    "training_iteration": 9,
    "time_this_iter_s": 8.0,
}


def parsed(**changes) -> EpochReport:
    return EpochReport.from_result({**WHOLE, **changes}, "accuracy", 4)


def without(*keys: str) -> dict:
    return {key: value for key, value in WHOLE.items() if key not in keys}


def test_a_result_is_parsed_into_its_parts():
    report = parsed()
    assert (report.epoch, report.metric, report.layers) == (2.0, 0.25, ("a", "b"))
    assert report.distances[0] == 0.123457
    assert math.isnan(report.distances[1])
    assert (report.lr_progress, report.train_loss, report.epoch_s) == (0.75, 1.5, 3.5)
    assert report.test == {"test_accuracy": 0.125}


def test_every_number_that_the_trial_reported_is_kept_by_its_key():
    left_out = {"stage", "is_warm", "training_iteration", "time_this_iter_s"}
    assert parsed().numbers.keys() == WHOLE.keys() - left_out
    assert parsed(extra=np.float32(0.5)).numbers["extra"] == 0.5


@pytest.mark.parametrize(
    ("result", "epoch"),
    [
        ({"epoch": 3, "training_iteration": 9, "m": 1}, 3.0),
        ({"training_iteration": 9, "m": 1}, 9.0),
        ({"m": 1}, 1.0),
        ({"progress": 0.0625}, 0.25),
        ({"progress": 0.5, "epoch": 3, "m": 1}, 3.0),
    ],
    ids=str,
)
def test_epochs_are_counted_by_the_trial_or_by_its_reports(result, epoch):
    assert epoch_of(result, "m", 4) == epoch


def test_seconds_are_the_trials_own_or_else_those_between_its_reports():
    assert parsed().epoch_s == 3.5
    result = without("epoch_s")
    assert EpochReport.from_result(result, "accuracy", 4).epoch_s == 8.0
    del result["time_this_iter_s"]
    assert math.isnan(EpochReport.from_result(result, "accuracy", 4).epoch_s)


def test_a_report_within_an_epoch_needs_no_metric():
    report = EpochReport.from_result({**without("accuracy"), "progress": 0.0625}, "accuracy", 4)
    assert (report.epoch, report.metric) == (0.25, None)


@pytest.mark.parametrize(("loss", "kept"), [(1.5, 1.5), (math.inf, math.inf), (NAN, math.inf)])
def test_a_reported_loss_that_is_not_a_number_is_infinite(loss, kept):
    assert parsed(train_loss=loss).train_loss == kept
    assert math.isnan(EpochReport.from_result(without("train_loss"), "accuracy", 4).train_loss)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            without("accuracy"),
            "every epoch must report the metric, 'accuracy' was not among: is_warm, stage, "
            "test_accuracy, train_loss; name one of these as metric, or report it",
        ),
        ({"epoch": 1}, "'accuracy' was not among: nothing; "),
        (
            {**WHOLE, "accuracy": "good"},
            "the metric must be a number, 'accuracy' was 'good'; report a float",
        ),
        (
            {**WHOLE, "epoch": 0},
            "step must be > 0, the epochs finished, got 0; count epochs from 1",
        ),
    ],
    ids=["no metric", "nothing", "text", "epoch 0"],
)
def test_a_result_that_cannot_be_used_is_refused_with_the_rule_and_a_remedy(result, message):
    with pytest.raises(InvalidInput) as error:
        EpochReport.from_result(result, "accuracy", 4)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("result", "reports"),
    [
        ({}, False),
        ({"training_iteration": 3, "epoch": 3, "progress": 1.0, "rotation/a": 0.5}, False),
        ({"train_loss": 0.5}, True),
        ({"accuracy": 0.5}, True),
    ],
    ids=str,
)
def test_a_result_without_a_metric_of_any_kind_reports_nothing(result, reports):
    assert is_report(result) is reports


def test_the_study_stores_plain_json_and_gives_the_report_back():
    report = parsed()
    stored = report.to_attribute()
    assert stored == {
        "distances": [0.123457, None],
        "lr_progress": 0.75,
        "train_loss": 1.5,
        "epoch_s": 3.5,
    }
    read = EpochReport.from_attribute(2.0, ("a", "b"), json.loads(json.dumps(stored)), 0.25)
    assert repr(read.to_attribute()) == repr(stored)
    assert (read.epoch, read.metric, read.layers) == (report.epoch, report.metric, report.layers)


def test_a_stored_metric_without_rotation_gives_unknown_distances():
    read = EpochReport.from_attribute(1.0, ("a", "b"), {}, 0.5)
    assert repr(read.distances) == "(nan, nan)"
    assert math.isnan(read.lr_progress)


def test_flat_keys_hold_the_numbers_that_are_known():
    assert parsed().to_result("accuracy") == {
        "accuracy": 0.25,
        "train_loss": 1.5,
        "lr_progress": 0.75,
        "rotation/a": 0.123457,
        "rotation_min": 0.123457,
        "rotation_mean": 0.123457,
        "test_accuracy": 0.125,
    }
    assert EpochReport(epoch=0.5).to_result("accuracy") == {}


class TestCurves:
    REPORTS = (
        EpochReport(epoch=0.5, layers=("a",), distances=(0.1,), train_loss=2.0, lr_progress=0.2),
        EpochReport(epoch=1.0, layers=("a",), distances=(NAN,), metric=0.5, lr_progress=0.3),
        EpochReport(epoch=2.0, layers=("a",), distances=(0.4,), metric=0.6, lr_progress=0.5),
    )

    def test_a_curve_that_grows_report_by_report_is_the_one_made_at_once(self):
        curve = RotationCurve((), 4)
        for report in self.REPORTS:
            curve = curve.with_report(report)
        assert repr(curve) == repr(RotationCurve.from_reports(self.REPORTS, ("a",), 4))
        assert curve.layers == ("a",)

    def test_its_reports_are_those_that_it_was_made_of(self):
        curve = RotationCurve.from_reports(self.REPORTS, ("a",), 4)
        assert repr(tuple(curve.reports())) == repr(self.REPORTS)

    def test_a_report_of_other_layers_is_refused(self):
        curve = RotationCurve((), 4).with_report(self.REPORTS[0])
        with pytest.raises(InvalidInput, match="must name the same layers in the same order"):
            curve.with_report(EpochReport(epoch=1.0, layers=("b",), distances=(0.1,)))


@pytest.mark.parametrize("key", ["train_loss", "rotation/a", "lr_progress", "epoch_s", "epoch"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"),
        ([0.5], "[0.5]"),
        ("0.5", "'0.5'"),
        (True, "True"),
        ({"a": 1}, "{'a': 1}"),
        (np.zeros(2), "array([0., 0.])"),
        ("x" * 999, f"'{'x' * 58}…"),
    ],
)
def test_a_value_that_is_no_number_is_refused_in_a_line(key, value, shown):
    with pytest.raises(InvalidInput) as caught:
        parsed(**{key: value})
    line = str(caught.value)
    assert line.startswith(f"a report's {key} must be a number, got {shown}; report a float")
    assert "\n" not in line


@pytest.mark.parametrize("value", [1, np.float32(1), np.int64(1), np.array(1.0)])
def test_a_number_of_another_type_is_read(value):
    assert parsed(train_loss=value).train_loss == 1.0
