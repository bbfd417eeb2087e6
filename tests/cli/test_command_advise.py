"""What to try next, on the command line; tests/engine/test_trial_queue_advised.py runs it all."""

from __future__ import annotations

import pytest

from tests.study.example_studies import make_study


def test_a_study_that_shows_nothing_gets_no_advice(at_once, tmp_path):
    make_study(tmp_path / "studies")
    told = at_once("advise", "example", cwd=tmp_path)
    assert told.out == "no advice: the trials so far show no significant effect\n"
    assert at_once("advise", "example", "--json", cwd=tmp_path).out == "[]\n"
    put = at_once("advise", "example", "--enqueue", "2", cwd=tmp_path)
    assert put.code == 0
    assert "enqueued nothing" in put.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere"),
        (
            ["sqlite:///x.db#a", "--enqueue", "1"],
            "--enqueue must be given where the study's folder",
        ),
        (["example", "--enqueue", "0"], "--enqueue"),
    ],
)
def test_mistakes_are_one_line(at_once, tmp_path, arguments, said):
    make_study(tmp_path / "studies")
    told = at_once("advise", *arguments, cwd=tmp_path)
    assert told.code == 2
    assert said in told.err
    assert len(told.err.splitlines()) == 1
