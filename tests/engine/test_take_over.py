"""A study in a database has one driver; once that is gone another takes over its trials."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from curve_trials import Interrupting, logged, report_at
from driven_study import EPOCHS, EXPIRES_S, RENEW_S, TRIALS, driven_study

from tests.postgresql import new_database, running_server
from tests.waiting import until
from tuner import InvalidInput, load_study, run
from tuner.engine.callbacks import RunCallback
from tuner.storage import lease

pytestmark = pytest.mark.usefixtures("two_cpus")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server() as url:
        yield url


@pytest.fixture
def url(server, request, monkeypatch) -> str:
    monkeypatch.setattr(lease, "RENEW_S", RENEW_S)
    monkeypatch.setattr(lease, "EXPIRES_S", EXPIRES_S)
    return new_database(server, request.node.name)


@pytest.fixture
def driver(url, tmp_path) -> Iterator[subprocess.Popen]:
    """A process that drives the study from folder a, and has trained some epochs of it."""
    log = tmp_path / "log"
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("driven_study.py"), url, tmp_path / "a", log],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until(lambda: len(logged(log)) > 3 or process.poll() is not None, "epochs", within_s=120)
    assert process.poll() is None, process.communicate()[0]
    yield process
    if process.poll() is None:
        kill(process)
    process.stdout.close()


def kill(process: subprocess.Popen) -> None:
    """Kill it as a power cut would, with all of its Ray."""
    ray_processes = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for each in ray_processes:
        each.kill()
    psutil.wait_procs(ray_processes, timeout=20)
    process.communicate()


def take_over(url: str, folder: Path, log: Path):
    """Run the study from another folder, as soon as its lease has expired."""
    results = []

    def is_run() -> bool:
        try:
            results.append(run(driven_study(url, folder, log), observer=RunCallback()))
        except InvalidInput as error:
            if "one driver at a time" not in str(error):
                raise
        return bool(results)

    until(is_run, "the lease to expire", within_s=120)
    return results[0]


def assert_whole(result) -> None:
    """Every trial is there once, has ended, and has reported what an unbroken one reports."""
    assert [trial.number for trial in result.trials] == list(range(TRIALS))
    assert result.finished
    for trial in result.trials:
        epochs = tuple(range(1, int(trial.epochs) + 1))
        assert trial.curve.epochs == epochs
        config = {**trial.params, "max_epochs": EPOCHS}
        expected = [report_at(epoch, config)["score"] for epoch in epochs]
        assert trial.curve.metric == pytest.approx(expected)


def test_a_second_driver_is_refused_and_takes_over_once_the_first_has_died(url, driver, tmp_path):
    job = driven_study(url, tmp_path / "b", tmp_path / "log")
    with pytest.raises(InvalidInput) as refused:
        run(job, observer=RunCallback())
    line = str(refused.value)
    assert line.startswith("a study has one driver at a time, 'driven' is driven by process ")
    assert f":{driver.pid} in folder {tmp_path / 'a' / 'driven'} since " in line
    assert "\n" not in line
    assert not (tmp_path / "b").exists()
    kill(driver)
    before = logged(tmp_path / "log")
    result = take_over(url, tmp_path / "b", tmp_path / "log")
    assert_whole(result)
    # What was not yet in a checkpoint that the database names is trained again.
    again = Counter(logged(tmp_path / "log")) - Counter(set(logged(tmp_path / "log")))
    assert len({number for number, _ in again}) <= 1
    assert {number for number, _ in again} <= {number for number, _ in before}
    assert load_study(url) == load_study("driven", folder=tmp_path / "b")


@pytest.mark.soak
def test_a_driver_that_was_frozen_ends_in_one_line_when_it_wakes(url, driver, tmp_path):
    driver.send_signal(signal.SIGSTOP)
    result = take_over(url, tmp_path / "b", tmp_path / "log of b")
    assert_whole(result)
    before = load_study(url)
    driver.send_signal(signal.SIGCONT)
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 2
    assert said.startswith("LeaseLost: a driver must renew the lease of its study every ")
    assert said.count("\n") == 1
    assert load_study(url) == before


@pytest.mark.parametrize("seen", [True, False], ids=["seen from here", "out of reach"])
def test_the_next_driver_continues_from_the_former_ones_checkpoints_or_starts_over(tmp_path, seen):
    url, log = f"sqlite:///{tmp_path}/study.db", tmp_path / "log"
    left = run(driven_study(url, tmp_path / "a", log), observer=Interrupting(3, 1))
    assert [trial.state for trial in left.trials][-1] == "running"
    before = logged(log)
    if not seen:
        (tmp_path / "a").rename(tmp_path / "elsewhere")
    result = run(driven_study(url, tmp_path / "b", log), observer=RunCallback())
    assert_whole(result)
    continued = {n for n, _ in logged(log)[len(before) :] if n < 3}
    again = {n for n, epoch in logged(log)[len(before) :] if (n, epoch) in before and n < 3}
    assert continued
    assert again == (set() if seen else continued)
    for trial in result.trials[:3]:
        ran_by = "b" if trial.number in continued else "a"
        assert Path(trial.checkpoint).is_relative_to(tmp_path / ran_by)
    assert load_study(url).trials == result.trials
