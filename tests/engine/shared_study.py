"""One driver of a study that several share.

python shared_study.py URL FOLDER GO LOG [CHECKPOINTS]
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import ray
from curve_trials import Curve
from optuna.distributions import FloatDistribution
from ray import cloudpickle

import tuner
from tuner.engine.callbacks import RunCallback
from tuner.storage import lease as driver

TRIALS, EPOCHS = 12, 8


# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Held(Curve):
    """A driver that has begun has two trials, and gets no further until the file `go` is there."""

    def step(self):
        until = time.monotonic() + 120
        while self.number >= 2 and not Path(self.config["go"]).exists():
            assert time.monotonic() < until, "nobody lets it go on"
            time.sleep(0.01)
        return super().step()


def shared_study(
    url: str, folder: Path, go: Path, log: Path, checkpoints: Path | None = None
) -> tuner.TuningJob:
    """Return the job; every epoch of every trial appends a line to `log`."""
    return tuner.TuningJob(
        name="shared",
        trainable=Held,
        search_space={
            "height": FloatDistribution(0.3, 1.0),
            "speed": FloatDistribution(0.1, 1.0, log=True),
            "turn": FloatDistribution(0.05, 1.3),
            "log": str(log),
            "go": str(go),
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
        checkpoints=checkpoints,
    )


if __name__ == "__main__":
    driver.BEAT_S, driver.DEAD_AFTER_S = 0.5, 6.0
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    url, *paths = sys.argv[1:]
    result = tuner.run(shared_study(url, *map(Path, paths)), observer=RunCallback())
    print("finished" if result.finished else "not finished")
