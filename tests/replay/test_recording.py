"""Recorded curves: what is written is read back, and what cannot be used is refused in a line."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.study.example_studies import NAN, study_result, trial_result
from tuner.errors import InvalidInput
from tuner.replay.export import export, write_recording
from tuner.replay.recording import Recording, read_recording
from tuner.rotation import RotationCurve
from tuner.study.result import TrialResult


def rows(**changes: Any) -> dict[str, list[Any]]:
    """Return the columns of two trials of two epochs each, some replaced, or left out with ()."""
    columns: dict[str, list[Any]] = {
        "trial": [0, 0, 1, 1],
        "epoch": [1, 2, 1, 2],
        "max_epochs": [2, 2, 2, 2],
        "lr_progress": [0.5, 1.0, 0.5, 1.0],
        "train_loss": [2.0, 1.0, 2.0, 1.5],
        "val_accuracy": [0.25, 0.5, 0.125, 0.375],
        "test_accuracy": [0.25, 0.75, 0.25, 0.625],
        "layers": [["a", "b"]] * 4,
        "rotation": [[0.25, 0.5], [0.5, 1.0], [0.125, 0.25], [0.25, 0.5]],
        "norm_ratio": [[1.0, 1.0]] * 4,
        "config": ['{"lr": 0.5}'] * 2 + ['{"lr": 1.0}'] * 2,
    }
    return {name: v for name, v in (columns | changes).items() if v != ()}


def write(path: Path, columns: dict[str, Any], metadata: dict | None = None) -> Path:
    pq.write_table(pa.table(columns, metadata=metadata), path)
    return path


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a recording of `rows` with changes."""

    def read(metadata: dict | None = None, **changes: Any) -> Recording:
        return read_recording(write(tmp_path / "some.parquet", rows(**changes), metadata))

    return read


@pytest.fixture(scope="module")
def one_file(tmp_path_factory) -> Path:
    """The file that one example after the other is written to."""
    return tmp_path_factory.mktemp("one") / "one.parquet"


def whole(number: int, epochs: int = 10, **changes: Any) -> TrialResult:
    """Return a complete trial that knows its share of the learning rate."""
    trial = trial_result(number, "complete", 0.5 + number / 64, epochs=epochs, **changes)
    shares = tuple(epoch / 10 for epoch in trial.curve.epochs)
    return replace(trial, curve=replace(trial.curve, lr_progress=shares))


def close(value: Any) -> Any:
    return pytest.approx(value, rel=1e-6, abs=1e-30, nan_ok=True)


def assert_same(curve: RotationCurve, expected: RotationCurve) -> None:
    assert (curve.layers, curve.max_epochs) == (expected.layers, expected.max_epochs)
    assert curve.epochs == expected.epochs
    for name in ("lr_progress", "train_loss", "metric"):
        assert getattr(curve, name) == close(getattr(expected, name))
    assert len(curve.distances) == len(expected.distances)
    for distances, others in zip(curve.distances, expected.distances, strict=True):
        assert distances == close(others)


class TestRead:
    def test_every_report_of_every_trial_is_there_oldest_first(self, read):
        recording = read()
        assert (recording.name, recording.metric, recording.mode) == ("some", "val_accuracy", "max")
        assert (recording.max_epochs, recording.partial) == (2, 0)
        assert [trial.number for trial in recording.trials] == [0, 1]
        first, second = recording.trials
        assert first.curve == RotationCurve(
            layers=("a", "b"),
            max_epochs=2,
            epochs=(1.0, 2.0),
            lr_progress=(0.5, 1.0),
            distances=((0.25, 0.5), (0.5, 1.0)),
            train_loss=(2.0, 1.0),
            metric=(0.25, 0.5),
        )
        assert (first.params, second.params) == ({"lr": 0.5}, {"lr": 1.0})

    def test_the_test_accuracy_is_that_of_the_end_and_no_part_of_the_curve(self, read):
        recording, other = read(), read(test_accuracy=[0.0, 0.0, NAN, NAN])
        assert [trial.test_accuracy for trial in recording.trials] == [0.75, 0.625]
        assert [trial.test_accuracy for trial in other.trials] == [0.0, close(NAN)]
        assert [trial.curve for trial in recording.trials] == [t.curve for t in other.trials]

    def test_columns_that_may_be_left_out_are_unknown(self, read):
        for trial in read(train_loss=(), test_accuracy=(), norm_ratio=()).trials:
            assert trial.curve.train_loss == close((NAN, NAN))
            assert trial.test_accuracy == close(NAN)

    def test_a_loss_recorded_as_not_a_number_diverged_and_none_is_unknown(self, read):
        diverged, unknown = read(train_loss=[2.0, NAN, None, math.inf]).trials
        assert diverged.curve.train_loss == (2.0, math.inf)
        assert unknown.curve.train_loss == close((NAN, math.inf))

    def test_a_column_of_nothing_is_unknown(self, read):
        for trial in read(train_loss=[None] * 4, lr_progress=[None] * 4).trials:
            assert trial.curve.train_loss == close((NAN, NAN))
            assert trial.curve.lr_progress == close((NAN, NAN))

    def test_a_distance_that_is_not_there_is_unknown(self, read):
        first, _ = read(rotation=[[None, 0.5], [NAN, 1.0], [0.1, 0.2], [0.3, 0.4]]).trials
        assert first.curve.distances == (close((NAN, 0.5)), close((NAN, 1.0)))

    def test_rounding_error_is_clipped(self, read):
        first, _ = read(
            rotation=[[-1e-7, 2.0000002], [0, 0.5], [0, 0], [0, 0]],
            lr_progress=[-1e-9, 1.0000001, 0.5, 1.0],
        ).trials
        assert first.curve.distances[0] == (0.0, 2.0)
        assert first.curve.lr_progress == (0.0, 1.0)

    def test_trials_of_different_models_keep_their_layers(self, read):
        first, second = read(
            layers=[["a"], ["a"], [], None], rotation=[[0.5], [1.0], [], None]
        ).trials
        assert (first.curve.layers, first.curve.distances) == (("a",), ((0.5,), (1.0,)))
        assert (second.curve.layers, second.curve.distances) == ((), ((), ()))

    def test_trials_may_be_recorded_turn_by_turn(self, read):
        order = [2, 0, 3, 1]
        shuffled = {name: [values[i] for i in order] for name, values in rows().items()}
        assert read(**shuffled) == read()

    def test_reports_within_an_epoch_have_no_metric(self, read):
        recording = read(epoch=[0.5, 2, 1, 2], val_accuracy=[None, 0.5, 0.25, 0.5])
        assert recording.trials[0].curve.epochs == (0.5, 2.0)
        assert recording.trials[0].curve.metric == close((NAN, 0.5))

    def test_a_trial_that_ends_early_is_counted_and_left_out(self, read):
        recording = read(max_epochs=[4] * 4, epoch=[3, 4, 1, 2])
        assert [trial.number for trial in recording.trials] == [0]
        assert recording.partial == 1

    def test_the_metadata_names_the_metric_and_its_mode(self, read):
        recording = read(metadata={"quarterturn": '{"metric": "val_loss", "mode": "min"}'})
        assert (recording.metric, recording.mode) == ("val_loss", "min")

    @pytest.mark.parametrize(
        "types",
        [
            {"trial": pa.uint8(), "epoch": pa.int16(), "max_epochs": pa.int32()},
            {"epoch": pa.float32(), "lr_progress": pa.float32(), "val_accuracy": pa.float16()},
            {"layers": pa.large_list(pa.large_string()), "rotation": pa.list_(pa.float32(), 2)},
            {"config": pa.dictionary(pa.int8(), pa.string())},
            {"config": pa.large_string(), "layers": pa.list_(pa.string(), 2)},
        ],
        ids=lambda types: ", ".join(map(str, types.values())),
    )
    def test_any_type_that_holds_the_same_is_read_the_same(self, tmp_path, read, types):
        columns = {name: pa.array(v, types.get(name)) for name, v in rows().items()}
        assert read_recording(write(tmp_path / "some.parquet", columns)) == read()

    def test_pandas_writes_what_is_read(self, tmp_path, read):
        pa.table(rows()).to_pandas().to_parquet(tmp_path / "some.parquet")
        assert read_recording(str(tmp_path / "some.parquet")) == read()

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


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            *(
                ({name: ()}, rf"must have the columns trial, .*some.parquet has no {name}; add it")
                for name in rows()
                if name not in ("train_loss", "test_accuracy", "norm_ratio")
            ),
            ({name: [] for name in rows()}, "must have a row for each report, .* has none"),
            ({"epoch": ["1", "2", "1", "2"]}, "epoch .* hold numbers, .*type string; .*as double"),
            ({"trial": [0.0, 0.0, 1.0, 1.0]}, "trial .* must hold whole numbers, .* type double"),
            ({"max_epochs": [True] * 4}, "max_epochs .* must hold whole numbers, .* type bool"),
            ({"val_accuracy": ["good"] * 4}, "val_accuracy .* must hold numbers"),
            ({"train_loss": [[1.0]] * 4}, "train_loss .* must hold numbers"),
            ({"rotation": [0.1] * 4}, "rotation .* must hold lists of numbers, .* type double"),
            ({"rotation": [["x", "y"]] * 4}, "rotation .* must hold lists of numbers"),
            ({"layers": ["a"] * 4}, "layers .* must hold lists of text, .* type string"),
            ({"layers": [["a", None]] * 4}, "every layer must have a name"),
            ({"config": [{"lr": 0.1}] * 4}, "config .* must hold text, .* type struct"),
            ({"config": ["{", "{", "{}", "{}"]}, "config must be a JSON object, trial 0 .* '{'"),
            ({"config": ["[1]"] * 4}, r"config must be a JSON object, trial 0 .* has '\[1\]'"),
            ({"trial": [0, 0, 1, None]}, "must have a value of trial, row 3 .* has none"),
            ({"epoch": [None] * 4}, "must have a value of epoch, row 0 of some.parquet has none"),
            (
                {"rotation": [[0.1, 0.2], [0.1], [0.1, 0.2], [0.1, 0.2]]},
                "one entry for each of 2 layers, row 1 of some.parquet has 1; use NaN",
            ),
            (
                {"layers": [["a", "b"], ["b", "a"], ["a", "b"], ["a", "b"]]},
                "the same layers in the same order, trial 0 of some.parquet does not",
            ),
            ({"epoch": [2, 1, 1, 2]}, "trial 0 of some.parquet: .*increase .* got 1.0 after 2.0"),
            ({"epoch": [1, 2, 2, 2]}, "trial 1 of some.parquet: .*increase .* got 2.0 after 2.0"),
            ({"epoch": [1, 3, 1, 2]}, "trial 0 of some.parquet: .* got 3.0 after 1.0"),
            ({"epoch": [NAN, 2, 1, 2]}, "trial 0 of some.parquet: .* got nan after"),
            ({"lr_progress": [1.0, 0.5, 0.5, 1.0]}, "trial 0 .*lr_progress must never fall"),
            ({"lr_progress": [0.5, 7.0, 0.5, 1.0]}, "lr_progress must be within 0 and 1, .* has 7"),
            ({"rotation": [[0.1, -2.5]] * 4}, "rotation must be within 0 and 2, .* has -2.5; use"),
            ({"rotation": [[0.1, math.inf]] * 4}, "rotation must be within 0 and 2, .* has inf"),
            ({"max_epochs": [2, 2, 3, 3]}, "same max_epochs, some.parquet has 2, 3; record each"),
            ({"max_epochs": [0] * 4}, "max_epochs must be >= 1, got 0"),
            ({"max_epochs": [9] * 4}, "reaches its 9 epochs, some.parquet has none among 2; "),
        ],
        ids=str,
    )
    def test_a_file_that_is_no_recording_is_refused_with_its_fault(self, read, changes, why):
        with pytest.raises(InvalidInput, match=why) as told:
            read(**changes)
        assert "\n" not in str(told.value)

    @pytest.mark.parametrize(
        "metadata",
        ["", "val_loss", "[]", '{"metric": "x"}', '{"metric": 1, "mode": "min"}', "\xff"],
    )
    def test_metadata_that_names_no_metric_is_refused(self, read, metadata):
        with pytest.raises(InvalidInput, match="metadata must be JSON with a metric and a mode"):
            read(metadata={"quarterturn": metadata.encode("latin-1")})

    def test_a_missing_file_and_a_folder_are_refused(self, tmp_path):
        for path in (tmp_path / "missing.parquet", tmp_path, ""):
            with pytest.raises(InvalidInput, match=r"a recording must be a file, .* is none; "):
                read_recording(path)

    @pytest.mark.parametrize("content", [b"", b"trial,epoch\n0,1\n", b"PAR1" + bytes(20) + b"PAR1"])
    def test_a_file_that_is_not_parquet_is_refused(self, tmp_path, content):
        (tmp_path / "text.parquet").write_bytes(content)
        with pytest.raises(InvalidInput, match=r"a Parquet file, .*text\.parquet") as told:
            read_recording(tmp_path / "text.parquet")
        assert "\n" not in str(told.value)

    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_a_damaged_file_is_read_or_refused_but_never_a_traceback(self, one_file, data):
        whole = write(one_file, rows()).read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        broken = bytearray(whole)
        broken[at] ^= data.draw(st.integers(1, 255))
        one_file.write_bytes(broken[: data.draw(st.sampled_from([len(whole), at]))])
        with suppress(InvalidInput):
            assert isinstance(read_recording(one_file), Recording)


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
        assert known == {"metric": "val_accuracy", "mode": "max"}

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


def test_export_says_what_it_wrote_and_what_to_type_next(tmp_path):
    file = tmp_path / "my curves.parquet"
    said = export(study_result(whole(0), trial_result(1, "pruned", 0.3)), file).splitlines()
    assert said[0].startswith(f"wrote {file}: 2 trials (1 complete), 15 reports, ")
    assert said[0].endswith(f", {math.ceil(file.stat().st_size / 1000)} kB")
    assert said[1] == f"quarterturn replay '{file}'"
    assert ": 1 trial (1 complete), 10 reports, " in export(study_result(whole(0)), file)
