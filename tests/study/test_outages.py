"""A database that goes away is waited for; what it has done without saying so is not done twice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import OperationalError

from tests.cutting_proxy import CUTS, CuttingProxy
from tests.postgresql import Server, started_server
from tests.waiting import until
from tuner.engine.trial_queue import Company
from tuner.errors import NotStored
from tuner.storage import database as outage
from tuner.storage import lease as drivers
from tuner.storage import write_behind as changes
from tuner.storage.database import DatabaseUnavailable, close_database, is_loss, open_database
from tuner.storage.lease import DRIVER, FailureDetector, driver_of
from tuner.storage.write_behind import WriteBehindDatabase

MAXIMIZE = [optuna.study.StudyDirection.MAXIMIZE]
RANGE = FloatDistribution(0, 1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started_server() as server:
        yield server


@pytest.fixture(scope="module")
def database(server) -> Iterator[RDBStorage]:
    """The database as it is reached without a proxy."""
    storage = open_database(server.url)
    yield storage
    close_database(storage)


@pytest.fixture
def name(request) -> str:
    """The name of a study of the test's own."""
    return request.node.name


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(drivers, "BEAT_S", 0.2)


@pytest.fixture
def proxies(server) -> Iterator[list[CuttingProxy]]:
    """Two of them, so that each driver may have one."""
    both = [CuttingProxy(server.socket), CuttingProxy(server.socket)]
    yield both
    for proxy in both:
        proxy.end()


@contextmanager
def opened(
    url: str, name: str, folder: Path, said: list[str] | None = None
) -> Iterator[WriteBehindDatabase]:
    """Work on a study from a folder."""
    folder.mkdir(exist_ok=True)
    database = open_database(url)
    driver = driver_of(folder, folder / "trials", is_known=False)
    behind = WriteBehindDatabase(database, name, driver, [].append if said is None else said.append)
    with suppress(DuplicatedStudyError):
        if not behind.get_all_studies():
            behind.create_new_study(MAXIMIZE, name)
    try:
        yield behind
        behind.close()
    finally:
        close_database(database)


def begun(company: Company, limit: int) -> int:
    """Take up a trial or make one, as soon as the database answers, as a run does."""
    ids: list[int] = []

    def taken_up() -> bool:
        company.news()
        trial_id = company.claim()
        if trial_id is None:
            with suppress(DatabaseUnavailable):
                trial_id = company.create(limit)
        ids.extend([] if trial_id is None else [trial_id])
        return bool(ids)

    until(taken_up, "a trial to run")
    return ids[0]


def report(behind: WriteBehindDatabase, trial_id: int) -> None:
    for step in (1, 2, 3):
        behind.set_trial_user_attr(trial_id, f"rotation:{step}", [0.1 * step])
        behind.set_trial_intermediate_value(trial_id, step, trial_id + step)


def known(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[object, ...]]:
    return [
        (t.number, t.state, t.values, t.params, t.intermediate_values, t.user_attrs) for t in trials
    ]


@pytest.mark.parametrize("cut", CUTS)
def test_a_commit_whose_answer_is_lost_is_made_once(server, database, name, proxies, tmp_path, cut):
    proxy = proxies[0]
    with opened(proxy.url(server.url), name, tmp_path) as behind:
        study_id = database.get_study_id_from_name(name)
        company = Company(optuna.load_study(study_name=name, storage=behind))

        proxy.cut_at_commit(b"INSERT INTO trials", cut)
        first, second = sorted(begun(company, 2) for _ in range(2))
        assert proxy.cuts == 1
        assert company.create(2) is None
        assert behind.others == []
        assert [behind.get_trial_number_from_id(id_) for id_ in (first, second)] == [0, 1]

        proxy.cut_at_commit(b"INSERT INTO trial_params", cut)
        behind.set_trial_param(first, "x", 0.25, RANGE)
        report(behind, first)
        behind.flush()
        assert proxy.cuts == 2

        behind.set_trial_param(second, "x", 0.5, RANGE)
        behind.flush()
        proxy.cut_at_commit(b"UPDATE trials SET state", cut)
        report(behind, second)
        behind.set_trial_state_values(second, TrialState.COMPLETE, [1.0])
        behind.flush()
        assert proxy.cuts == 3

        database.create_new_trial(study_id, create_trial(state=TrialState.WAITING))
        until(lambda: company.news() and behind.others, "the trial that waits")
        proxy.cut_at_commit(b"UPDATE trials SET state", cut)
        claimed = begun(company, 3)
        assert proxy.cuts == 4
        assert behind.get_trial(claimed).number == 2
        assert behind.others == []
        report(behind, claimed)
        behind.set_trial_state_values(claimed, TrialState.WAITING)
        here = known(behind.get_all_trials(0))

        behind.flush()
        proxy.cut_at_commit(b'"session": ""', cut)
    assert proxy.cuts == 5
    stored = database.get_all_trials(study_id)
    here[0] = (here[0][0], TrialState.WAITING, *here[0][2:])  # left to anybody
    assert known(stored) == here
    assert {trial.system_attrs[DRIVER] for trial in stored} == {behind.driver.id}
    record = drivers.records_in(database.get_study_system_attrs(study_id))[behind.driver.id]
    assert record.session == ""


def test_what_is_reported_while_the_database_is_away_is_in_it_afterwards(
    server, database, name, proxies, tmp_path
):
    proxy, lines, said = proxies[0], [], []
    url = proxy.url(server.url).replace("postgres:@", "postgres:hush@")
    assert "hush" in url
    with opened(url, name, tmp_path, said) as behind:
        company = Company(optuna.load_study(study_name=name, storage=behind))
        trial = begun(company, 9)
        proxy.close()
        report(behind, trial)
        until(lambda: lines.extend(company.news().lines) or lines, "the line that it is lost")
        behind.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
        with pytest.raises(DatabaseUnavailable):
            company.create(9)
        proxy.open()
        until(lambda: lines.extend(company.news().lines) or len(lines) > 1, "that it is back")
        late = begun(company, 9)
        here = known(behind.get_all_trials(0))
        proxy.close()  # nothing is left but to wait
        behind.set_trial_user_attr(late, "late", 1)
        threading.Timer(1.0, proxy.open).start()
    stored = database.get_all_trials(database.get_study_id_from_name(name))
    assert known(stored[:1]) == here[:1]
    assert stored[1].state == TrialState.WAITING
    assert stored[1].user_attrs == {"late": 1}
    lost = "; trials train on and their reports are kept until it does, for 30 min at most"
    for first, second in (lines, said):
        assert first.startswith("the database does not answer (connection ")
        assert first.endswith(lost)
        assert second.startswith("the database answers again, after ")
    assert not [line for line in [*lines, *said] if "hush" in line or "\n" in line]


def test_a_backlog_is_written_in_pieces_between_which_the_driver_says_that_it_lives(
    server, database, name, proxies, tmp_path, monkeypatch
):
    monkeypatch.setattr(changes, "_PIECE", 20)
    monkeypatch.setattr(drivers, "BEAT_S", 0.01)
    with opened(proxies[0].url(server.url), name, tmp_path) as behind:
        study_id = database.get_study_id_from_name(name)
        trial = behind.create_new_trial(0)
        behind.flush()
        (stored,) = database.get_all_trials(study_id)
        proxies[0].close()
        for step in range(200):
            behind.set_trial_intermediate_value(trial, step, float(step))
        until(lambda: behind._outage.is_on, "that it is lost")
        proxies[0].open()
        beats = set()

        def arrived() -> int:
            got = len(database.get_trial(stored._trial_id).intermediate_values)
            (record,) = drivers.records_in(database.get_study_system_attrs(study_id)).values()
            if 0 < got < 200:
                beats.add(record.beat)
            return got

        until(lambda: arrived() == 200, "all that was reported")
    assert len(beats) > 1


def test_who_comes_back_later_than_another_is_not_buried_by_it(
    server, database, name, proxies, tmp_path
):
    first, second = proxies

    def record_of(behind: WriteBehindDatabase) -> dict[str, Any]:
        study_id = database.get_study_id_from_name(name)
        return database.get_study_system_attrs(study_id)[behind.driver.key]

    with (
        opened(first.url(server.url), name, tmp_path / "a") as a,
        opened(second.url(server.url), name, tmp_path / "b") as b,
    ):
        trial = a.create_new_trial(0)
        until(lambda: b.refresh() and b.others, "the other's trial")
        first.close()
        second.close()
        until(lambda: a._outage.is_on and b._outage.is_on, "that it is lost")
        aged = {**record_of(a), "beat": record_of(a)["beat"] - 3600}
        database.set_study_system_attr(database.get_study_id_from_name(name), a.driver.key, aged)
        second.open()
        lines: list[str] = []
        until(
            lambda: lines.extend(b.refresh().lines) or "has been silent" in "".join(lines),
            "that the other is missed",
        )
        for _ in range(5):  # looks, any of which might bury it
            before = record_of(b)["beat"]
            until(lambda before=before: record_of(b)["beat"] > before, "a look")
        first.open()
        a.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
        a.flush()
        until(lambda: b.refresh() and not b.others, "that the other's trial has ended")


def test_after_the_stated_time_nothing_more_can_be_written(
    server, name, proxies, tmp_path, monkeypatch
):
    monkeypatch.setattr(outage, "WAIT_S", 0.2)
    line = (
        r"^the study could not be written: the database has not answered for \d+ s \(.*\); resume"
    )
    with suppress(NotStored), opened(proxies[0].url(server.url), name, tmp_path) as behind:
        trial = behind.create_new_trial(0)
        proxies[0].close()
        with pytest.raises(NotStored, match=line):
            until(lambda: behind.set_trial_user_attr(trial, "a", 1), "the end of its patience")
    with opened(server.url, name, tmp_path) as behind:
        assert behind.left == [0]


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C is heard, though a shell that starts the tests in its background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_ends_the_waiting(server, name, proxies, tmp_path):
    with suppress(NotStored), opened(proxies[0].url(server.url), name, tmp_path) as behind:
        trial = behind.create_new_trial(0)
        proxies[0].close()
        behind.set_trial_user_attr(trial, "a", 1)
        until(lambda: behind._outage.is_on, "that it is lost")
        threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            behind.flush()
        with pytest.raises(NotStored, match="has not answered for"):
            behind.close()


def test_dead_are_those_who_are_silent_while_the_database_is_there():
    here = [0.0]
    presence = FailureDetector(clock=lambda: here[0])
    record = drivers.Lease("host:/a", "/a/trials", "session", beat=1000.0)
    presence.look({"a": record}, 1000.0)
    here[0] += 300
    presence.spare()
    dead, lines = presence.look({"a": record}, 1300.0)
    assert not dead
    assert "its trials are taken up in 60 s if it stays so" in lines[-1]
    here[0] += drivers.DEAD_AFTER_S - 1
    assert presence.look({"a": record}, 1300.0 + here[0])[0] == {}
    here[0] += 2
    assert presence.look({"a": record}, 1300.0 + here[0])[0] == {"a": record}


@pytest.mark.parametrize(
    ("statement", "code", "expected"),
    [
        (None, None, True),  # to connect, or to commit, without the server having said a word
        ("SELECT", "57P01", True),  # its operator ends it
        ("UPDATE", "25006", True),  # it has become a standby
        ("SELECT", "42P01", False),
        (None, "23505", False),
        ("SELECT", None, False),
    ],
)
def test_a_lost_database_is_told_from_one_that_refuses(statement, code, expected):
    cause = Exception("said")
    cause.sqlstate = code
    assert is_loss(OperationalError(statement, {}, cause)) is expected
