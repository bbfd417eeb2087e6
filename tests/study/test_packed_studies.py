"""A study packed as text, sent through a log, and read elsewhere."""

from __future__ import annotations

import optuna
import pytest

from tuner.errors import InvalidInput
from tuner.storage.journal import read_journal
from tuner.study.folder import StudyFolder
from tuner.study.load import load_study, pack, unpack


def fill(study: optuna.Study) -> None:
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.set_user_attr("reason", "because")
        trial.report(x, 1)
        if trial.number == 1:
            raise optuna.TrialPruned
        return x

    study.set_user_attr("metric", "loss")
    study.optimize(objective, n_trials=3)


@pytest.fixture(params=["journal", "database"])
def home(request, tmp_path) -> StudyFolder:
    """A study of three trials, in its folder or in a database."""
    found = StudyFolder(tmp_path / "there" / "mine")
    found.path.mkdir(parents=True)
    if request.param == "journal":
        storage = read_journal(found.journal)
    else:
        url = f"sqlite:///{tmp_path}/there.db"
        found.storage_url.write_text(url)
        storage = optuna.storages.RDBStorage(url)
    fill(optuna.create_study(study_name="mine", storage=storage))
    if request.param == "database":
        storage.remove_session()
        storage.engine.dispose()
    return found


def test_it_arrives_as_it_was(home, tmp_path):
    log = f"Running entrypoint for job x\n{pack(home)}\nand what Ray adds\n"
    unpack(log, "mine", tmp_path / "here")
    sent = load_study("mine", folder=home.path.parent)
    came = load_study("mine", folder=tmp_path / "here")
    assert [trial.state for trial in came.trials] == ["complete", "pruned", "complete"]
    assert came.ranking().equals(sent.ranking())
    assert came.metric == "loss"
    assert came.checkpoints == str(home.trials)


def test_half_of_one_is_refused(home, tmp_path):
    text = pack(home)
    for part in ("", text[: len(text) // 2]):
        with pytest.raises(InvalidInput, match="study 'mine' must arrive whole"):
            unpack(part, "mine", tmp_path / "here")
    assert not (tmp_path / "here").exists()
