"""A study that takes some seconds, to be interrupted: python long_study.py FOLDER LOG."""

from __future__ import annotations

import sys
from pathlib import Path

from curve_trials import Curve
from optuna.distributions import FloatDistribution

import tuner
from tuner.engine.callbacks import RunCallback

TRIALS, EPOCHS = 18, 8


def long_study(folder: Path, log: Path) -> tuner.TuningJob:
    """Return the job; every epoch of every trial appends a line to `log`."""
    return tuner.TuningJob(
        name="long",
        trainable=Curve,
        search_space={
            "height": FloatDistribution(0.3, 1.0),
            "speed": FloatDistribution(0.1, 1.0, log=True),
            "turn": FloatDistribution(0.05, 1.3),
            "log": str(log),
            "saves": True,
            "pause_s": 0.05,
        },
        num_trials=TRIALS,
        max_epochs=EPOCHS,
        sampler="random",
        seed=3,
        max_concurrent=1,
        folder=folder,
    )


if __name__ == "__main__":
    result = tuner.run(long_study(Path(sys.argv[1]), Path(sys.argv[2])), observer=RunCallback())
    print("finished" if result.finished else "not finished")
