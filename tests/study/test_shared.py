"""Several processes work on one study in a database: no trial is lost, none is anybody else's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import DuplicatedStudyError
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import DBAPIError

from tests.postgresql import new_database, running_server
from tuner.storage import lease as drivers
from tuner.storage.database import close_database, open_database, transaction
from tuner.storage.lease import DRIVER, FailureDetector, Lease, LeaseLost, Nobodys, driver_of
from tuner.storage.write_behind import WriteBehindDatabase
from tuner.study.load import load_study

MAXIMIZE = [optuna.study.StudyDirection.MAXIMIZE]


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
    """Drivers look at each other ten times a second."""
    monkeypatch.setattr(drivers, "BEAT_S", 0.1)


@contextmanager
def opened(url: str, folder: Path, name: str = "shared") -> Iterator[WriteBehindDatabase]:
    """Work on the study from a folder."""
    folder.mkdir(exist_ok=True)
    database = open_database(url)
    driver = driver_of(folder, folder / "trials", is_known=False)
    behind = WriteBehindDatabase(database, name, driver)
    with suppress(DuplicatedStudyError):
        if not behind.get_all_studies():
            behind.create_new_study(MAXIMIZE, name)
    try:
        yield behind
        if not behind._writer._closed:
            behind.close()
    finally:
        close_database(database)


def kill(behind: WriteBehindDatabase) -> None:
    """Have it write and say no more, as when its process is killed, and that for an hour now."""
    behind._writer.close()
    assert behind.driver is not None
    with transaction(behind._database) as database:
        records = database.get_study_system_attrs(behind._shared.study_id)
        key = behind.driver.key
        aged = {**records[key], "beat": records[key]["beat"] - 3600}
        database.set_study_system_attr(behind._shared.study_id, key, aged)


def wait_for(behind: WriteBehindDatabase, condition, timeout_s: float = 60.0) -> list[str]:
    """Listen to the others until it holds; return what was said."""
    until, lines = time.monotonic() + timeout_s, []
    while not condition():
        assert time.monotonic() < until, lines
        lines += behind.refresh().lines
        time.sleep(0.01)
    return lines


def states(behind: WriteBehindDatabase) -> list[TrialState]:
    return [trial.state for trial in behind.get_all_trials(0)]


def hammer(url: str, folder: Path, wanted: int) -> list[int]:
    """Make and end trials until the study has so many; return the numbers of those made here."""
    numbers = []
    with opened(url, folder) as behind:
        while (trial := behind.create_trial_within(wanted)) is not None:
            number = behind.get_trial_number_from_id(trial)
            assert behind.get_all_trials(0)[number]._trial_id == trial
            for step in range(1, 4):
                behind.set_trial_intermediate_value(trial, step, number + step)
            behind.set_trial_user_attr(trial, "by", folder.name)
            behind.set_trial_state_values(trial, TrialState.COMPLETE, [float(number)])
            numbers.append(number)
        assert len(behind.get_all_trials(0)) == wanted
    return numbers


def test_those_who_begin_at_once_make_each_number_once_and_no_more_than_asked_for(url, tmp_path):
    wanted, names = 60, ("a", "b", "c")
    begin = threading.Barrier(len(names))

    def work(name: str) -> list[int]:
        begin.wait()
        return hammer(url, tmp_path / name, wanted)

    with ThreadPoolExecutor() as pool:
        made = dict(zip(names, pool.map(work, names), strict=True))
    assert sorted(number for numbers in made.values() for number in numbers) == list(range(wanted))
    database = open_database(url)
    trials = database.get_all_trials(1)
    close_database(database)
    assert [trial.number for trial in trials] == list(range(wanted))
    for trial in trials:
        assert (trial.state, trial.values) == (TrialState.COMPLETE, [trial.number])
        assert trial.number in made[trial.user_attrs["by"]]
        assert trial.intermediate_values == {step: trial.number + step for step in (1, 2, 3)}


def test_each_sees_what_the_other_does(url, tmp_path):
    with opened(url, tmp_path / "a") as a, opened(url, tmp_path / "b") as b:
        first = a.create_new_trial(0)
        a.set_trial_intermediate_value(first, 1, 0.5)
        wait_for(b, lambda: b.get_all_trials(0) and b.get_trial(0).intermediate_values == {1: 0.5})
        assert b.get_trial(b.create_new_trial(0)).number == 1
        a.set_trial_state_values(first, TrialState.COMPLETE, [0.75])
        wait_for(b, lambda: b.get_trial(0).state == TrialState.COMPLETE)
        assert b.get_best_trial(0).value == 0.75
        wait_for(a, lambda: len(a.get_all_trials(0)) == 2)
        assert b.others == []


def test_what_is_pulled_when_a_trial_is_made_tells_all_that_others_did_before(file_url, tmp_path):
    with opened(file_url, tmp_path / "a") as a, opened(file_url, tmp_path / "b") as b:
        ended = []
        for number in range(6):
            mine = a if number % 2 else b
            trial = mine.create_new_trial(0)
            mine.set_trial_state_values(trial, TrialState.COMPLETE, [float(number)])
            mine.flush()
            assert [t.number for t in mine.get_all_trials(0)] == list(range(number + 1))
            assert set(states(mine)) == {TrialState.COMPLETE}
            ended += [t.number for t in mine.refresh().ended]
        assert ended == [0, 1, 2, 3, 4]


def test_a_live_driver_says_so_and_is_left_alone(url, tmp_path):
    with opened(url, tmp_path / "a") as a, opened(url, tmp_path / "b") as b:
        trial = a.create_new_trial(0)
        key = a.driver.id
        wait_for(b, lambda: key in b.records)
        for _ in range(3):  # it has nothing to write but that it lives
            before = b.records[key].beat
            wait_for(b, lambda before=before: b.records[key].beat > before)
        assert [t.state for t in b.others] == [TrialState.RUNNING]
        assert not b.set_trial_state_values(0, TrialState.RUNNING)
        a.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
        wait_for(b, lambda: not b.others)


def test_silence_is_death_only_while_somebody_listens():
    now, here = 1000.0, [0.0]
    presence = FailureDetector(clock=lambda: here[0])
    record = Lease("host:/a", "/a/trials", "session", beat=now - 2 * drivers.DEAD_AFTER_S)
    dead, lines = presence.look({"a": record}, now)
    assert not dead
    assert "has been silent for 120 s; its trials are taken up in 0 s" in lines[-1]
    here[0] += 3 * drivers.BEAT_S
    alive = replace(record, beat=now)
    assert presence.look({"a": alive}, now) == ({}, [])  # the database's clock had been set
    here[0] += 100.0
    assert presence.look({"a": alive}, now + 100)[0] == {"a": alive}
    assert presence.look({"a": replace(alive, session="")}, now + 101) == ({}, [])


def test_what_a_dead_driver_ran_is_taken_up_by_one_and_nothing_of_it_comes_late(url, tmp_path):
    folders = [tmp_path / name for name in "abc"]
    with opened(url, folders[0]) as a, opened(url, folders[1]) as b, opened(url, folders[2]) as c:
        running, ended = a.create_new_trial(0), a.create_new_trial(0)
        a.set_trial_intermediate_value(running, 1, 0.5)
        a.set_trial_state_values(ended, TrialState.COMPLETE, [1.0])
        assert b.refresh(now=True).changed
        kill(a)
        waiting = [TrialState.WAITING, TrialState.COMPLETE]
        lines = wait_for(b, lambda: states(b) == waiting)
        lines += wait_for(c, lambda: states(c) == waiting)
        assert len([line for line in lines if line.endswith("trials to take up: 0")]) == 1
        took = [behind.set_trial_state_values(0, TrialState.RUNNING) for behind in (b, c)]
        assert sorted(took) == [False, True]
        winner, loser = (b, c) if took[0] else (c, b)
        assert winner.get_trial(0).intermediate_values == {1: 0.5}
        assert [trial.number for trial in loser.others] == [0]
        for late in (
            lambda: a._shared.write(lambda database: database.set_trial_user_attr(1, "late", 1)),
            lambda: a.create_new_trial(0),
        ):
            with pytest.raises(LeaseLost, match="others go on with its trials"):
                late()
        winner.set_trial_state_values(0, TrialState.COMPLETE, [2.0])
        wait_for(loser, lambda: states(loser) == [TrialState.COMPLETE] * 2)
        assert "late" not in loser.get_trial(0).user_attrs


def test_who_comes_back_to_its_folder_goes_on_at_once(file_url, tmp_path):
    """Within the minute, that is, in which others leave its trials alone."""
    with opened(file_url, tmp_path / "b") as b:
        with opened(file_url, tmp_path / "a") as a:
            for _ in range(3):
                a.create_new_trial(0)
            a.set_trial_state_values(1, TrialState.COMPLETE, [1.0])
            a.set_trial_state_values(2, TrialState.WAITING)
            kill(a)
            with opened(file_url, tmp_path / "a") as again:
                assert again.left == [0, 2]
                assert states(again)[0] == states(again)[2] == TrialState.RUNNING
                b.refresh(now=True)
                assert [trial.number for trial in b.others] == [0, 2]
        b.refresh(now=True)  # it has left
        assert states(b).count(TrialState.WAITING) == 2


def test_who_leaves_has_its_trials_taken_up_at_once(file_url, tmp_path):
    with opened(file_url, tmp_path / "b") as b:
        with opened(file_url, tmp_path / "a") as a:
            a.create_new_trial(0)
        b.refresh(now=True)
        assert b.set_trial_state_values(0, TrialState.RUNNING)


def test_trials_of_an_older_version_are_its_folders_own(file_url, tmp_path):
    database = open_database(file_url)
    study_id = database.create_new_study(MAXIMIZE, "shared")
    database.create_new_trial(study_id)
    close_database(database)
    folder = tmp_path / "a"
    folder.mkdir()
    driver = driver_of(folder, folder / "trials", is_known=True)
    database = open_database(file_url)
    with closing(WriteBehindDatabase(database, "shared", driver)) as behind:
        assert behind.left == [0]
        assert behind.others == []
    close_database(database)


def test_trials_of_nobody_are_taken_up_elsewhere_once_they_report_no_more(
    file_url, tmp_path, monkeypatch
):
    monkeypatch.setattr(drivers, "DEAD_AFTER_S", 0.5)
    database = open_database(file_url)
    study_id = database.create_new_study(MAXIMIZE, "shared")
    trial = database.create_new_trial(study_id)
    database.set_trial_intermediate_value(trial, 1, 0.5)
    with opened(file_url, tmp_path / "a") as behind:
        assert behind.left == []
        lines = wait_for(behind, lambda: states(behind) == [TrialState.WAITING])
        assert any("nobody seems to run trials 0" in line for line in lines)
        assert behind.set_trial_state_values(0, TrialState.RUNNING)
    close_database(database)


def test_trials_of_nobody_that_report_are_left_alone():
    here = [0.0]
    nobodys = Nobodys(clock=lambda: here[0])
    trial = create_trial(state=TrialState.RUNNING, intermediate_values={})
    other = create_trial(state=TrialState.RUNNING, system_attrs={DRIVER: "a"})
    assert "1 trials run that are no known driver's" in nobodys.look([trial, other])[1][0]
    for step in range(5):
        here[0] += 0.9 * drivers.DEAD_AFTER_S
        trial.intermediate_values[step] = 0.5
        assert nobodys.look([trial, other]) == ([], [])
    here[0] += 1.1 * drivers.DEAD_AFTER_S
    assert nobodys.look([trial, other]) == ([trial._trial_id], [])
    assert nobodys.look([other]) == ([], [])


def test_those_who_begin_at_once_agree_on_what_the_study_is_of(file_url, tmp_path):
    with opened(file_url, tmp_path / "a") as a, opened(file_url, tmp_path / "b") as b:
        assert a.agree({"metric": "score", "epochs": 3}, over=True)["metric"] == "score"
        assert b.agree({"metric": "loss", "space": "x"}, over=True) == {
            "metric": "score",
            "epochs": 3,
        }
    with opened(file_url, tmp_path / "c") as c:  # alone, and there are no trials
        assert c.agree({"metric": "loss"}, over=True)["metric"] == "loss"
        c.create_new_trial(0)
        assert c.agree({"metric": "score"}, over=True)["metric"] == "loss"


def test_a_database_that_is_silent_for_a_moment_ends_nothing(file_url, tmp_path, monkeypatch):
    with opened(file_url, tmp_path / "a") as behind:
        trial = behind.create_new_trial(0)
        with monkeypatch.context() as patch:
            asked = []

            def silent(*_) -> None:
                asked.append(1)
                raise DBAPIError("SELECT", {}, Exception("no answer"))

            patch.setattr(behind._shared, "news", silent)
            wait_for(behind, lambda: len(asked) > 1)
        behind.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
        behind.flush()
    assert load_study(file_url).trials[0].state == "complete"
