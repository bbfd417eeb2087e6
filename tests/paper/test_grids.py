"""A grid is a job of every combination, each run to its end."""

from __future__ import annotations

from itertools import product

import optuna
import pytest

from trainables import PAPER_TASKS, C10Cnn1, C10Cnn1Small
from trainables.training.config import read_settings
from tuner.paper.grids import Grid
from tuner.paper.reproduce import FINDINGS
from tuner.study.search_space import as_function, suggest

GRID = Grid("c10-cnn1", "some", {"lr": (0.1, 0.01)}, {"optimizer": "sgd"})


def suggested(grid: Grid) -> list[dict]:
    """Return the configs of a whole study of the grid, in the order of its suggestions."""
    job = grid.job("small")
    study = optuna.create_study(sampler=job.sampler)
    space = as_function(job.search_space)
    configs = []
    for _ in range(job.num_trials):
        trial = study.ask()
        configs.append(suggest(space, trial))
        study.add_trial(
            optuna.trial.create_trial(
                value=0.0,
                params=trial.params,
                distributions=trial.distributions,
                system_attrs=study._storage.get_trial_system_attrs(trial._trial_id),
            )
        )
    return configs


def test_every_combination_is_suggested_once():
    configs = suggested(GRID.with_seeds(2))
    found = sorted((config["lr"], config["seed"]) for config in configs)
    assert found == sorted(product((0.01, 0.1), (0, 1)))
    assert {config["optimizer"] for config in configs} == {"sgd"}


@pytest.mark.parametrize(("scale", "trainable"), [("small", C10Cnn1Small), ("full", C10Cnn1)])
def test_the_job_is_of_the_scale_and_trains_for_the_tasks_own_epochs(scale, trainable):
    job = GRID.with_seeds(3).job(scale, gpus_per_trial=0.5)
    assert job.name == f"paper-c10-cnn1-some-{scale}"
    assert job.trainable is trainable
    assert job.max_epochs == trainable.epochs
    assert (job.num_trials, job.pruner, job.gpus_per_trial) == (6, "none", 0.5)


@pytest.mark.parametrize("scale", ["small", "full"])
@pytest.mark.parametrize("finding", FINDINGS.values(), ids=FINDINGS)
def test_every_config_of_every_finding_is_valid(finding, scale):
    grids = finding.grids(scale)
    assert grids
    for grid in grids:
        assert grid.task in PAPER_TASKS
        for values in product(*grid.axes.values()):
            config = {**grid.constants, **dict(zip(grid.axes, values, strict=True))}
            read_settings({"max_epochs": 100, **config})


@pytest.mark.parametrize("scale", ["small", "full"])
def test_grids_of_one_name_are_the_same_runs(scale):
    by_name: dict[str, Grid] = {}
    for finding in FINDINGS.values():
        for grid in finding.grids(scale):
            assert by_name.setdefault(grid.name(scale), grid) == grid
