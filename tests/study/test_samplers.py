"""A named sampler suggests by the study and the trial's number, however often it is restarted."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage

from tuner.errors import InvalidInput
from tuner.study.journal import WriteBehindJournal
from tuner.study.samplers import SAMPLERS, sampler_for_trial


def objective(trial: optuna.Trial) -> float:
    """A conditional space, so that every way a sampler has of drawing is used."""
    kind = trial.suggest_categorical("kind", ["sgd", "adam"])
    rate = trial.suggest_float(f"{kind}_lr", 1e-3, 1.0, log=True)
    layers = trial.suggest_int("layers", 1, 100)
    return rate * layers


def tell_next(study: optuna.Study, sampler: str | optuna.samplers.BaseSampler, seed: int) -> None:
    """Run one trial as the tuning run does: with a sampler of its own."""
    study.sampler = sampler_for_trial(sampler, seed, len(study.trials))
    trial = study.ask()
    study.tell(trial, objective(trial))


def suggested(sampler: str, seed: int = 0, trials: int = 16) -> list[dict]:
    study = optuna.create_study()
    for _ in range(trials):
        tell_next(study, sampler, seed)
    return [trial.params for trial in study.trials]


def test_every_sampler_is_tested():
    assert set(SAMPLERS) == {"gp", "nsgaii", "qmc", "random", "tpe"}


@pytest.fixture(params=SAMPLERS)
def sampler(request) -> str:
    return request.param


def test_the_same_seed_suggests_the_same_and_another_seed_does_not(sampler):
    trials = 12 if sampler == "gp" else 16
    expected = suggested(sampler, seed=1, trials=trials)
    assert suggested(sampler, seed=1, trials=trials) == expected
    assert suggested(sampler, seed=2, trials=trials) != expected


def test_no_two_trials_are_alike(sampler):
    params = suggested(sampler, trials=12)
    rates = [value for trial in params for name, value in trial.items() if name.endswith("_lr")]
    assert len(set(rates)) == len(rates) == 12


def test_an_interrupted_study_suggests_the_same_rest(sampler, tmp_path: Path):
    expected = suggested(sampler, seed=3, trials=12)
    for upto in (5, 6, 12):
        with closing(WriteBehindJournal(tmp_path / "study.log")) as journal:
            study = optuna.create_study(
                storage=JournalStorage(journal), study_name="broken", load_if_exists=True
            )
            while len(study.trials) < upto:
                tell_next(study, sampler, seed=3)
            params = [trial.params for trial in study.trials]
    assert params == expected


def test_a_sampler_given_as_an_object_is_used_as_it_is():
    mine = optuna.samplers.RandomSampler(seed=5)
    assert sampler_for_trial(mine, 0, 0) is mine
    assert sampler_for_trial(mine, 1, 7) is mine


def test_an_unknown_name_lists_the_nearest_first():
    with pytest.raises(InvalidInput, match="unknown sampler 'nsga2'; known: nsgaii, "):
        sampler_for_trial("nsga2", 0, 0)
