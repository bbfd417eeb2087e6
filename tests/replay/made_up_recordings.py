"""Recordings made up for the tests, and trials that learn and turn."""

from __future__ import annotations

import random
from dataclasses import replace

from made_up_trials import random_trials, recorded

from tuner.replay.recording import RecordedTrial, Recording


def recording(trials: list[RecordedTrial], mode: str = "max", partial: int = 0) -> Recording:
    return Recording(
        "made-up", "val_accuracy", mode, trials[0].curve.max_epochs, tuple(trials), partial
    )


def turning_trials(seed: int, count: int, max_epochs: int, **more) -> list[RecordedTrial]:
    """Made-up trials that learn, and turn, each at its own pace, and are tested at the end."""
    draw = random.Random(seed)
    trials = []
    for trial in random_trials(seed, count, max_epochs, levels=2**20, **more):
        pace, level = draw.random(), draw.random()
        curve = replace(
            trial.curve,
            distances=tuple((pace * share,) for share in trial.curve.lr_progress),
            train_loss=tuple(1 - level * share for share in trial.curve.lr_progress),
            metric=tuple(level + metric / 4 for metric in trial.curve.metric),
        )
        trials.append(RecordedTrial(trial.number, curve, draw.random(), trial.params))
    return trials


THREE = [
    recorded(4, [0.5, 0.6, 0.875], test_accuracy=0.8125),
    recorded(7, [0.7, 0.7, 0.625], test_accuracy=0.75),
    recorded(9, [0.1, 0.2, 0.5], test_accuracy=0.875),
]
