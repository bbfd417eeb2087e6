"""A named sampler suggests by the study and the trial's number, however often it is restarted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.trial import TrialState

from tuner.errors import InvalidInput
from tuner.storage.journal import WriteBehindJournal
from tuner.study.samplers import SAMPLERS, PrunedAsComplete, sampler_for_trial


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


# Paused trials.


def good_are_paused(near_x: float) -> tuple[optuna.Study, set[int]]:
    """Return a study of poor trials at any x, pruned, and of good ones, paused, with these."""
    study = optuna.create_study(direction="maximize")
    distribution = optuna.distributions.FloatDistribution(0, 1)
    for step in range(24):
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.PRUNED,
                params={"x": step / 24},
                distributions={"x": distribution},
                intermediate_values={1: 0.1 + 0.01 * (step % 5)},
            )
        )
    paused = set()
    for step in range(10):
        study.enqueue_trial({"x": near_x + 0.002 * step})
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.report(0.9, 1)
        paused.add(trial.number)
    return study, paused


def suggested_x(
    study: optuna.Study, sampler: Callable[[int], BaseSampler], seeds: int = 20
) -> list[float]:
    """Return what is suggested next, by each seed; each suggestion is then left out again."""
    drawn = []
    for seed in range(seeds):
        study.sampler = sampler(seed)
        trial = study.ask()
        drawn.append(trial.suggest_float("x", 0, 1))
        study.tell(trial, state=TrialState.FAIL)
    return drawn


def near(values: Sequence[float], x: float) -> float:
    """Return the share of the values within a tenth."""
    return sum(abs(value - x) < 0.1 for value in values) / len(values)


@pytest.mark.parametrize("x", [0.9, 0.7])
def test_good_trials_lead_tpe_though_they_are_paused(x):
    study, paused = good_are_paused(x)
    running = suggested_x(study, lambda seed: TPESampler(seed=seed))
    seen = suggested_x(study, lambda seed: PrunedAsComplete(TPESampler(seed=seed), paused))
    assert near(running, x) < 0.2
    assert near(seen, x) > 0.8


def test_gaussian_processes_learn_from_trials_that_were_not_run_whole():
    study = optuna.create_study(direction="maximize")
    distribution = optuna.distributions.FloatDistribution(0, 1)
    for x in (step / 12 for step in range(12)):
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.PRUNED,
                params={"x": x},
                distributions={"x": distribution},
                intermediate_values={1: 1 - (x - 0.7) ** 2},
            )
        )
    alone = suggested_x(study, lambda seed: GPSampler(seed=seed))
    told = suggested_x(study, lambda seed: sampler_for_trial("gp", 0, seed), seeds=5)
    assert near(alone, 0.7) < 0.4
    assert near(told, 0.7) > 0.8


def test_a_trial_that_diverged_is_nothing_to_learn_from():
    class Looks(RandomSampler):
        def before_trial(self, study, trial):
            shown.update({other.number: (other.state, other.values) for other in study.trials})

    shown = {}
    study = optuna.create_study()
    for last in (float("nan"), 0.5):
        trial = study.ask()
        trial.report(last, 1)
        study.tell(trial, state=TrialState.PRUNED)
    study.sampler = PrunedAsComplete(Looks(), (), reads_complete=True)
    study.ask()
    assert shown[0][0] == TrialState.PRUNED
    assert shown[1] == (TrialState.COMPLETE, [0.5])


def test_paused_trials_count_as_pruned_ones_do():
    study, paused = good_are_paused(0.9)
    pruned, _ = good_are_paused(0.9)
    for number in paused:
        pruned.tell(number, state=TrialState.PRUNED)
    assert suggested_x(
        study, lambda seed: PrunedAsComplete(TPESampler(seed=seed), paused)
    ) == suggested_x(pruned, lambda seed: TPESampler(seed=seed))


def test_only_the_paused_are_shown_otherwise():
    study, paused = good_are_paused(0.9)
    shown = {}

    class Looks(RandomSampler):
        def infer_relative_search_space(self, study, trial):
            shown.update({other.number: other.state for other in study.get_trials()})
            pruned = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            assert {other.number for other in pruned} == set(range(24)) | some
            assert {other.number for other in running} == (paused - some) | {trial.number}
            return super().infer_relative_search_space(study, trial)

    some = set(sorted(paused)[:4])
    study.sampler = PrunedAsComplete(Looks(), some)
    asked = study.ask()
    asked.suggest_float("x", 0, 1)
    expected = {trial.number: trial.state for trial in study.trials}
    assert expected[asked.number] == TrialState.RUNNING
    assert shown == expected | dict.fromkeys(some, TrialState.PRUNED)


def test_the_study_itself_stays_as_it_was_and_records_what_is_suggested():
    study, paused = good_are_paused(0.9)
    before = repr(study.trials)
    study.sampler = PrunedAsComplete(TPESampler(seed=0), paused)
    trial = study.ask()
    x = trial.suggest_float("x", 0, 1)
    assert type(study) is optuna.Study
    assert repr(study.trials[:-1]) == before
    assert trial.study is study
    assert trial.number == len(study.trials) - 1 == 34
    assert study.trials[34].params == {"x": x}
    study.tell(trial, 0.5)
    assert study.trials[34].value == 0.5
    assert {t.number for t in study.trials if t.state == TrialState.RUNNING} == paused


def test_a_trial_that_goes_on_is_seen_running_again():
    study, paused = good_are_paused(0.9)
    nobody = suggested_x(study, lambda seed: PrunedAsComplete(TPESampler(seed=seed), ()))
    assert nobody == suggested_x(study, lambda seed: TPESampler(seed=seed))
    left = set(paused)
    seen = PrunedAsComplete(TPESampler(seed=0), left)
    left.clear()
    study.sampler = seen
    assert study.ask().suggest_float("x", 0, 1) == nobody[0]


def test_every_named_sampler_suggests_beside_paused_trials(sampler):
    study = optuna.create_study()
    for _ in range(12):
        tell_next(study, sampler, seed=0)
    waiting = study.ask()
    objective(waiting)
    waiting.report(1.0, 1)
    paused = {waiting.number}
    for _ in range(3):
        number = len(study.trials)
        study.sampler = sampler_for_trial(sampler, 0, number, paused)
        trial = study.ask()
        study.tell(trial, objective(trial))
    assert len({repr(trial.params) for trial in study.trials}) == len(study.trials) == 16
