"""What a trial does now: it runs, is paused, was interrupted or waits."""

from __future__ import annotations

import optuna
import pytest

from tests.study.example_studies import make_study, report
from tuner import load_study
from tuner.storage.lease import PAUSED
from tuner.study.folder import StudyFolder, open_for_writing


@pytest.fixture(params=["journal", "database"])
def home(request, tmp_path) -> StudyFolder:
    url = f"sqlite:///{tmp_path}/study.db" if request.param == "database" else None
    return make_study(tmp_path / "studies", url=url)


def begin(home: StudyFolder) -> None:
    """Leave a study with a running, a paused and an enqueued trial, as a driver that dies does."""
    with home.locked(), open_for_writing(home, None) as storage:
        study = optuna.load_study(study_name=home.name, storage=storage)
        study.ask()  # the one that the example leaves
        running, paused = study.ask(), study.ask()
        for trial in (running, paused):
            trial.suggest_float("lr", 0.1, 1.0)
            report(trial, 1, 0.3)
        storage.set_trial_system_attr(paused._trial_id, PAUSED, True)
        study.enqueue_trial({"lr": 0.5})


def seen(home: StudyFolder) -> list[str]:
    result = load_study(home.name, folder=home.path.parent)
    assert {trial.state for trial in result.trials[3:]} == {"running"}
    return [trial.status for trial in result.trials]


def test_without_a_driver_a_trial_is_interrupted_or_paused_or_waits(home):
    begin(home)
    assert seen(home) == [
        *("complete", "pruned", "failed"),
        *("interrupted", "interrupted", "paused", "waiting"),
    ]


def test_a_trial_runs_while_the_study_has_a_driver(tmp_path):
    home = make_study(tmp_path / "studies")
    begin(home)
    with home.locked():
        assert seen(home)[3:] == ["running", "running", "paused", "waiting"]
    assert seen(home)[3:] == ["interrupted", "interrupted", "paused", "waiting"]


def test_a_lock_is_seen_without_taking_it(tmp_path):
    home = StudyFolder(tmp_path / "study")
    assert not home.is_locked()
    with home.locked():
        assert home.is_locked()
    assert not home.is_locked()
    with home.locked():
        pass
