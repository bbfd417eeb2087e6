"""Recorded curves: all of a file is read, and what cannot be used is refused in a line."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nearly import close

from tuner.errors import InvalidInput
from tuner.replay.recording import Recording, read_recording
from tuner.rotation import PruningConfig, RotationCurve, RotationTarget

NAN = math.nan


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

    def test_a_recording_without_a_target_has_the_default(self, read):
        for metadata in (None, {"quarterturn": '{"metric": "val_loss", "mode": "min"}'}):
            recording = read(metadata=metadata)
            assert recording.rotation_target == RotationTarget()
            assert recording.warmup_epochs == PruningConfig.warmup_epochs

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
        "known",
        [
            {"rotation_target": 0.6},
            {"rotation_target": {"distance": 3}},
            {"rotation_target": {"distance": "far"}},
            {"rotation_target": {"patterns": [["*", "far"]]}},
            {"warmup_epochs": 0},
            {"warmup_epochs": "late"},
            {"warmup_epochs": None},
        ],
    )
    def test_metadata_with_no_such_target_or_warmup_is_refused(self, read, known):
        metadata = json.dumps({"metric": "x", "mode": "min", **known})
        with pytest.raises(InvalidInput, match="may have a rotation_target and warmup_epochs > 0"):
            read(metadata={"quarterturn": metadata})

    @pytest.mark.parametrize(
        "metadata",
        ["", "val_loss", "[]", '{"metric": "x"}', '{"metric": 1, "mode": "min"}', "\xff"],
    )
    def test_metadata_that_names_no_metric_is_refused(self, read, metadata):
        with pytest.raises(InvalidInput, match="metadata must be JSON with a metric and a mode"):
            read(metadata={"quarterturn": metadata.encode("latin-1")})

    def test_a_missing_file_and_a_folder_are_refused(self, tmp_path):
        for path in (tmp_path / "missing.parquet", tmp_path, ""):
            with pytest.raises(
                InvalidInput, match=r"a recording must be a file, .* is not a file; "
            ):
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
