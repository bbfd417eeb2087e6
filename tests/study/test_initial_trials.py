"""The first trials of a study: a ladder of rotations where the space sets the rotation."""

from __future__ import annotations

import optuna
import pytest
from optuna.study import StudyDirection

from search_spaces import SPACES
from tuner.study.initial_trials import InitialTrials, find_rotation_parameter, first_trials
from tuner.study.schema import START

MAXIMIZE, MINIMIZE = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE


def nested(trial):
    return {
        "optimizer": trial.suggest_categorical("optimizer", ["adamw", "layca-adam"]),
        "lr": trial.suggest_float("lr", 1e-4, 1e-2, log=True),
        "depth": trial.suggest_int("depth", 2, 9),
        "momentum": trial.suggest_categorical("momentum", [0.5, 0.9]),
    }


@pytest.mark.parametrize(
    ("space", "name", "ladder"),
    [
        (SPACES["rotation-budget"], "final_distance", (0.95, 0.6, 0.3)),
        (SPACES["mixed"], "layca_final_distance", (0.95, 0.6, 0.3)),
        (SPACES["layca"], "lr", (3**-2, 3**-3, 3**-4)),
        # Those of the paper with Adam, as far as they are within the range.
        (nested, "lr", (1e-2, 3**-5, 3**-6)),
    ],
    ids=["distances", "among others", "rates", "rates with Adam"],
)
def test_the_ladder_is_of_distances_or_else_of_the_papers_rates(space, name, ladder):
    axis = find_rotation_parameter(space)
    assert axis.name == name
    assert axis.ladder == ladder


@pytest.mark.parametrize("space", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_space_that_does_not_set_the_rotation_has_none(space):
    assert find_rotation_parameter(SPACES[space]) is None
    assert first_trials(SPACES[space], "rotation", "tpe", MAXIMIZE) is None


def test_what_else_the_space_has_is_as_the_ladder_was_chosen_with():
    others = find_rotation_parameter(SPACES["mixed"]).others
    assert others == {
        "optimizer": "layca",
        "schedule": "cosine",
        "batch_size": 128,
        "warmup_epochs": 0.0,
    }
    assert find_rotation_parameter(nested).others["momentum"] == 0.9
    assert find_rotation_parameter(SPACES["rotation-budget"]).others["optimizer"] == "layca"


@pytest.mark.parametrize(
    ("space", "gate"),
    [
        (SPACES["mixed"], ("optimizer", ("sgd", "adam", "adamw", "rmsprop"))),
        (nested, ("optimizer", ("adamw",))),
        (SPACES["layca"], None),
        (SPACES["rotation-budget"], None),
    ],
    ids=["among others", "with a parameter in common", "nothing else", "several of its kind"],
)
def test_the_choice_that_brings_layca_in_is_known(space, gate):
    found = find_rotation_parameter(space).optimizer_choice
    assert gate == (found and (found.name, found.others))


@pytest.mark.parametrize(
    ("start", "sampler", "begins"),
    [
        (None, "tpe", True),
        (None, "gp", True),
        ("rotation", "random", True),
        (None, "random", False),
        (None, "qmc", False),
        (None, optuna.samplers.TPESampler(), False),
        ("random", "tpe", False),
    ],
)
def test_a_sampler_that_covers_the_space_by_itself_is_left_to_it(start, sampler, begins):
    assert bool(first_trials(SPACES["mixed"], start, sampler, MAXIMIZE)) == begins


class Study:
    """A study in memory that is started from rotation, on a made-up metric of the distance."""

    def __init__(self, metric, direction=MAXIMIZE, space=SPACES["rotation-budget"]):
        self.metric = metric
        self.space = space
        self.study = optuna.create_study(direction=direction)
        self.start = InitialTrials(find_rotation_parameter(space), direction)

    def next(self):
        return self.start.next(self.study.get_trials())

    def sampled(self, value, times=1):
        """Trials that the sampler suggested, by their value."""
        for _ in range(times):
            assert self.next() is None
            self.study.tell(self.study.ask(), value)

    def begin(self):
        first = self.next()
        self.study.enqueue_trial(first.params, user_attrs={START: first.why})
        trial = self.study.ask()
        self.space(trial)
        return trial

    def elsewhere(self, value):
        """A trial of which the start has set nothing but the optimizer; returns that."""
        preset = self.next()
        assert not preset.why
        self.study.enqueue_trial(preset.params)
        trial = self.study.ask()
        self.space(trial)
        self.study.tell(trial, value)
        return trial.params["optimizer"]

    def run(self):
        trial = self.begin()
        distance = trial.params[self.start.parameter.name]
        self.study.tell(trial, self.metric(distance))
        return distance


def test_steps_between_the_best_rungs_come_among_the_samplers_trials():
    study = Study(lambda distance: -abs(distance - 0.7))
    assert [study.run() for _ in range(3)] == [0.95, 0.6, 0.3]
    study.sampled(-0.5, times=3)
    fourth = study.run()
    study.sampled(-0.5, times=3)
    fifth = study.run()
    assert 0.6 < fourth < 0.95
    assert 0.6 < fifth < fourth
    study.sampled(-0.5, times=9)


def test_once_the_sampler_leads_nothing_is_spent_on_the_ladder():
    study = Study(lambda distance: -abs(distance - 0.7))
    for _ in range(3):
        study.run()
    study.sampled(-0.5, times=2)
    study.sampled(0.0, times=4)


@pytest.mark.parametrize(
    ("metric", "direction", "beyond"),
    [
        (lambda distance: distance, MAXIMIZE, 0.98),
        (lambda distance: distance, MINIMIZE, 0.2),
    ],
    ids=["further is better", "less is better"],
)
def test_where_an_end_is_best_the_next_lies_beyond_it(metric, direction, beyond):
    study = Study(metric, direction)
    for _ in range(3):
        study.run()
    study.sampled(0.5, times=3)
    assert study.run() == pytest.approx(beyond, abs=0.01)


def test_refinements_wait_for_the_ladder_to_end_and_the_sampler_does_not():
    study = Study(lambda distance: distance)
    study.run()
    study.run()
    last = study.begin()
    study.sampled(0.2, times=3)
    study.study.tell(last, 0.1)
    assert study.next().why.startswith("refined: a final distance of ")


def test_failed_rungs_leave_no_steps_to_take():
    study = Study(lambda distance: distance)
    for _ in range(3):
        study.study.tell(study.begin(), state=optuna.trial.TrialState.FAIL)
    study.sampled(0.5, times=4)


def test_until_the_ladder_leads_the_samplers_random_draws_leave_layca_out():
    study = Study(lambda distance: distance, space=SPACES["mixed"])
    first = [study.begin() for _ in range(3)]
    drawn = [study.elsewhere(0.5)]
    for trial in first:
        study.study.tell(trial, 0.1)
    drawn += [study.elsewhere(0.5) for _ in range(6)]
    assert drawn == ["sgd", "adam", "adamw", "rmsprop", "sgd", "adam", "adamw"]
    assert study.next() is None  # ten have ended: the sampler knows something now


def test_where_the_ladder_leads_the_sampler_draws_from_all():
    study = Study(lambda distance: distance, space=SPACES["mixed"])
    for _ in range(3):
        study.run()
    assert study.elsewhere(0.2) == "sgd"
    study.sampled(0.2, times=2)
    assert study.next().why.startswith("refined")
