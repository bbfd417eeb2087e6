"""The embedded journal: written behind, and whole whenever the process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage

from tests.study.example_studies import change_everything, content
from tuner.storage.journal import WriteBehindJournal, read_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.log"


def write(path: Path, name: str) -> None:
    """Make a study with one complete trial in the journal."""
    with closing(WriteBehindJournal(path)) as journal:
        study = optuna.create_study(storage=JournalStorage(journal), study_name=name)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)


def studies(path: Path) -> list[str]:
    return [study.study_name for study in read_journal(path).get_all_studies()]


def test_what_is_written_is_readable_at_once_and_by_others_after_a_flush(path):
    with closing(WriteBehindJournal(path)) as journal:
        storage = JournalStorage(journal)
        change_everything(storage)
        here = content(storage)
        journal.flush()
        assert content(read_journal(path)) == here


def test_everything_arrives_as_in_optunas_own_journal(path, tmp_path):
    with closing(WriteBehindJournal(path)) as journal:
        change_everything(JournalStorage(journal))
    direct = read_journal(tmp_path / "direct.log")
    change_everything(direct)
    assert content(read_journal(path)) == content(direct)
    assert len(content(direct)["trials"]) == 7


def test_closing_writes_what_is_left(path):
    with closing(WriteBehindJournal(path)) as journal:
        journal.append_logs([{"entry": number} for number in range(1000)])
    assert len(path.read_text().splitlines()) == 1000


def test_a_reopened_journal_goes_on_where_it_was(path):
    write(path, "first")
    with closing(WriteBehindJournal(path)) as journal:
        study = optuna.load_study(study_name="first", storage=JournalStorage(journal))
        trial = study.ask()
        assert trial.number == 1
        study.tell(trial, 0.5)
    trials = read_journal(path).get_all_trials(0)
    assert [trial.number for trial in trials] == [0, 1]


def test_what_is_handed_over_no_longer_changes_with_the_callers_object(path):
    with closing(WriteBehindJournal(path)) as journal:
        entry = {"list": [1]}
        journal.append_logs([entry])
        entry["list"].append(2)
        assert journal.read_logs(0) == [{"list": [1]}]
    assert path.read_text() == '{"list":[1]}\n'


@pytest.mark.parametrize("torn", ['{"op_code":4,"work', "{", '{"op_code":4}'])
def test_a_torn_last_line_is_dropped_and_the_file_stays_readable(path, torn):
    write(path, "before")
    whole = path.read_text()
    path.write_text(whole + torn)
    write(path, "after")
    assert path.read_text().startswith(whole)
    assert torn not in path.read_text().removeprefix(whole).splitlines()
    assert studies(path) == ["before", "after"]


def test_a_file_of_nothing_but_a_torn_line_is_an_empty_journal(path):
    path.write_text('{"op_code":0,"wor')
    write(path, "first")
    assert studies(path) == ["first"]


def test_a_reader_leaves_a_torn_line_alone(path):
    write(path, "first")
    torn = path.read_text() + '{"op_code":4,"work'
    path.write_text(torn)
    assert studies(path) == ["first"]
    assert path.read_text() == torn


def test_the_lock_of_a_killed_writer_does_not_block(path):
    write(path, "first")
    # Optuna's lock is a link, which nobody removes when its maker is killed.
    Path(f"{path}.lock").symlink_to(path)
    write(path, "second")
    assert studies(path) == ["first", "second"]


class TestWhenWritingFails:
    def test_a_disk_that_fails_is_told_of_at_the_next_flush_and_ever_after(self, path, monkeypatch):
        journal = WriteBehindJournal(path)

        def fails(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fails)
        journal.append_logs([{"entry": 1}])
        with pytest.raises(OSError, match=r"could not be written: .*No space left"):
            journal.flush()
        with pytest.raises(OSError, match="No space left"):
            journal.append_logs([{"entry": 2}])
        with pytest.raises(OSError, match="No space left"):
            journal.close()

    def test_a_file_replaced_by_a_directory_is_told_of(self, path):
        journal = WriteBehindJournal(path)
        path.unlink()
        path.mkdir()
        journal.append_logs([{"entry": 1}])
        with pytest.raises(OSError, match="Is a directory") as caught:
            journal.flush()
        assert isinstance(caught.value.__cause__, IsADirectoryError)

    def test_an_entry_that_was_refused_is_not_readable_either(self, path):
        journal = WriteBehindJournal(path)
        path.unlink()
        path.mkdir()
        journal.append_logs([{"entry": 1}])
        with pytest.raises(OSError, match="Is a directory"):
            journal.flush()
        with pytest.raises(OSError, match="Is a directory"):
            journal.append_logs([{"entry": 2}])
        assert journal.read_logs(0) == [{"entry": 1}]


def test_nothing_may_be_handed_over_after_closing(path):
    journal = WriteBehindJournal(path)
    journal.close()
    with pytest.raises(OSError, match="closed"):
        journal.append_logs([{"entry": 1}])


# Writes trials as fast as it can, and says of each that was flushed.
WRITER = """
import sys
from pathlib import Path
import optuna
from optuna.storages import JournalStorage
from tuner.storage.journal import WriteBehindJournal
optuna.logging.set_verbosity(optuna.logging.WARNING)
journal = WriteBehindJournal(Path(sys.argv[1]))
study = optuna.create_study(
    storage=JournalStorage(journal), study_name="killed", load_if_exists=True
)
while True:
    trial = study.ask()
    trial.set_user_attr("padding", "x" * 20000)
    study.tell(trial, float(trial.number))
    if trial.number % 3 == 0:
        journal.flush()
        print(trial.number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_flushed(path):
    flushed: dict[int, int] = {}
    for kill in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(5 + kill):
            number = int(writer.stdout.readline())
            flushed[number] = kill
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                flushed[int(line)] = kill
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL

        WriteBehindJournal(path).close()
        trials = read_journal(path).get_all_trials(0)
        assert [trial.number for trial in trials] == list(range(len(trials)))
        assert {trial.number for trial in trials} >= flushed.keys()
        assert all(trials[number].value == number for number in flushed)
    assert len(flushed) >= 5 + 6 + 7 + 8
