"""Configurations put into a study: for when it is resumed, or for the driver of a database's."""

from __future__ import annotations

import optuna
import pytest

from tests.study.example_studies import make_study
from tests.waiting import until
from tuner.errors import InvalidInput
from tuner.storage import lease
from tuner.storage.database import close_database
from tuner.study.enqueue import QueuedTrial, enqueue
from tuner.study.folder import StudyFolder, open_for_reading, open_for_writing
from tuner.study.load import load_study

optuna.logging.set_verbosity(optuna.logging.ERROR)
ONE = {"lr": 0.5, "optimizer": "sgd"}
BEYOND = {"lr": 3.0, "optimizer": "adam"}


@pytest.fixture(params=["journal", "database"])
def home(request, tmp_path) -> StudyFolder:
    url = f"sqlite:///{tmp_path}/study.db" if request.param == "database" else None
    return make_study(tmp_path / "studies", url=url)


def test_they_wait_with_their_advice_and_all_their_parameters(home):
    done = enqueue(home, [QueuedTrial("raise lr", ONE), QueuedTrial("widen lr", BEYOND)])
    assert done.numbers == (4, 5)
    assert done.trials == 6
    trials = load_study("example", folder=home.path.parent).trials
    assert [(t.number, t.state, t.params, t.advice) for t in trials[4:]] == [
        (4, "running", ONE, "raise lr"),
        (5, "running", BEYOND, "widen lr"),
    ]
    assert [trial.advice for trial in trials[:4]] == [""] * 4


def test_optuna_runs_them_as_they_are(home):
    enqueue(home, [QueuedTrial("raise lr", ONE)])
    storage = open_for_reading(home)
    try:
        study = optuna.load_study(study_name="example", storage=storage)
        study.ask()  # the interrupted one
        trial = study.ask()
        assert trial.number == 4
        assert trial.suggest_float("lr", 0.1, 1.0) == 0.5
        assert trial.suggest_categorical("optimizer", ["sgd", "adam"]) == "sgd"
    finally:
        close_database(storage)


def test_what_is_there_already_is_not_put_in_again(home):
    known = load_study("example", folder=home.path.parent).trials[0].params
    assert enqueue(
        home, [QueuedTrial("again", known), QueuedTrial("one", ONE), QueuedTrial("twice", ONE)]
    ).numbers == (4,)
    assert enqueue(home, [QueuedTrial("one", ONE)]).numbers == ()


def test_a_config_makes_another_trial_of_the_same_parameters(home):
    slow, fast = {"layer_rates": {"first": 0.5}}, {"layer_rates": {"first": 2.0}}
    wanted = [
        QueuedTrial("none", ONE),
        *(QueuedTrial("rates", ONE, config) for config in (slow, fast, slow)),
    ]
    assert enqueue(home, wanted).numbers == (4, 5, 6)
    assert enqueue(home, [QueuedTrial("rates", ONE, slow)]).numbers == ()
    trials = load_study("example", folder=home.path.parent).trials
    assert [trial.config for trial in trials[4:]] == [{}, slow, fast]
    assert [trial.params for trial in trials[4:]] == [ONE, ONE, ONE]
    assert trials[5].setting == {**ONE, **slow}


def test_a_study_that_runs_in_its_folder_is_left_alone(tmp_path):
    home = make_study(tmp_path / "studies")
    with home.locked(), pytest.raises(InvalidInput, match="'example' is being run by another"):
        enqueue(home, [QueuedTrial("one", ONE)])
    assert len(load_study("example", folder=home.path.parent).trials) == 4


def test_the_driver_of_a_study_in_a_database_picks_them_up(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.1)
    home = make_study(tmp_path / "studies", url=f"sqlite:///{tmp_path}/study.db")
    with home.locked(), open_for_writing(home, None, drives=True) as driven:
        created = driven.create_new_trial(0)
        done = enqueue(home, [QueuedTrial("raise lr", ONE)])
        assert (driven.get_trial(created).number, done.numbers, done.trials) == (4, (5,), 6)
        enqueued: list[int] = []
        until(lambda: enqueued.extend(driven.refresh().enqueued) or enqueued, "the trial")
        assert [driven.get_trial(trial).number for trial in enqueued] == [5]
        assert driven.set_trial_state_values(enqueued[0], optuna.trial.TrialState.RUNNING)
    trial = load_study("example", folder=home.path.parent).trials[5]
    assert (trial.params, trial.advice) == (ONE, "raise lr")


def test_a_study_that_never_began_is_refused(tmp_path):
    home = StudyFolder(tmp_path / "empty")
    home.path.mkdir()
    home.journal.touch()
    with pytest.raises(InvalidInput, match="must have started before"):
        enqueue(home, [QueuedTrial("one", ONE)])
