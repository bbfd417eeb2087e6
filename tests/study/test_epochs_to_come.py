"""The estimate of the epochs that a study still has to train."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.study.result import epochs_to_come

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("ended", "running", "waiting", "new", "to_come"),
    [
        pytest.param([], [], [], 5, 50, id="nothing is known, so all may be whole"),
        pytest.param([], [4], [], 0, 6, id="the first may run to its end"),
        pytest.param([10, 2], [], [], 3, 18, id="new ones train as much as the others"),
        pytest.param(
            [10, 6, 2], [4], [], 0, 4, id="one that runs goes on as those that came as far"
        ),
        pytest.param([10, 6, 2], [4], [], 2, 4 + 2 * 26 / 4, id="and counts with what it comes to"),
        pytest.param([10], [], [1, 1, 1, 1, 1], 0, 9, id="of those that wait one goes on"),
        pytest.param([10], [1], [1, 1, 2], 0, 2.5 + 9, id="its peers may wait"),
        pytest.param([10, 10], [], [], 0, 0, id="all have ended"),
    ],
)
def test_what_is_to_come_is_what_the_others_came_to(ended, running, waiting, new, to_come):
    found = epochs_to_come(ended=ended, running=running, waiting=waiting, new=new, max_epochs=10)
    assert found == pytest.approx(to_come)


def test_recorded_studies_end_about_when_it_is_foretold():
    command = [sys.executable, "foretold.py", "curves/mnist-mlp.parquet", "--repeats", "3"]
    ended = subprocess.run(
        [*command, "--json"], cwd=BENCHMARKS, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)["foretold over what came"]
    assert found["epochs to come"].keys() == {"0.25", "0.5", "0.75"}
    for share, ratio in found["epochs to come"].items():
        assert 0.3 < ratio["median"] < 3, share
        assert found["before, run"][share]["median"] > 5, share
