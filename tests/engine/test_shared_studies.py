"""Two drivers, each with a Ray and a folder of its own, work on one study in a database."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from curve_trials import Interrupting, logged, report_at
from shared_study import EPOCHS, TRIALS, shared_study

from tests.postgresql import new_database, running_server
from tuner import load_study, run
from tuner.engine.callbacks import RunCallback
from tuner.storage import lease as drivers

pytestmark = pytest.mark.usefixtures("two_cpus")
SCRIPT = Path(__file__).with_name("shared_study.py")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server() as url:
        yield url


@pytest.fixture
def url(server, request, monkeypatch) -> str:
    monkeypatch.setattr(drivers, "BEAT_S", 0.5)
    monkeypatch.setattr(drivers, "DEAD_AFTER_S", 6.0)
    return new_database(server, request.node.name)


class Other:
    """The other driver, in a process of its own."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until(self, condition, timeout_s=120.0):
        until = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < until, "it takes too long"
            time.sleep(0.01)

    def kill(self):
        """Kill it as a power cut would, with all of its Ray."""
        ray_processes = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for process in ray_processes:
            process.kill()
        psutil.wait_procs(ray_processes, timeout=20)
        self.process.communicate()


@pytest.fixture
def other():
    """Return a function that starts the other driver; it is gone when the test ends."""
    started = []

    def begin(*arguments) -> Other:
        started.append(Other(*arguments))
        return started[-1]

    yield begin
    for each in started:
        if each.process.poll() is None:
            each.kill()
        each.process.stdout.close()


class Listening(RunCallback):
    """Keeps what it is told, lets all go on once it has a trial, and calls back at each report."""

    def __init__(self, go: Path):
        self.go = go
        self.at_report = lambda: None
        self.started_numbers: list[int] = []
        self.ended_here: list[int] = []
        self.ended_there: list[int] = []
        self.lines: list[str] = []

    def noted(self, line):
        self.lines.append(line)

    def started(self, number, params):
        self.started_numbers.append(number)
        self.go.touch()

    def reported(self, number, epoch, result):
        self.at_report()

    def finished(self, number, state, value, epochs, reason):
        self.ended_here.append(number)

    def ended_elsewhere(self, trial):
        self.ended_there.append(trial.number)


def assert_checkpoints(result):
    """They are where the report says, whoever has trained them; one that was not written when its
    driver was killed is missing where the trial never went on."""
    missing = [trial for trial in result.trials if trial.checkpoint is None]
    assert {trial.state for trial in missing} <= {"pruned"}
    assert len(missing) <= 1
    for trial in result.trials:
        if trial.checkpoint is None:
            continue
        assert 0 < int(Path(trial.checkpoint, "epoch").read_text()) <= EPOCHS


def assert_whole(result):
    """Every trial is there once, has ended, and has reported what an unbroken one reports."""
    assert [trial.number for trial in result.trials] == list(range(TRIALS))
    assert {trial.state for trial in result.trials} == {"complete", "pruned"}
    assert result.finished
    for trial in result.trials:
        epochs = tuple(range(1, int(trial.epochs) + 1))
        assert trial.curve.epochs == epochs
        config = {**trial.params, "max_epochs": EPOCHS}
        expected = [report_at(epoch, config)["score"] for epoch in epochs]
        assert trial.curve.metric == pytest.approx(expected)


def test_two_drivers_end_each_trial_once_and_know_the_whole(url, other, tmp_path):
    go, log_a, log_b = tmp_path / "go", tmp_path / "a.log", tmp_path / "b.log"
    a = other(url, tmp_path / "a", go, log_a)
    a.wait_until(lambda: logged(log_a))
    listening = Listening(go)
    result = run(shared_study(url, tmp_path / "b", go, log_b), observer=listening)
    assert a.process.communicate(timeout=60)[0] == "finished\n"
    assert_whole(result)
    assert_checkpoints(result)
    here, there = logged(log_b), logged(log_a)
    assert here
    assert there
    # No epoch of any trial was trained twice, and no trial in two places.
    assert set(Counter(here + there).values()) == {1}
    assert not {number for number, _ in here} & {number for number, _ in there}
    assert len(here + there) == sum(trial.epochs for trial in result.trials)
    assert sorted(listening.ended_here + listening.ended_there) == list(range(TRIALS))
    assert {number for number, _ in there} == set(listening.ended_there)
    for reference in (url, "shared"):
        assert load_study(reference, folder=tmp_path / "a") == result


@pytest.mark.parametrize(
    "place", ["each its own", pytest.param("one for both", marks=pytest.mark.soak)]
)
def test_the_trials_of_a_killed_driver_are_ended_by_the_other(url, other, tmp_path, place):
    go, log = tmp_path / "go", tmp_path / "log"
    places = [tmp_path / "checkpoints"] if place == "one for both" else []
    a = other(url, tmp_path / "a", go, log, *places)
    a.wait_until(lambda: logged(log))
    mine = Listening(go)

    def kill_when_it_has_some() -> None:
        theirs = [line for line in logged(log) if line[0] not in mine.started_numbers]
        if a.process.poll() is None and len(theirs) >= 4:
            a.kill()

    mine.at_report = kill_when_it_has_some
    result = run(shared_study(url, tmp_path / "b", go, log, *places), observer=mine)
    assert a.process.poll() is not None
    assert a.process.returncode != 0
    assert_whole(result)
    assert_checkpoints(result)
    (line,) = [line for line in mine.lines if "is taken for dead" in line]
    taken = {int(number) for number in line.rpartition(": ")[2].split(", ")}
    assert taken
    assert taken <= set(mine.ended_here)
    assert sorted(mine.ended_here + mine.ended_there) == list(range(TRIALS))
    trained = Counter(logged(log))
    # Those that were paused went on from their checkpoints. The one that ran did so too, unless the
    # database named one that was gone: it is behind by what was not yet written when it was killed.
    again = {number for (number, _), count in trained.items() if count > 1}
    assert len(again) <= 1
    assert again <= taken


@pytest.mark.parametrize("seen", [True, False], ids=["seen from here", "out of reach"])
def test_who_joins_goes_on_from_the_checkpoints_of_who_left_or_starts_over(tmp_path, seen):
    url, go, log = f"sqlite:///{tmp_path}/study.db", tmp_path / "go", tmp_path / "log"
    go.touch()
    left = run(shared_study(url, tmp_path / "a", go, log), observer=Interrupting(5, 1))
    assert [trial.state for trial in left.trials] == ["running"] * 6
    before = logged(log)
    if not seen:
        (tmp_path / "a").rename(tmp_path / "elsewhere")
    result = run(shared_study(url, tmp_path / "b", go, log), observer=Listening(go))
    assert_whole(result)
    if seen:
        assert_checkpoints(result)
    went_on = {trial.number for trial in result.trials[:5] if trial.epochs > 1}
    assert went_on
    again = [line for line in logged(log)[len(before) :] if line in before and line[0] != 5]
    assert {number for number, _ in again} == (set() if seen else went_on)
    for trial in result.trials[:5]:
        ran_by = "b" if trial.number in went_on else "a"
        assert Path(trial.checkpoint).is_relative_to(tmp_path / ran_by)
    assert load_study(url).trials == result.trials
