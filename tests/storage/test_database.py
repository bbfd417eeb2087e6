"""A study in an SQL database is the same as one that Optuna writes itself."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from tests.study.example_studies import change_everything, content
from tuner.errors import InvalidInput
from tuner.storage.database import open_database
from tuner.storage.write_behind import WriteBehindDatabase


@pytest.fixture
def database(tmp_path: Path) -> RDBStorage:
    return open_database(f"sqlite:///{tmp_path}/study.db")


def test_every_kind_of_change_arrives_as_if_written_directly(database, tmp_path):
    with closing(WriteBehindDatabase(database, "everything")) as behind:
        change_everything(behind)
        here = content(behind)
    direct = open_database(f"sqlite:///{tmp_path}/direct.db")
    change_everything(direct)
    assert content(database) == here == content(direct)


def test_what_is_flushed_is_in_the_database_before_it_is_closed(database):
    with closing(WriteBehindDatabase(database, "everything")) as behind:
        change_everything(behind)
        behind.flush()
        assert content(database) == content(behind)


def test_an_optimized_study_reads_the_same_from_both(database):
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -1, 1)
        for step in range(1, 5):
            trial.report(x * step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        if trial.number == 5:
            raise ZeroDivisionError
        return x

    with closing(WriteBehindDatabase(database, "everything")) as behind:
        study = optuna.create_study(
            storage=behind,
            study_name="everything",
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
        )
        study.enqueue_trial({"x": 0.25})
        study.optimize(objective, n_trials=12, catch=ZeroDivisionError)
        here = content(behind)
    assert content(database) == here
    assert {trial["state"] for trial in here["trials"]} == {
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
    }
    assert here["trials"][0]["params"] == {"x": 0.25}


def test_a_reopened_study_holds_everything_and_goes_on_numbering(database):
    with closing(WriteBehindDatabase(database, "everything")) as behind:
        change_everything(behind)
        here = content(behind)
    with closing(WriteBehindDatabase(database, "everything")) as behind:
        assert content(behind) == here
        study = optuna.load_study(study_name="everything", storage=behind)
        waiting, enqueued, new = study.ask(), study.ask(), study.ask()
        assert [waiting.number, enqueued.number, new.number] == [3, 6, 7]
        study.tell(new, 0.5)
        study.tell(waiting, 0.25)
    stored = content(database)["trials"]
    assert [trial["number"] for trial in stored] == list(range(8))
    assert (stored[7]["values"], stored[3]["values"]) == ([0.5], [0.25])
    assert stored[:3] == here["trials"][:3]


def test_other_studies_in_the_database_are_neither_read_nor_touched(database):
    change_everything(database, "other")
    before = content(database, "other")
    with closing(WriteBehindDatabase(database, "everything")) as behind:
        assert behind.get_all_studies() == []
        change_everything(behind)
    assert content(database, "other") == before
    assert content(database)["trials"] == before["trials"]


def test_a_change_the_memory_refuses_never_reaches_the_database(database):
    with closing(WriteBehindDatabase(database, "everything")) as behind:
        change_everything(behind)
        here = content(behind)
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            behind.set_trial_user_attr(0, "late", 1)
    assert content(database) == here


def test_a_trial_that_another_took_is_not_taken_twice(database):
    with closing(WriteBehindDatabase(database, "everything")) as behind:
        change_everything(behind)
        assert behind.set_trial_state_values(4, TrialState.RUNNING) is False
        here = content(behind)
    assert content(database) == here


def test_a_deleted_study_is_gone_from_the_database_too(database):
    with closing(WriteBehindDatabase(database, "everything")) as behind:
        change_everything(behind)
        behind.delete_study(0)
    assert database.get_all_studies() == []


def test_no_report_waits_for_the_database(database, monkeypatch):
    go_on = threading.Event()
    write = RDBStorage.set_trial_intermediate_value

    def slow(*change) -> None:
        assert go_on.wait(60)
        write(*change)

    monkeypatch.setattr(RDBStorage, "set_trial_intermediate_value", slow)
    with closing(WriteBehindDatabase(database, "everything")) as behind:
        study_id = behind.create_new_study([optuna.study.StudyDirection.MINIMIZE], "everything")
        trial = behind.create_new_trial(study_id)
        for step in range(100):
            behind.set_trial_intermediate_value(trial, step, 0.5)
            behind.set_trial_user_attr(trial, f"rotation:{step}", {})
        behind.set_trial_state_values(trial, TrialState.COMPLETE, [0.5])
        behind.set_study_user_attr(study_id, "metric", "val_accuracy")
        assert behind.get_trial(trial).state == TrialState.COMPLETE
        assert database.get_all_trials(1)[0].state == TrialState.RUNNING
        go_on.set()
        here = content(behind)
    assert content(database) == here
    assert here["trials"][0]["state"] == TrialState.COMPLETE


def test_a_database_that_fails_is_told_of_at_the_next_change(database, monkeypatch):
    def fails(*_) -> None:
        raise OperationalError("INSERT", {}, Exception("the server closed the connection"))

    behind = WriteBehindDatabase(database, "everything")
    study_id = behind.create_new_study([optuna.study.StudyDirection.MINIMIZE], "everything")
    trial = behind.create_new_trial(study_id)
    monkeypatch.setattr(RDBStorage, "set_trial_user_attr", fails)
    behind.set_trial_user_attr(trial, "reason", "")
    with pytest.raises(OSError, match=r"could not be written: .*closed the connection"):
        behind.flush()
    with pytest.raises(OSError, match="closed the connection"):
        behind.create_new_trial(study_id)
    with pytest.raises(OSError, match="closed the connection"):
        behind.close()


def test_a_trial_that_the_database_refuses_is_told_of_at_once(database, monkeypatch):
    def fails(*_) -> None:
        raise OperationalError("INSERT", {}, Exception("the server closed the connection"))

    with closing(WriteBehindDatabase(database, "everything")) as behind:
        study_id = behind.create_new_study([optuna.study.StudyDirection.MINIMIZE], "everything")
        with monkeypatch.context() as patch:
            patch.setattr(RDBStorage, "_get_prepared_new_trial", fails)
            with pytest.raises(OSError, match="closed the connection"):
                behind.create_new_trial(study_id)
        assert behind.get_all_trials(study_id) == []
        assert behind.create_new_trial(study_id) == 0


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nonsense", "got 'nonsense' .*parse"),
        ("", "got '' .*parse"),
        ("sqlite:////nowhere/at/all/study.db", "nowhere.*unable to open database file"),
        ("martian://host/db", "martian"),
        ("postgresql+martian://host/db", "postgresql.martian"),
        ("postgresql+psycopg://someone:hunter2@127.0.0.1:1/db", "127.0.0.1|given URL"),
        (
            "postgresql+psycopg://127.0.0.1:1/db?user=someone&password=hunter2",
            "127.0.0.1|given URL",
        ),
        ("postgresql+psycopg://127.0.0.1:1/db?sslpassword=hunter2", "127.0.0.1|given URL"),
        ("martian://someone:hunter2@host/db", "martian"),
        ("postgresql://someone:hunter2@host:port/db", "given URL"),
        ("postgresql://someone:hunter2@2:x@host/db", "given URL"),
    ],
)
def test_a_url_that_cannot_be_opened_is_one_line_without_the_password(url, why):
    with pytest.raises(InvalidInput, match=why) as caught:
        open_database(url)
    message = str(caught.value)
    assert message.startswith("storage must be the URL of a database that answers, got ")
    assert "use e.g. sqlite:///study.db" in message
    assert "\n" not in message
    assert "hunter2" not in message


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    with pytest.raises(InvalidInput, match="file is not a database") as caught:
        open_database(f"sqlite:///{tmp_path}/notes.txt")
    assert "\n" not in str(caught.value)
