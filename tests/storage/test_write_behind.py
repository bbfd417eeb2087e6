"""A database that goes away is waited for; what it has done without saying so is not done twice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
from tuner.errors import NotStored
from tuner.storage import database as outage
from tuner.storage import lease
from tuner.storage import write_behind as changes
from tuner.storage.database import DatabaseUnavailable, close_database, is_loss, open_database
from tuner.storage.lease import lease_in, worker_of
from tuner.storage.optuna_internals import trial_id_of
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
    monkeypatch.setattr(lease, "RENEW_S", 0.2)


@pytest.fixture
def proxy(server) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(server.socket)
    yield proxy
    proxy.end()


@contextmanager
def opened(
    url: str, name: str, folder: Path, said: list[str] | None = None
) -> Iterator[WriteBehindDatabase]:
    """Drive a study from a folder."""
    folder.mkdir(exist_ok=True)
    database = open_database(url)
    worker = worker_of(folder, folder / "trials")
    behind = WriteBehindDatabase(database, name, worker, [].append if said is None else said.append)
    with suppress(DuplicatedStudyError):
        if not behind.get_all_studies():
            behind.create_new_study(MAXIMIZE, name)
    try:
        yield behind
        behind.close()
    finally:
        close_database(database)


def begun(behind: WriteBehindDatabase) -> int:
    """Run an enqueued trial or create one, as soon as the database answers, as a driver does."""
    ids: list[int] = []

    def is_begun() -> bool:
        ids.extend(behind.refresh().enqueued)
        for enqueued in ids:
            behind.set_trial_state_values(enqueued, TrialState.RUNNING)
        if not ids:
            with suppress(DatabaseUnavailable):
                ids.append(behind.create_new_trial(0))
        return bool(ids)

    until(is_begun, "a trial to run")
    (trial_id,) = ids
    return trial_id


def report(behind: WriteBehindDatabase, trial_id: int) -> None:
    for step in (1, 2, 3):
        behind.set_trial_user_attr(trial_id, f"rotation:{step}", [0.1 * step])
        behind.set_trial_intermediate_value(trial_id, step, trial_id + step)


def known(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[object, ...]]:
    return [
        (t.number, t.state, t.values, t.params, t.intermediate_values, t.user_attrs) for t in trials
    ]


@pytest.mark.parametrize("cut", CUTS)
def test_a_commit_whose_answer_is_lost_is_made_once(server, database, name, proxy, tmp_path, cut):
    with opened(proxy.url(server.url), name, tmp_path) as behind:
        study_id = database.get_study_id_from_name(name)

        proxy.cut_at_commit(b"INSERT INTO trials", cut)
        first, second = (begun(behind) for _ in range(2))
        assert proxy.cuts == 1
        assert len(database.get_all_trials(study_id)) == 2
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
        until(lambda: behind._waiting, "the trial that waits")
        proxy.cut_at_commit(b"UPDATE trials SET state", cut)
        claimed = begun(behind)
        behind.flush()
        assert proxy.cuts == 4
        assert behind.get_trial(claimed).number == 2
        report(behind, claimed)
        behind.set_trial_state_values(claimed, TrialState.WAITING)
        here = known(behind.get_all_trials(0))

        behind.flush()
        proxy.cut_at_commit(b'"renewed": 0.0', cut)
    assert proxy.cuts == 5
    stored = database.get_all_trials(study_id)
    here[0] = (here[0][0], TrialState.WAITING, *here[0][2:])  # it waits for the next driver
    assert known(stored) == here
    released = lease_in(database.get_study_system_attrs(study_id))
    assert (released.token, released.renewed) == (1, 0.0)


def test_what_is_reported_while_the_database_is_away_is_in_it_afterwards(
    server, database, name, proxy, tmp_path
):
    lines, said = [], []
    url = proxy.url(server.url).replace("postgres:@", "postgres:hush@")
    assert "hush" in url
    with opened(url, name, tmp_path, said) as behind:
        trial = begun(behind)
        proxy.close()
        report(behind, trial)
        until(lambda: lines.extend(behind.refresh().lines) or lines, "the line that it is lost")
        behind.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
        with pytest.raises(DatabaseUnavailable):
            behind.create_new_trial(0)
        proxy.open()
        until(lambda: lines.extend(behind.refresh().lines) or len(lines) > 1, "that it is back")
        late = begun(behind)
        here = known(behind.get_all_trials(0))
        proxy.close()  # nothing is left but to wait
        behind.set_trial_user_attr(late, "late", 1)
        threading.Timer(1.0, proxy.open).start()
    stored = database.get_all_trials(database.get_study_id_from_name(name))
    assert known(stored[:1]) == here[:1]
    assert stored[1].state == TrialState.WAITING
    assert stored[1].user_attrs == {"late": 1}
    lost = (
        "; trials continue to train and their reports stay in memory until it does, "
        "for 30 min at most"
    )
    for first, second in (lines, said):
        assert first.startswith("the database does not answer (connection ")
        assert first.endswith(lost)
        assert second.startswith("the database answers again, after ")
    assert not [line for line in [*lines, *said] if "hush" in line or "\n" in line]


def test_a_backlog_is_written_in_pieces_each_of_which_renews_the_lease(
    server, database, name, proxy, tmp_path, monkeypatch
):
    monkeypatch.setattr(changes, "_PIECE", 20)
    monkeypatch.setattr(lease, "RENEW_S", 0.01)
    with opened(proxy.url(server.url), name, tmp_path) as behind:
        study_id = database.get_study_id_from_name(name)
        trial = behind.create_new_trial(0)
        behind.flush()
        (stored,) = database.get_all_trials(study_id)
        proxy.close()
        for step in range(200):
            behind.set_trial_intermediate_value(trial, step, float(step))
        until(lambda: behind._outage.is_on, "that it is lost")
        proxy.open()
        renewals = set()

        def arrived() -> int:
            got = len(database.get_trial(trial_id_of(stored)).intermediate_values)
            if 0 < got < 200:
                renewals.add(lease_in(database.get_study_system_attrs(study_id)).renewed)
            return got

        until(lambda: arrived() == 200, "all that was reported")
    assert len(renewals) > 1


def test_after_the_stated_time_nothing_more_can_be_written(
    server, name, proxy, tmp_path, monkeypatch
):
    monkeypatch.setattr(outage, "WAIT_S", 0.2)
    line = (
        r"^the study could not be written: the database has not answered for \d+ s \(.*\); resume"
    )
    with suppress(NotStored), opened(proxy.url(server.url), name, tmp_path) as behind:
        trial = behind.create_new_trial(0)
        proxy.close()
        with pytest.raises(NotStored, match=line):
            until(lambda: behind.set_trial_user_attr(trial, "a", 1), "the end of its patience")
    with opened(server.url, name, tmp_path) as behind:
        assert [trial.state for trial in behind.get_all_trials(0)] == [TrialState.RUNNING]


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C is heard, though a shell that starts the tests in its background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_ends_the_waiting(server, name, proxy, tmp_path):
    with suppress(NotStored), opened(proxy.url(server.url), name, tmp_path) as behind:
        trial = behind.create_new_trial(0)
        proxy.close()
        behind.set_trial_user_attr(trial, "a", 1)
        until(lambda: behind._outage.is_on, "that it is lost")
        threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            behind.flush()
        with pytest.raises(NotStored, match="has not answered for"):
            behind.close()


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
