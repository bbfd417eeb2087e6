"""A study in a database has one driver at a time, and another only once the first is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import DuplicatedStudyError
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError

from tests.postgresql import new_database, running_server
from tests.waiting import until
from tuner.errors import InvalidInput
from tuner.storage import lease
from tuner.storage.database import close_database, open_database, seconds_now
from tuner.storage.lease import HOLDER, LeaseLost, is_driven, lease_in, worker_of
from tuner.storage.write_behind import WriteBehindDatabase
from tuner.study.load import load_study

MAXIMIZE = [optuna.study.StudyDirection.MAXIMIZE]
RUNNING, WAITING, COMPLETE = TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server() as url:
        yield url


@pytest.fixture(params=["postgresql", "sqlite"])
def url(request, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    return new_database(request.getfixturevalue("server"), request.node.name)


@pytest.fixture
def file_url(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Drivers renew their lease ten times a second."""
    monkeypatch.setattr(lease, "RENEW_S", 0.1)


@contextmanager
def opened(url: str, folder: Path) -> Iterator[WriteBehindDatabase]:
    """Drive the study from a folder."""
    folder.mkdir(exist_ok=True)
    database = open_database(url)
    try:
        behind = WriteBehindDatabase(database, "leased", worker_of(folder, folder / "trials"))
        try:
            with suppress(DuplicatedStudyError):
                if not behind.get_all_studies():
                    behind.create_new_study(MAXIMIZE, "leased")
            yield behind
        finally:
            if not behind._writer._closed:
                behind.close()
    finally:
        close_database(database)


def kill(behind: WriteBehindDatabase) -> None:
    """Have it write no more and renew nothing, as when its process is killed."""
    behind._writer.close()


def states(behind: WriteBehindDatabase) -> list[TrialState]:
    return [trial.state for trial in behind.get_all_trials(0)]


def stored_lease(url: str) -> lease.Lease:
    database = open_database(url)
    (study,) = database.get_all_studies()
    close_database(database)
    found = lease_in(study.system_attrs)
    assert found is not None
    return found


def test_a_second_driver_is_refused_in_one_line(url, tmp_path):
    with opened(url, tmp_path / "a") as a:
        trial = a.create_new_trial(0)
        with pytest.raises(InvalidInput) as refused, opened(url, tmp_path / "b"):
            pass
        line = str(refused.value)
        assert line.startswith("a study has one driver at a time, 'leased' is driven by process ")
        assert f"{a._worker.holder} in folder {tmp_path / 'a'} since 20" in line
        assert "; wait for it or stop it; if it is dead, try again in " in line
        assert "\n" not in line
        a.set_trial_state_values(trial, COMPLETE, [1.0])
    assert load_study(url).trials[0].state == "complete"


def test_of_those_who_begin_at_once_one_drives(url, tmp_path):
    close_database(open_database(url))  # its tables are there
    begin, end = threading.Barrier(3, timeout=60), threading.Barrier(3, timeout=60)

    def drive(name: str) -> str:
        begin.wait()
        try:
            with opened(url, tmp_path / name) as behind:
                behind.create_new_trial(0)
                end.wait()
                return "drives"
        except InvalidInput as error:
            end.wait()
            return str(error)

    with ThreadPoolExecutor() as pool:
        said = sorted(pool.map(drive, "abc"))
    assert said[-1] == "drives"
    assert all("one driver at a time" in line for line in said[:2])
    assert len(load_study(url).trials) == 1


def test_a_live_driver_renews_its_lease_with_nothing_to_write(url, tmp_path):
    with opened(url, tmp_path / "a"):
        first = stored_lease(url)
        until(lambda: stored_lease(url).renewed > first.renewed, "a renewal")
        assert stored_lease(url).since == first.since


def test_what_is_enqueued_elsewhere_is_picked_up(url, tmp_path):
    with opened(url, tmp_path / "a") as a:
        mine = a.create_new_trial(0)
        visitor = open_database(url)
        with closing(WriteBehindDatabase(visitor, "leased")) as behind:
            study = optuna.load_study(study_name="leased", storage=behind)
            study.enqueue_trial({"lr": 0.5}, user_attrs={"advice": "raise lr"})
        close_database(visitor)
        enqueued: list[int] = []
        until(lambda: enqueued.extend(a.refresh().enqueued) or enqueued, "the enqueued trial")
        (trial,) = enqueued
        assert a.get_trial(trial).system_attrs["fixed_params"] == {"lr": 0.5}
        assert a.set_trial_state_values(trial, RUNNING)
        assert a.get_trial(a.create_new_trial(0)).number == 2
        for each in (mine, trial):
            a.set_trial_state_values(each, COMPLETE, [1.0])
        assert a.refresh().enqueued == []
    read = load_study(url).trials
    assert [(t.number, t.state) for t in read] == [(0, "complete"), (1, "complete"), (2, "running")]
    assert read[1].advice == "raise lr"


def test_one_that_is_enqueued_while_a_trial_is_created_is_picked_up_too(file_url, tmp_path):
    with opened(file_url, tmp_path / "a") as a:
        visitor = open_database(file_url)
        study = optuna.load_study(study_name="leased", storage=visitor)
        study.enqueue_trial({"lr": 0.5})
        study.add_trial(optuna.trial.create_trial(value=0.25))
        close_database(visitor)
        created = a.create_new_trial(0)
        assert a.get_trial(created).number == 2
        assert [a.get_trial(t).number for t in a.refresh().enqueued] == [0]
        assert states(a) == [WAITING, COMPLETE, RUNNING]


def test_the_lease_of_a_dead_driver_expires_and_another_takes_over_its_trials(
    url, tmp_path, monkeypatch
):
    monkeypatch.setattr(lease, "EXPIRES_S", 2.0)
    with opened(url, tmp_path / "a") as a:
        running, ended = a.create_new_trial(0), a.create_new_trial(0)
        a.set_trial_intermediate_value(running, 1, 0.5)
        a.set_trial_user_attr(running, "checkpoint", "trial-00000/checkpoint_000000")
        a.set_trial_state_values(ended, COMPLETE, [1.0])
        kill(a)
        with pytest.raises(InvalidInput, match="one driver at a time"), opened(url, tmp_path / "b"):
            pass
        died = stored_lease(url)
        database = open_database(url)
        until(lambda: not died.is_live(seconds_now(database)), "its lease to expire")
        close_database(database)
        with opened(url, tmp_path / "b") as b:
            assert states(b) == [RUNNING, COMPLETE]
            assert b.get_trial(running).intermediate_values == {1: 0.5}
            assert b.get_trial(running).system_attrs[HOLDER] == a._worker.id
            assert stored_lease(url).token == died.token + 1
            late = lambda database: database.set_trial_user_attr(1, "late", 1)  # noqa: E731
            for write in (lambda: a._leased.write(late), lambda: a._leased.create_trial()):
                with pytest.raises(LeaseLost, match=r"folder .*/b drives it since 20") as lost:
                    write()
                assert "\n" not in str(lost.value)
            a._leased.release()  # it is not this one's to release
            assert stored_lease(url).renewed > 0
            b.set_trial_state_values(running, COMPLETE, [2.0])
    read = load_study(url).trials
    assert [trial.state for trial in read] == ["complete", "complete"]
    assert read[0].checkpoint == f"{tmp_path}/a/trials/trial-00000/checkpoint_000000"


def test_a_driver_that_is_frozen_until_another_took_over_stops_writing_and_says_so(
    url, tmp_path, monkeypatch
):
    frozen = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("leased_study.py"), url, tmp_path / "a"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert frozen.stdout.readline() == "reported\n"
        frozen.send_signal(signal.SIGSTOP)
        left = stored_lease(url)
        monkeypatch.setattr(lease, "EXPIRES_S", 1.0)
        database = open_database(url)
        until(lambda: not left.is_live(seconds_now(database)), "its lease to expire")
        close_database(database)
        with opened(url, tmp_path / "b") as b:
            assert states(b) == [RUNNING]
            frozen.send_signal(signal.SIGCONT)
            said, _ = frozen.communicate("go on\n", timeout=60)
            assert frozen.returncode == 2
            assert said.startswith("LeaseLost: a driver must renew the lease of its study every ")
            assert f"in folder {tmp_path / 'b'} drives it since" in said
            assert said.count("\n") == 1
    finally:
        frozen.kill()
        frozen.communicate()
    database = open_database(url)
    (study,) = database.get_all_studies()
    (trial,) = database.get_all_trials(study._study_id)
    close_database(database)
    assert (trial.state, trial.intermediate_values) == (WAITING, {1: 0.5})


def test_a_resume_from_the_same_folder_does_not_wait(url, tmp_path):
    with opened(url, tmp_path / "a") as a:
        a.create_new_trial(0)
        kill(a)
        with opened(url, tmp_path / "a") as again:
            assert states(again) == [RUNNING]
            assert stored_lease(url).token == 2
            with pytest.raises(LeaseLost):
                a._leased.create_trial()


def test_a_copy_of_the_folder_is_another_one(file_url, tmp_path):
    with opened(file_url, tmp_path / "a") as a:
        (tmp_path / "copy").mkdir()
        lease.id_file(tmp_path / "copy").write_text(a._worker.id)
        with pytest.raises(InvalidInput, match="one driver at a time"):
            opened(file_url, tmp_path / "copy").__enter__()


def test_a_clean_end_releases_the_lease_and_leaves_what_ran_to_the_next(url, tmp_path):
    with opened(url, tmp_path / "a") as a:
        a.create_new_trial(0)
    released = stored_lease(url)
    assert not is_driven({"lease": vars(released)}, time.time())
    with opened(url, tmp_path / "b") as b:
        assert states(b) == [WAITING]
        assert stored_lease(url).token == released.token + 1


def test_a_database_that_fails_for_a_moment_ends_nothing(file_url, tmp_path, monkeypatch):
    with opened(file_url, tmp_path / "a") as behind:
        trial = behind.create_new_trial(0)
        with monkeypatch.context() as patch:
            asked = []

            def fails(*_) -> None:
                asked.append(1)
                raise DBAPIError("SELECT", {}, Exception("no answer"))

            patch.setattr(behind._leased, "trials", fails)
            until(lambda: len(asked) > 1, "two attempts")
        behind.set_trial_state_values(trial, COMPLETE, [1.0])
        behind.flush()
    assert load_study(file_url).trials[0].state == "complete"


@pytest.fixture
def old_study(file_url, tmp_path) -> str:
    """A study of two drivers of the version before the lease, of which one may live.

    Returns: the id of the driver of folder a.
    """
    database = open_database(file_url)
    study_id = database.create_new_study(MAXIMIZE, "leased")
    now = seconds_now(database)
    for name, beat in (("a", now), ("b", now - 3600)):
        record = {
            "where": f"host:{tmp_path / name}",
            "trials": str(tmp_path / name / "trials"),
            "session": f"session-{name}",
            "beat": beat,
        }
        database.set_study_system_attr(study_id, f"driver:{name}", record)
        trial = database.create_new_trial(study_id)
        database.set_trial_system_attr(trial, "driver", name)
        database.set_trial_system_attr(trial, HOLDER, name)
        database.set_trial_user_attr(trial, "checkpoint", f"of-{name}")
    database.create_new_trial(study_id)  # by a version before drivers had ids
    close_database(database)
    (tmp_path / "a").mkdir()
    lease.id_file(tmp_path / "a").write_text("a")
    return "a"


@pytest.mark.usefixtures("old_study")
def test_a_study_of_several_old_drivers_is_reported_and_resumed(file_url, tmp_path):
    places = [trial.checkpoint for trial in load_study(file_url).trials]
    assert places == [f"{tmp_path}/a/trials/of-a", f"{tmp_path}/b/trials/of-b", None]
    with opened(file_url, tmp_path / "a") as behind:
        assert states(behind) == [RUNNING] * 3
        for trial in range(3):
            behind.set_trial_state_values(trial, COMPLETE, [1.0])
    read = load_study(file_url)
    assert [trial.state for trial in read.trials] == ["complete"] * 3
    assert [trial.checkpoint for trial in read.trials] == places


@pytest.mark.usefixtures("old_study")
def test_a_driver_of_an_old_version_that_lives_is_refused_to_others(file_url, tmp_path):
    with pytest.raises(InvalidInput, match=rf"process host in folder {tmp_path}/a since"):
        opened(file_url, tmp_path / "c").__enter__()


@pytest.mark.usefixtures("old_study")
def test_a_driver_of_an_old_version_finds_that_it_is_none_any_more(file_url, tmp_path):
    with opened(file_url, tmp_path / "a"):
        database = open_database(file_url)
        (study,) = database.get_all_studies()
        close_database(database)
        assert not any("session" in study.system_attrs[f"driver:{name}"] for name in "ab")
