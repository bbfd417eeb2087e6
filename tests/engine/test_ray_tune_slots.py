"""Every slot has its trial at once, and nothing is suggested further ahead than there is room."""

from __future__ import annotations

import time

import pytest
from curve_trials import space

from tuner import run
from tuner.engine.callbacks import RunCallback

pytestmark = pytest.mark.usefixtures("two_cpus")


class Counting(RunCallback):
    """Keeps how many trials had been suggested and had not ended, at every suggestion."""

    def __init__(self):
        self.live = 0
        self.most = 0
        self.suggested_at_first_end = None
        self.suggested = 0

    def started(self, number, params):
        self.suggested += 1
        self.live += 1
        self.most = max(self.most, self.live)

    def finished(self, number, state, value, epochs, reason):
        self.live -= 1
        self.suggested_at_first_end = self.suggested_at_first_end or self.suggested


def slow(log, pause_s):
    return lambda trial: {**space(trial), "log": str(log), "pause_s": pause_s}


def test_all_slots_fill_at_once(make_job, tmp_path):
    log, counting = tmp_path / "log", Counting()
    job = make_job(search_space=slow(log, 1.0), cpus_per_trial=0.5, num_trials=6, max_epochs=1)
    run(job, observer=counting)
    starts = sorted(float(line.split()[2]) for line in log.read_text().splitlines())
    assert len(starts) == 6
    # One process after the other would take 1.1 s each on an idle machine (docs/log.md), 3.3 s for
    # the fourth; four start together.
    assert starts[3] - starts[0] < 2.5
    assert counting.most == counting.suggested_at_first_end == 4


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"max_concurrent": 2, "cpus_per_trial": 0.5}, 2),
        ({"max_concurrent": 9, "cpus_per_trial": 0.5}, 4),
        ({"cpus_per_trial": 1.0}, 2),
        ({"cpus_per_trial": 1.5}, 1),
    ],
    ids=["two at a time", "more than fit", "a CPU each", "one and a half CPUs each"],
)
def test_no_more_is_suggested_than_there_is_room_for(make_job, tmp_path, fields, most):
    log, counting = tmp_path / "log", Counting()
    job = make_job(search_space=slow(log, 0.05), num_trials=6, max_epochs=2, **fields)
    begun = time.time()
    result = run(job, observer=counting)
    assert time.time() - begun < 60
    assert [trial.state for trial in result.trials] == ["complete"] * 6
    assert counting.most == most
