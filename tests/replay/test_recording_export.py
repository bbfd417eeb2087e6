"""A study's curves are written to a file that is read back as it was."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nearly import assert_same, close

from tests.study.example_studies import NAN, study_result, trial_result
from tuner.errors import InvalidInput
from tuner.replay.recording import export, read_recording, write_recording
from tuner.rotation import RotationCurve, RotationTarget
from tuner.study.result import TrialResult


def whole(number: int, epochs: int = 10, **changes: Any) -> TrialResult:
    """Return a complete trial that knows its share of the learning rate."""
    trial = trial_result(number, "complete", 0.5 + number / 64, epochs=epochs, **changes)
    shares = tuple(epoch / 10 for epoch in trial.curve.epochs)
    return replace(trial, curve=replace(trial.curve, lr_progress=shares))


class TestWrite:
    def test_complete_and_pruned_trials_that_have_reported_are_written(self, tmp_path):
        result = study_result(
            whole(0),
            trial_result(1, "pruned", 0.3),
            trial_result(2, "failed", 0.3),
            trial_result(3, "running", 0.3),
            trial_result(4, "pruned", epochs=0),
            whole(5),
        )
        assert write_recording(result, tmp_path / "six.parquet") == 3
        recording = read_recording(tmp_path / "six.parquet")
        assert [trial.number for trial in recording.trials] == [0, 5]
        assert recording.partial == 1

    def test_what_is_written_is_read_back(self, tmp_path):
        trials = (whole(0, test={"test_accuracy": 0.25, "test_loss": 3.0}), whole(1))
        result = study_result(*trials, mode="min", metric="error", name="study")
        write_recording(result, tmp_path / "file.parquet")
        recording = read_recording(tmp_path / "file.parquet")
        assert (recording.name, recording.metric, recording.mode) == ("file", "error", "min")
        for read, trial in zip(recording.trials, trials, strict=True):
            assert_same(read.curve, trial.curve)
            assert read.params == trial.params

    @pytest.mark.parametrize(
        ("metric", "name"),
        [("val_accuracy", "test_accuracy"), ("val_loss", "test_loss"), ("score", "test_score")],
    )
    def test_the_test_value_is_the_metrics_own_at_the_end_of_the_run(self, tmp_path, metric, name):
        others = {"test_accuracy": 0.5, "test_loss": 0.5, "test_score": 0.5}
        result = study_result(whole(0, test=others | {name: 0.25}), whole(1), metric=metric)
        write_recording(result, tmp_path / "file.parquet")
        first, second = read_recording(tmp_path / "file.parquet").trials
        assert (first.test_accuracy, second.test_accuracy) == (0.25, close(NAN))
        column = pq.read_table(tmp_path / "file.parquet")["test_accuracy"].to_pylist()
        assert column == [*[None] * 9, 0.25, *[None] * 10]

    numbers = st.one_of(st.floats(0, 1e6), st.just(NAN))
    reports = st.tuples(
        st.lists(st.one_of(st.floats(0, 2), st.just(NAN)), min_size=2, max_size=2),
        st.one_of(numbers, st.just(math.inf)),
        numbers,
    )

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.lists(reports, min_size=4, max_size=4), min_size=1, max_size=3), st.data())
    def test_any_curve_survives_to_the_precision_of_float32(self, one_file, curves, data):
        per_epoch = data.draw(st.sampled_from([1, 2]))
        trials = []
        for number, reported in enumerate(curves):
            curve = RotationCurve(layers=("a", "b"), max_epochs=4 // per_epoch)
            for i, (distances, loss, metric) in enumerate(reported, start=1):
                curve = curve.append(
                    i / per_epoch,
                    dict(zip("ab", distances, strict=True)),
                    lr_progress=data.draw(st.sampled_from([NAN, i / 4])),
                    train_loss=loss,
                    metric=NAN if i % per_epoch else metric,
                )
            trials.append(trial_result(number, "complete", curve=curve))
        result = study_result(*trials, max_epochs=4 // per_epoch)
        assert write_recording(result, one_file) == len(trials)
        recording = read_recording(one_file)
        assert (len(recording.trials), recording.partial) == (len(trials), 0)
        for read, trial in zip(recording.trials, trials, strict=True):
            assert_same(read.curve, trial.curve)

    def test_a_model_without_layers_and_odd_params_are_written_too(self, tmp_path):
        curve = RotationCurve(layers=(), max_epochs=10).append(10, {}, metric=0.5)
        params = {"none": None, "flag": True, "size": [3, 3], "name": "é\n"}
        write_recording(
            study_result(trial_result(0, "complete", curve=curve, params=params)),
            tmp_path / "odd.parquet",
        )
        (trial,) = read_recording(tmp_path / "odd.parquet").trials
        assert_same(trial.curve, curve)
        assert trial.params == params

    def test_the_file_has_the_columns_and_types_that_the_format_names(self, tmp_path):
        write_recording(study_result(whole(0)), tmp_path / "file.parquet")
        schema = pq.read_schema(tmp_path / "file.parquet")
        assert {field.name: str(field.type) for field in schema} == {
            "trial": "int64",
            "epoch": "int64",
            "max_epochs": "int64",
            "lr_progress": "float",
            "train_loss": "float",
            "val_accuracy": "float",
            "test_accuracy": "float",
            "layers": "list<element: string>",
            "rotation": "list<element: float>",
            "config": "string",
        }
        known = json.loads(schema.metadata[b"quarterturn"])
        assert known == {
            "metric": "val_accuracy",
            "mode": "max",
            "rotation_target": RotationTarget().to_dict(),
            "warmup_epochs": 0.25,
        }

    def test_what_trials_are_judged_by_goes_along(self, tmp_path):
        target = RotationTarget(0.6, patterns={"first": 0.25})
        result = study_result(whole(0), rotation_target=target, warmup_epochs=2.0)
        write_recording(result, tmp_path / "file.parquet")
        recording = read_recording(tmp_path / "file.parquet")
        assert (recording.rotation_target, recording.warmup_epochs) == (target, 2.0)

    def test_a_file_that_is_there_is_replaced_and_nothing_else_is_left(self, tmp_path):
        file = tmp_path / "file.parquet"
        file.write_text("old")
        write_recording(study_result(whole(0)), file)
        assert len(read_recording(file).trials) == 1
        assert list(tmp_path.iterdir()) == [file]

    def test_a_study_without_reports_is_refused(self, tmp_path):
        for trials in ((), (trial_result(0, "running", 0.5), trial_result(1, "pruned", epochs=0))):
            why = f"must have a complete or pruned trial .* has none among {len(trials)}; run it"
            with pytest.raises(InvalidInput, match=why):
                write_recording(study_result(*trials), tmp_path / "file.parquet")
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_cannot_be_written_is_refused_and_leaves_nothing(self, tmp_path):
        (tmp_path / "folder.parquet").mkdir()
        with pytest.raises(InvalidInput, match=r"must be writable, got .*folder\.parquet"):
            write_recording(study_result(whole(0)), tmp_path / "folder.parquet")
        with pytest.raises(InvalidInput, match=r"the folder of the output file must exist, got"):
            write_recording(study_result(whole(0)), tmp_path / "missing" / "file.parquet")
        assert [path.name for path in tmp_path.iterdir()] == ["folder.parquet"]

    def test_160_trials_are_read_within_a_second_and_the_file_is_small(self, tmp_path):
        random = np.random.default_rng(0)
        layers = tuple(f"blocks.{i}.weight" for i in range(8))
        curve = RotationCurve(layers=layers, max_epochs=30)
        for epoch in range(1, 31):
            curve = curve.append(epoch, dict.fromkeys(layers, 0.0), lr_progress=epoch / 30)
        trials = [
            trial_result(
                number,
                "complete",
                params={"lr": random.random(), "optimizer": "sgd"},
                curve=replace(
                    curve,
                    distances=tuple(map(tuple, random.random((30, 8)).tolist())),
                    train_loss=tuple(random.random(30).tolist()),
                    metric=tuple(random.random(30).tolist()),
                ),
            )
            for number in range(160)
        ]
        file = tmp_path / "large.parquet"
        assert write_recording(study_result(*trials, max_epochs=30), file) == 160
        assert file.stat().st_size < 400_000  # incompressible numbers; real ones take less
        begun = time.perf_counter()
        assert len(read_recording(file).trials) == 160
        assert time.perf_counter() - begun < 1


def test_export_says_what_it_wrote_and_what_to_type_next(tmp_path):
    file = tmp_path / "my curves.parquet"
    said = export(study_result(whole(0), trial_result(1, "pruned", 0.3)), file).splitlines()
    assert said[0].startswith(f"wrote {file}: 2 trials (1 complete), 15 reports, ")
    assert said[0].endswith(f", {math.ceil(file.stat().st_size / 1000)} kB")
    assert said[1] == f"quarterturn replay '{file}'"
    assert ": 1 trial (1 complete), 10 reports, " in export(study_result(whole(0)), file)
