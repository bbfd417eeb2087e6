"""What the tests of the engine share: jobs in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from curve_trials import Curve, space

from tuner import TuningJob


@pytest.fixture
def make_job(tmp_path) -> Callable[..., TuningJob]:
    """Return a function that makes a job of trials without a model, fields replaced as given."""

    def make(**fields) -> TuningJob:
        defaults = {
            "name": "study",
            "trainable": Curve,
            "search_space": space,
            "num_trials": 3,
            "max_epochs": 9,
            "pruner": "none",
            "sampler": "random",
            "folder": tmp_path / "studies",
        }
        return TuningJob(**{**defaults, **fields})

    return make
