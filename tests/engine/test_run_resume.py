"""A study goes on after whatever ended its process, as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from curve_trials import Interrupting, logged
from long_study import EPOCHS, TRIALS, long_study

from tuner import InvalidInput, load_study, resume, run
from tuner.engine.callbacks import RunCallback

pytestmark = pytest.mark.usefixtures("two_cpus")

SCRIPT = Path(__file__).with_name("long_study.py")
KILLS = int(os.environ.get("QUARTERTURN_KILLS", "20"))


def decisions(result):
    """What an interruption must not change; the seconds are another matter."""
    return [(t.number, t.params, t.state, t.epochs, t.value, t.reason) for t in result.trials]


@pytest.fixture(scope="module")
def whole(two_cpus, tmp_path_factory):
    """The decisions of the study when nothing interrupts it."""
    folder = tmp_path_factory.mktemp("whole")
    result = run(long_study(folder, folder / "log"), observer=RunCallback())
    assert {trial.state for trial in result.trials} == {"complete", "pruned"}
    return decisions(result)


class Elsewhere:
    """The study, running in a process of its own with a Ray of its own."""

    def __init__(self, folder: Path, log: Path):
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, folder, log],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "RAY_ADDRESS": "local"},
        )

    def wait_until(self, condition, timeout_s=120.0):
        until = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < until, "it takes too long"
            time.sleep(0.01)

    def kill(self):
        """Kill it as a power cut would, and wait until nothing of its Ray is left."""
        ray_processes = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for each in ray_processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.communicate()
        _, left = psutil.wait_procs(ray_processes, timeout=20)
        assert not left


@pytest.fixture
def start(tmp_path):
    """Return a function that starts the study elsewhere; it is gone when the test ends."""
    started = []

    def begin(folder=tmp_path / "studies", log=tmp_path / "log"):
        started.append(Elsewhere(folder, log))
        return started[-1]

    yield begin
    for elsewhere in started:
        if elsewhere.process.poll() is None:
            elsewhere.kill()
        elsewhere.process.stdout.close()


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(2, id="at first", marks=pytest.mark.soak),
        pytest.param(12, id="while all wait", marks=pytest.mark.soak),
        pytest.param(30, id="when some have gone on"),
    ],
)
def test_a_killed_study_goes_on_as_if_it_had_not_been(start, tmp_path, whole, lines):
    folder, log = tmp_path / "studies", tmp_path / "log"
    elsewhere = start()
    elsewhere.wait_until(lambda: len(logged(log)) >= lines)
    with pytest.raises(InvalidInput, match="'long' is being run by another"):
        run(long_study(folder, log), observer=RunCallback())
    elsewhere.kill()

    before, trained = load_study("long", folder=folder), logged(log)
    ended = {trial.number for trial in before.trials if trial.state != "running"}
    interrupted = {trial for trial, _ in trained} - ended
    result = resume("long", folder=folder, observer=RunCallback())

    assert decisions(result) == whole
    for number in ended:
        assert result.trials[number] == before.trials[number]
    since = logged(log)[len(trained) :]
    assert not ended & {trial for trial, _ in since}
    for number in interrupted:
        # From its checkpoint: the epoch that was being trained is trained again, and the one before
        # if its checkpoint had not reached the disk.
        last = max(epoch for trial, epoch in trained if trial == number)
        again = [epoch for trial, epoch in since if trial == number]
        assert not again or last - 1 <= again[0] <= last + 1
    assert not [path for path in (folder / "long").rglob("*.lock") if path.name != ".lock"]


def test_ctrl_c_ends_a_study_cleanly(start, tmp_path, whole):
    folder, log = tmp_path / "studies", tmp_path / "log"
    elsewhere = start()
    elsewhere.wait_until(lambda: len(logged(log)) >= 25)
    elsewhere.process.send_signal(signal.SIGINT)
    assert elsewhere.process.communicate(timeout=60)[0] == "not finished\n"
    assert elsewhere.process.returncode == 0

    before = load_study("long", folder=folder)
    assert not before.finished
    trained = logged(log)
    result = resume("long", folder=folder, observer=RunCallback())
    assert decisions(result) == whole
    since = logged(log)[len(trained) :]
    ended = {trial.number for trial in before.trials if trial.state != "running"}
    assert ended
    assert not ended & {trial for trial, _ in since}


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "lost"])
def test_a_trial_goes_on_from_its_checkpoint_or_starts_over(tmp_path, whole, kept):
    folder, log = tmp_path / "studies", tmp_path / "log"
    first = next(number for number, _, _, epochs, *_ in whole if epochs == EPOCHS)
    part = run(long_study(folder, log), observer=Interrupting(first, 4))
    assert part.trials[first].state == "running"
    trained = logged(log)
    if not kept:
        for checkpoint in (folder / "long" / "trials").glob("*/checkpoint_*"):
            shutil.rmtree(checkpoint)
    assert decisions(resume("long", folder=folder, observer=RunCallback())) == whole
    since = logged(log)[len(trained) :]
    assert since[0][0] == first
    assert since[0][1] in (range(4, 6) if kept else [1])


@pytest.mark.parametrize("damage", ["torn line", "lock left behind", "no study in it yet"])
def test_what_a_killed_writer_leaves_does_not_stop_the_next(tmp_path, damage):
    folder, log = tmp_path / "studies", tmp_path / "log"
    job = long_study(folder, log).with_changes(num_trials=2, max_epochs=2, pruner="none")
    journal = folder / "long" / "study.log"
    if damage == "no study in it yet":
        journal.parent.mkdir(parents=True)
        journal.touch()
    else:
        run(job, observer=RunCallback())
    if damage == "torn line":
        with journal.open("a") as file:
            file.write('{"op_code": 5, "worker_')
    if damage == "lock left behind":
        Path(f"{journal}.lock").symlink_to("nowhere")
    result = run(job.with_changes(num_trials=3), observer=RunCallback())
    assert [trial.state for trial in result.trials] == ["complete"] * 3


@pytest.mark.soak
@pytest.mark.timeout(60 * KILLS + 300)
def test_any_number_of_kills_at_any_moment_changes_nothing(start, tmp_path, whole):
    folder, log = tmp_path / "studies", tmp_path / "log"
    moments = random.Random(0)
    ended: dict[int, tuple] = {}
    kills = kills_here = finished = 0
    while kills < KILLS:
        elsewhere = start(folder, log)
        before = len(logged(log))
        # Half of them while Ray starts or a study is opened, half while trials run.
        if moments.random() < 0.5:
            time.sleep(moments.uniform(0, 8))
        else:
            wanted = before + moments.randint(1, 6)
            elsewhere.wait_until(
                lambda wanted=wanted, elsewhere=elsewhere, log=log: (
                    len(logged(log)) >= wanted or elsewhere.process.poll() is not None
                )
            )
        if elsewhere.process.poll() is not None:
            assert elsewhere.process.returncode == 0
            finished += 1
            assert decisions(load_study("long", folder=folder)) == whole
            # On with another one.
            folder, log = tmp_path / f"studies-{finished}", tmp_path / f"log-{finished}"
            ended.clear()
            kills_here = 0
            continue
        elsewhere.kill()
        kills += 1
        kills_here += 1
        if not (folder / "long" / "study.log").exists():
            continue
        try:
            so_far = load_study("long", folder=folder)
        except InvalidInput:  # killed before there was a study
            continue
        for number, *facts in decisions(so_far):
            assert ended.get(number, facts) == facts, "a trial that had ended has changed"
            if facts[1] != "running":
                ended[number] = facts
    run(long_study(folder, log), observer=RunCallback())
    assert decisions(load_study("long", folder=folder)) == whole
    epochs = logged(log)
    assert len({trial for trial, _ in epochs}) == TRIALS
    # A kill costs the epoch that was being trained, and the one that had not reached the disk.
    assert len(epochs) <= len(set(epochs)) + 2 * kills_here
    assert max(epoch for _, epoch in epochs) == EPOCHS
