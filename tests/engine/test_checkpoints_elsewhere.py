"""Checkpoints in another folder than the study's: found again, kept there, and the study's own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from curve_trials import Curve, Interrupting, logged, space
from ray import cloudpickle

from tuner import InvalidInput, load_study, resume, run
from tuner.engine.callbacks import RunCallback
from tuner.report import to_json

pytestmark = pytest.mark.usefixtures("two_cpus")
# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class NoData(Curve):
    def report(self):
        raise InvalidInput("the data must be there, got nothing; use --data DIR")


@pytest.fixture
def job(make_job, tmp_path):
    """A job whose trials write a checkpoint every epoch, elsewhere."""
    log = str(tmp_path / "log")
    return make_job(
        search_space=lambda trial: {**space(trial), "saves": True, "log": log},
        checkpoints=str(tmp_path / "elsewhere"),
        max_concurrent=1,
    )


def test_an_interrupted_study_goes_on_from_there(job, tmp_path, monkeypatch):
    part = run(job, observer=Interrupting(1, 4))
    assert part.trials[1].state == "running"
    assert Path(part.trials[1].checkpoint).is_relative_to(tmp_path / "elsewhere/study/trials")
    before = len(logged(tmp_path / "log"))
    monkeypatch.chdir("/")  # wherever it is resumed from
    result = resume("study", folder=job.folder, observer=RunCallback())
    assert result.finished
    assert result.checkpoints == str(tmp_path / "elsewhere" / "study" / "trials")
    trial, epoch = logged(tmp_path / "log")[before]
    assert trial == 1
    assert epoch in (4, 5)
    assert not (job.folder / "study" / "trials").exists()


def test_the_report_says_where_and_finds_it_from_a_database(job, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    result = run(job.with_changes(storage=url), observer=RunCallback())
    shutil.rmtree(job.folder)
    elsewhere = load_study(url)
    assert elsewhere.checkpoints == str(tmp_path / "elsewhere" / "study" / "trials")
    assert f'"checkpoints": "{elsewhere.checkpoints}"' in to_json(elsewhere)
    assert elsewhere.best.checkpoint == result.best.checkpoint
    assert Path(elsewhere.best.checkpoint, "epoch").read_text() == "9"


def test_a_study_keeps_its_place(job, make_job, tmp_path):
    run(job, observer=RunCallback())
    with pytest.raises(InvalidInput, match="keeps the folder of its checkpoints, 'study' was"):
        run(job.with_changes(checkpoints=str(tmp_path / "third"), num_trials=4))
    # Without the option it goes on where it was.
    result = run(job.with_changes(checkpoints=None, num_trials=4), observer=RunCallback())
    assert all(str(tmp_path / "elsewhere") in trial.checkpoint for trial in result.trials)
    own = run(make_job(name="own"), observer=RunCallback())
    assert own.checkpoints is None
    with pytest.raises(InvalidInput, match="keeps the folder of its checkpoints, 'own' was given"):
        run(make_job(name="own", checkpoints=job.checkpoints, num_trials=4))


def test_two_studies_of_a_name_do_not_share_a_place(job, tmp_path):
    run(job, observer=RunCallback())
    other = job.with_changes(folder=tmp_path / "other")
    kept = sorted((tmp_path / "elsewhere").rglob("*"))
    with pytest.raises(InvalidInput, match=r"the study's own folder, .* is not empty"):
        run(other, observer=RunCallback())
    assert sorted((tmp_path / "elsewhere").rglob("*")) == kept
    assert not (tmp_path / "other").exists()


def test_a_refused_job_leaves_nothing_there(job, tmp_path):
    with pytest.raises(InvalidInput, match="the data must be there"):
        run(job.with_changes(trainable=NoData), observer=RunCallback())
    assert [path.name for path in tmp_path.iterdir() if path.name != "log"] == ["elsewhere"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
