"""A study of real networks whose checkpoints go elsewhere: python stored_study.py FOLDER PLACE."""

from __future__ import annotations

import sys
from pathlib import Path

import tuner
from search_spaces import SPACES
from trainables import find
from tuner.engine.callbacks import RunCallback


def stored_study(folder: Path, checkpoints: str) -> tuner.TuningJob:
    """Return the job: its trials pause at rungs, and those that are behind are pruned."""
    return tuner.TuningJob(
        name="stored",
        trainable=find("digits-mlp"),
        search_space=SPACES["sgd"],
        num_trials=8,
        max_epochs=8,
        sampler="random",
        seed=3,
        max_concurrent=2,
        checkpoints=checkpoints,
        folder=folder,
    )


if __name__ == "__main__":
    tuner.run(stored_study(Path(sys.argv[1]), sys.argv[2]), observer=RunCallback())
