"""A driver of a study in a database: python driven_study.py URL FOLDER LOG."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import ray
from curve_trials import Curve
from optuna.distributions import FloatDistribution

import tuner
from tuner.engine.callbacks import RunCallback
from tuner.storage import lease

TRIALS, EPOCHS = 6, 8
RENEW_S, EXPIRES_S = 0.5, 5.0


def driven_study(url: str, folder: Path, log: Path) -> tuner.TuningJob:
    """Return the job; every epoch of every trial appends a line to `log`."""
    return tuner.TuningJob(
        name="driven",
        trainable=Curve,
        search_space={
            "height": FloatDistribution(0.3, 1.0),
            "speed": FloatDistribution(0.1, 1.0, log=True),
            "turn": FloatDistribution(0.05, 1.3),
            "log": str(log),
            "saves": True,
            "pause_s": 0.1,
        },
        num_trials=TRIALS,
        max_epochs=EPOCHS,
        sampler="random",
        seed=3,
        max_concurrent=1,
        storage=url,
        folder=folder,
    )


if __name__ == "__main__":
    lease.RENEW_S, lease.EXPIRES_S = RENEW_S, EXPIRES_S
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    url, folder, log = sys.argv[1:]
    try:
        tuner.run(driven_study(url, Path(folder), Path(log)), observer=RunCallback())
    except tuner.InvalidInput as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(2)
