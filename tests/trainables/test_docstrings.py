"""The examples in the docstrings run as they are written."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = (
    "trainables",
    "trainables.base",
    "trainables.distributed.data_parallel",
    "trainables.layca.layer_rates",
    "trainables.layca.optimizer",
    "trainables.layca.rotate",
    "trainables.models.mlp_cnn",
    "trainables.training.config",
    "trainables.training.data",
    "trainables.training.optimizers",
    "trainables.training.schedules",
    "search_spaces",
    "search_spaces.equilibrium",
    "tuner.job",
    "tuner.jobfile",
)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_run(module):
    results = doctest.testmod(import_module(module))
    assert results.attempted
    assert not results.failed
