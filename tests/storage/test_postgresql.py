"""The same study in a real PostgreSQL server, which the tests bring along and start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import optuna
import pytest
from optuna.storages import RDBStorage

from tests.postgresql import new_database, running_server
from tests.study.example_studies import change_everything, content, make_study
from tuner.errors import InvalidInput
from tuner.storage.database import open_database
from tuner.storage.write_behind import WriteBehindDatabase
from tuner.study.load import load_study


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server() as url:
        yield url


@pytest.fixture
def url(server, request) -> str:
    """The URL of an empty database of the test's own."""
    return new_database(server, request.node.name)


@contextmanager
def opened(url: str) -> Iterator[RDBStorage]:
    database = open_database(url)
    try:
        yield database
    finally:
        database.remove_session()
        database.engine.dispose()


def test_every_kind_of_change_arrives_as_if_written_directly(url):
    with opened(url) as database:
        with closing(WriteBehindDatabase(database, "everything")) as behind:
            change_everything(behind)
            here = content(behind)
        before = content(database)
        database.delete_study(database.get_all_studies()[0]._study_id)
        change_everything(database)
        assert before == here == content(database)


def test_a_reopened_study_goes_on_numbering(url):
    with opened(url) as database, closing(WriteBehindDatabase(database, "everything")) as behind:
        change_everything(behind)
        here = content(behind)
    with opened(url) as database, closing(WriteBehindDatabase(database, "everything")) as behind:
        assert content(behind) == here
        study = optuna.load_study(study_name="everything", storage=behind)
        numbers = [study.ask().number for _ in range(3)]
    assert numbers == [3, 6, 7]
    with opened(url) as database:
        assert len(content(database)["trials"]) == 8


def test_a_study_is_loaded_by_name_and_by_url(url, tmp_path):
    make_study(tmp_path, "kept", url)
    by_name = load_study("kept", folder=tmp_path)
    by_url = load_study(f"{url}#kept")
    assert [trial.state for trial in by_name.trials] == ["complete", "pruned", "failed", "running"]
    assert by_url.ranking().equals(by_name.ranking())
    assert by_url.curves().equals(by_name.curves())


def test_a_database_that_is_not_there_is_one_line(server):
    with pytest.raises(InvalidInput, match='database "absent" does not exist') as caught:
        open_database(server.replace("/postgres?", "/absent?"))
    assert "\n" not in str(caught.value)
