"""A study in a database: all that one in a file can do."""

from __future__ import annotations

import optuna
import pytest
from curve_trials import Interrupting, space
from optuna.trial import TrialState

from tuner import InvalidInput, load_study, resume, run
from tuner.engine.callbacks import RunCallback

pytestmark = pytest.mark.usefixtures("two_cpus")


def saving(trial):
    return {**space(trial), "saves": True, "pause_s": 0.02}


def known(result):
    """What must not depend on where a study is kept, or on interruptions."""
    return [(t.number, t.params, t.state, t.epochs, t.value, t.reason) for t in result.trials]


@pytest.fixture
def job(make_job, tmp_path):
    return make_job(
        storage=f"sqlite:///{tmp_path}/studies.db",
        search_space=saving,
        pruner="rotation",
        num_trials=8,
        max_concurrent=1,
    )


def test_a_database_holds_what_a_file_holds(job, make_job):
    in_file = run(job.with_changes(storage=None, name="study-in-file"), observer=RunCallback())
    in_database = run(job, observer=RunCallback())
    assert known(in_database) == known(in_file)
    assert known(load_study(job.name, folder=job.folder)) == known(in_file)
    for reference in (job.storage, f"{job.storage}#{job.name}"):
        assert known(load_study(reference)) == known(in_file)
    plain = optuna.load_study(study_name=job.name, storage=job.storage)
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    assert [trial.state for trial in plain.trials] == [states[t.state] for t in in_file.trials]
    assert {trial.state for trial in plain.trials} == set(states.values())
    for trial in plain.trials:
        assert trial.last_step == len(trial.intermediate_values)


def test_an_interrupted_study_goes_on_in_its_database(job):
    whole = run(job.with_changes(storage=None, name="whole"), observer=RunCallback())
    part = run(job, observer=Interrupting(3, 2))
    assert not part.finished
    assert part.trials[3].state == "running"
    assert known(resume(job.name, folder=job.folder, observer=RunCallback())) == known(whole)
    assert known(load_study(f"{job.storage}#{job.name}")) == known(whole)


def test_two_studies_share_a_database(job):
    short = job.with_changes(num_trials=1, max_epochs=1)
    run(short, observer=RunCallback())
    run(short.with_changes(name="second"), observer=RunCallback())
    assert load_study(f"{job.storage}#second").name == "second"
    with pytest.raises(InvalidInput, match="one of: second, study"):
        load_study(job.storage)
    # What cannot be run leaves the others alone.
    with pytest.raises(InvalidInput, match="'accuracy' was not among"):
        run(short.with_changes(name="third", metric="accuracy"), observer=RunCallback())
    studies = optuna.get_all_study_names(job.storage)
    assert sorted(studies) == ["second", "study"]
    assert len(load_study(f"{job.storage}#study").trials) == 1


def test_a_study_of_that_name_made_elsewhere_is_not_removed(job):
    """Another folder's study, or another person's, is in the same database."""
    run(job.with_changes(num_trials=1), observer=RunCallback())
    elsewhere = job.with_changes(folder=job.folder.with_name("elsewhere"), metric="accuracy")
    with pytest.raises(InvalidInput):
        run(elsewhere, observer=RunCallback())
    assert len(load_study(f"{job.storage}#{job.name}").trials) == 1


def test_a_study_stays_where_it_was_made(job):
    run(job.with_changes(storage=None, num_trials=1), observer=RunCallback())
    with pytest.raises(InvalidInput, match="stays in the storage it was made in"):
        run(job, observer=RunCallback())
