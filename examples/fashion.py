"""Fashion-MNIST on a small convolutional net: `quarterturn run examples/fashion.py`.

An epoch takes about 20 s on one CPU core. On a GPU, add for example `--gpus-per-trial 0.25`.
"""

import optuna

from trainables import FashionCnn
from tuner import RotationTarget, TuningJob


def space(trial: optuna.Trial) -> dict:
    """Suggest SGD or AdamW with a learning rate in the usual range."""
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
