"""The rate of rotation on the command line."""

from __future__ import annotations

import json
import re

import pytest

DIGITS = "find-rate --trainable digits-mlp --space layca --epochs 10 --set batch_size=32"
FUNCTION = """
from tuner import TuningJob
def train(config): ...
def space(trial): return {"lr": trial.suggest_float("lr", 0.1, 1)}
job = TuningJob(name="own", trainable=train, search_space=space, metric="loss")
"""


def test_the_rates_are_printed_with_what_to_write_next(on_ray, tmp_path):
    command = f"{DIGITS} --set momentum=0.9 --plot rates.png"
    said = on_ray(*command.split(), cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    head, *lines = said.out.splitlines()
    assert head == (
        "batch_size 32, momentum 0.9, optimizer layca, schedule cosine; 10 epochs of 38 steps"
    )
    rows = [
        line for line in lines if re.match(r" *0\.\d+ +[01]\.\d\d +0\.\d\d to [01]\.\d\d", line)
    ]
    assert len(rows) == 4
    assert "fell" in rows[0]
    rate = re.search(r"^rate for 0\.95: (0\.\d+) ", said.out, re.MULTILINE)[1]
    assert f'next: "optimizer": "layca", "lr": {rate}\n' in said.out
    assert re.search(r"^range to search: 0\.\d+ to 0\.\d+, for 0\.3 to 0\.95$", said.out, re.M)
    assert re.search(r"^lagging layers", said.out, re.MULTILINE)
    assert re.search(r"^cost: 36 steps, 0\.95 epochs in all, \d+\.\d s$", said.out, re.MULTILINE)
    assert lines[-1] == "wrote rates.png"
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["rates.png"]


def test_json_is_one_object_with_the_same_figures(on_ray, tmp_path):
    command = f"{DIGITS} --optimizer layca-adam --distance 0.6 --json --plot rates.svg"
    said = on_ray(*command.split(), cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    told = json.loads(said.out)
    assert told["config"]["optimizer"] == "layca-adam"
    # What the space suggests for Layca over SGD is not that over Adam's.
    assert "momentum" not in told["config"]
    assert told["momentum"] == 0.9
    assert told["rate"] == told["ladder"]["0.6"]
    assert told["range"] == [told["ladder"]["0.3"], told["ladder"]["0.95"]]
    assert [probe["steps"] for probe in told["probes"]] == [9] * 4
    assert all(probe["low"] < probe["mid"] < probe["high"] for probe in told["probes"])
    assert told["targetable"] is True
    assert told["cost"]["epochs"] <= 1
    assert "<svg" in (tmp_path / "rates.svg").read_text()


def test_the_learning_rates_of_a_usual_optimizer_are_printed_alike(on_ray, tmp_path):
    command = (
        "find-rate --trainable digits-mlp --space sgd --epochs 10 --optimizer sgd --distance 0.3 "
        "--set batch_size=32 --set momentum=0.9 --set weight_decay=0.0 --set schedule=cosine "
        "--set warmup_epochs=0.0 --plot rates.png"
    )
    said = on_ray(*command.split(), cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    head, titles, *lines = [line for line in said.out.splitlines() if line.strip()]
    assert "momentum 0.9, optimizer sgd, schedule cosine" in head
    assert titles.startswith(" learning rate  final distance  90 % within ")
    rows = [
        line.split() for line in lines if re.match(r" *[01]?\.?\d+ +[01]\.\d\d +0\.\d\d to", line)
    ]
    assert [row[0] for row in rows] == ["0.00562", "0.0316", "0.178", "1"]
    rate = re.search(r"^learning rate for 0\.3: (0\.\d+) ", said.out, re.MULTILINE)[1]
    assert f'next: "optimizer": "sgd", "lr": {rate}\n' in said.out
    assert re.search(r"^lagging layers", said.out, re.MULTILINE)
    assert re.search(r"^cost: 36 steps, 0\.95 epochs in all", said.out, re.MULTILINE)
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("find-rate function.py", "must have a trainable whose rate it can set, got train; make"),
        (
            f"{DIGITS} --optimizer adagrad",
            "one whose rate can be found, got adagrad; use sgd, adam, ",
        ),
        (f"{DIGITS} --optimizer lyca", "unknown optimizer 'lyca'; known: layca, "),
        (f"{DIGITS} --optimizer adamv", "unknown optimizer 'adamv'; known: adam, adamw, "),
        (f"{DIGITS} --distance 1", r"distance must be in \(0, 1\), got 1.0; use 0.95"),
        (f"{DIGITS} --plot rates.pdf", "the plot must be a file that ends in .png or .svg"),
        (f"{DIGITS} --set batch_size", "must be KEY=VALUE, got 'batch_size'"),
        ("find-rate", "Give a FILE, or both --trainable and --space; see quarterturn find-rate"),
    ],
)
def test_a_mistake_is_one_line(at_once, tmp_path, command, said):
    (tmp_path / "function.py").write_text(FUNCTION)
    told = at_once(*command.split(), cwd=tmp_path)
    assert told.code == 2
    assert told.out == ""
    assert re.search(said, told.err), told.err
    assert told.err.count("\n") == 1
