"""`quarterturn export`: a study as a recording, and each mistake as one line."""

from __future__ import annotations

import math
import re

import pytest

from tests.study.example_studies import make_study
from tuner import load_study
from tuner.replay.recording import read_recording


def test_a_study_is_exported_as_a_recording(first, at_once):
    folder, _ = first
    result = load_study("first", folder=folder / "studies")
    said = at_once("export", "first", cwd=folder)
    assert (said.code, said.err) == (0, "")
    file = folder / "first.parquet"
    complete = [trial for trial in result.trials if trial.state == "complete"]
    reports = sum(len(trial.curve) for trial in result.trials)
    wrote, replay = said.out.splitlines()
    assert re.fullmatch(
        rf"wrote first\.parquet: 4 trials \({len(complete)} complete\), {reports} reports, \d+ kB",
        wrote,
    )
    assert replay == "quarterturn replay first.parquet"
    recording = read_recording(file)
    file.unlink()
    assert (recording.name, recording.metric, recording.mode) == ("first", "val_accuracy", "max")
    assert [trial.number for trial in recording.trials] == [trial.number for trial in complete]
    assert recording.partial == 4 - len(complete)
    for recorded, trial in zip(recording.trials, complete, strict=True):
        assert recorded.params == trial.params
        assert recorded.curve.metric == pytest.approx(trial.curve.metric)
        assert recorded.test_accuracy == pytest.approx(trial.test["test_accuracy"])
        assert trial.test.keys() == {"test_accuracy", "test_loss"}
    for trial in result.trials:
        assert bool(trial.test) is (trial.state == "complete")


def test_output_and_folder_choose_the_files(tmp_path, at_once):
    make_study(tmp_path / "kept", "mine")
    (tmp_path / "curves").mkdir()
    arguments = ("mine", "--folder", "kept", "--output", "curves/best ones.parquet")
    for _ in range(2):  # what is there is replaced
        said = at_once("export", *arguments, cwd=tmp_path)
        assert (said.code, said.err) == (0, "")
        wrote, replay = said.out.splitlines()
        assert wrote.startswith("wrote curves/best ones.parquet: 2 trials (1 complete), 6 reports,")
        assert replay == "quarterturn replay 'curves/best ones.parquet'"
    (trial,) = read_recording(tmp_path / "curves" / "best ones.parquet").trials
    assert trial.curve.epochs == (1.0, 2.0, 3.0, 4.0)
    assert math.isnan(trial.test_accuracy)


def test_a_study_in_a_database_is_named_after_itself(tmp_path, at_once):
    url = f"sqlite:///{tmp_path}/study.db"
    make_study(tmp_path / "kept", "mine", url)
    for name in (url, f"{url}#mine"):
        said = at_once("export", name, cwd=tmp_path)
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith("wrote mine.parquet: 2 trials (1 complete), 6 reports, ")
        (tmp_path / "mine.parquet").unlink()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("mien",), "unknown study 'mien'; known: mine "),
        (("mine", "--output", "no/mine.parquet"), "the folder of the output file must exist, got "),
        (("mine", "--output", "studies"), "the output file must be writable, got 'studies'"),
        ((), "Missing argument 'NAME'; see quarterturn export --help"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, at_once, arguments, why):
    make_study(tmp_path / "studies", "mine")
    said = at_once("export", *arguments, cwd=tmp_path)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"quarterturn: {why}")
    assert said.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["studies"]
