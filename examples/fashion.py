"""Fashion-MNIST on a small convolutional net: `quarterturn run examples/fashion.py`.

An epoch takes about 20 s on one CPU core; on a GPU add `--gpus-per-trial 0.25` or the like.
"""

import optuna

from trainables import FashionCnn
from tuner import RotationTarget, TuningJob


def space(trial: optuna.Trial) -> dict:
    """SGD or AdamW, over the rates that people try."""
    return {
        "optimizer": trial.suggest_categorical("optimizer", ["sgd", "adamw"]),
        "lr": trial.suggest_float("lr", 1e-4, 1.0, log=True),
        "schedule": "cosine",
    }


job = TuningJob(
    name="fashion",
    trainable=FashionCnn,
    search_space=space,
    metric="val_accuracy",
    mode="max",
    num_trials=50,
    max_epochs=20,
    rotation_target=RotationTarget(distance=1.0),
)
