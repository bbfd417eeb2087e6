"""Where studies are kept: found by name, held by one process, and staying where they are."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest

from tests.study.example_studies import make_study
from tuner.errors import InvalidInput
from tuner.study.folder import StudyFolder, open_for_writing

HOLDER = """
import sys
from pathlib import Path
from tuner.study.folder import StudyFolder
with StudyFolder(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_holds_a_study_and_its_death_frees_it(tmp_path):
    home = StudyFolder(tmp_path / "held")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(InvalidInput, match="'held' is being run by another; wait"):
            home.locked().__enter__()
        holder.kill()
        holder.wait()
        with home.locked():
            assert home.path.is_dir()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"must be writable, .*choose another with --folder"):
        StudyFolder(tmp_path / "file" / "study").locked().__enter__()


def test_the_url_of_the_database_is_for_its_owner_only(tmp_path):
    home = make_study(tmp_path / "studies", url=f"sqlite:///{tmp_path}/study.db")
    assert stat.S_IMODE(home.storage_url.stat().st_mode) == 0o600
    assert not home.journal.exists()


def test_a_study_stays_in_the_storage_it_was_made_in(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    in_folder = make_study(tmp_path, name="embedded")
    in_database = make_study(tmp_path, name="stored", url=url)
    for home, other, where in (
        (in_folder, url, "is in its folder"),
        (in_database, f"{url}2", "is in another database"),
    ):
        with pytest.raises(InvalidInput, match=f"'{home.name}' {where}; leave --storage out"):
            open_for_writing(home, other).__enter__()
    for home, same in ((in_folder, None), (in_database, None), (in_database, url)):
        with open_for_writing(home, same) as storage:
            (study,) = storage.get_all_studies()
            assert len(storage.get_all_trials(study._study_id)) == 4
