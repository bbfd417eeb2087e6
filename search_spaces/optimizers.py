"""A space for each optimizer, and a space that also chooses the optimizer.

Each takes an Optuna trial and returns the config of a training run. The ranges suit the
batch-normalised image networks of `trainables`. Learning rates and weight decay have log scales,
and the lowest weight decay has practically no effect. The warmup is shorter than an epoch, so that
every config is valid for any number of epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

Config = dict[str, Any]

BATCH_SIZES = [32, 64, 128, 256]


def sgd(trial: optuna.Trial) -> Config:
    """SGD with momentum: lr 0.001 to 1, momentum 0.8 to 0.98, weight decay 1e-6 to 1e-2.

    Example:
        >>> import optuna
        >>> sorted(sgd(optuna.create_study().ask()))
        ['batch_size', 'lr', 'momentum', 'optimizer', 'schedule', 'warmup_epochs', 'weight_decay']
    """
    return {"optimizer": "sgd", **_sgd(trial, ""), **_training(trial)}


def adam(trial: optuna.Trial) -> Config:
    """Adam: lr 1e-5 to 0.03, beta1 0.8 to 0.95, beta2 0.95 to 0.999, L2 penalty 1e-7 to 1e-3.

    Example:
        >>> import optuna
        >>> config = adam(optuna.create_study().ask())
        >>> config["optimizer"], 1e-5 <= config["lr"] <= 0.03
        ('adam', True)
    """
    return {"optimizer": "adam", **_adam(trial, ""), **_training(trial)}


def adamw(trial: optuna.Trial) -> Config:
    """AdamW: lr 1e-5 to 0.03, betas as for Adam, decoupled weight decay 1e-4 to 0.3.

    Example:
        >>> import optuna
        >>> config = adamw(optuna.create_study().ask())
        >>> config["optimizer"], 1e-5 <= config["lr"] <= 0.03
        ('adamw', True)
    """
    return {"optimizer": "adamw", **_adamw(trial, ""), **_training(trial)}


def rmsprop(trial: optuna.Trial) -> Config:
    """RMSprop: lr 1e-5 to 0.01, momentum 0 to 0.9, smoothing 0.9 to 0.999, L2 1e-7 to 1e-3.

    Example:
        >>> import optuna
        >>> config = rmsprop(optuna.create_study().ask())
        >>> config["optimizer"], 0.9 <= config["beta2"] <= 0.999
        ('rmsprop', True)
    """
    return {"optimizer": "rmsprop", **_rmsprop(trial, ""), **_training(trial)}


def layca(trial: optuna.Trial) -> Config:
    """Layca on SGD: rotation rate 3**-5 to 1/3, momentum 0, 0.9 or 0.97, decaying schedules.

    The best known rates are 3**-4 to 3**-2 (arXiv:1806.01603, table 1). The space has no constant
    rate, which rotates the layers until the last step. It has no weight decay and no warmup, since
    the rotation rate replaces both.

    Example:
        >>> import optuna
        >>> sorted(layca(optuna.create_study().ask()))
        ['batch_size', 'lr', 'momentum', 'optimizer', 'schedule']
    """
    return {
        "optimizer": "layca",
        "lr": trial.suggest_float("lr", 3**-5, 3**-1, log=True),
        "momentum": trial.suggest_categorical("momentum", [0.0, 0.9, 0.97]),
        "batch_size": trial.suggest_categorical("batch_size", BATCH_SIZES),
        "schedule": trial.suggest_categorical("schedule", ["cosine", "step"]),
    }


def rotation_budget(trial: optuna.Trial) -> Config:
    """Layca over SGD or Adam, by the final distance of the hidden layers: 0.05 to 0.98.

    The trial computes the rate that reaches the distance in its number of steps, with its schedule
    and momentum. So the space fits runs of any length. All schedules decay to nearly 0,
    since the relation of rate and distance holds only for such schedules.

    Example:
        >>> import optuna
        >>> sorted(rotation_budget(optuna.create_study().ask()))
        ['batch_size', 'final_distance', 'momentum', 'optimizer', 'schedule']
    """
    return {
        "optimizer": trial.suggest_categorical("optimizer", ["layca", "layca-adam"]),
        "momentum": 0.9,
        **_rotation(trial, ""),
        "batch_size": trial.suggest_categorical("batch_size", BATCH_SIZES),
        "schedule": trial.suggest_categorical("schedule", ["cosine", "step"]),
    }


def mixed(trial: optuna.Trial) -> Config:
    """Any of four optimizers with the ranges of their own spaces, or Layca by its final distance.

    Each optimizer has its own parameters (`sgd_lr`, `adam_lr`), because the best learning rate of
    one optimizer is not that of another.

    Example:
        >>> import optuna
        >>> study = optuna.create_study()
        >>> study.enqueue_trial({"optimizer": "layca"})
        >>> 0.05 <= mixed(study.ask())["final_distance"] <= 0.98
        True
    """
    chosen = trial.suggest_categorical("optimizer", list(_BY_OPTIMIZER))
    return {
        "optimizer": chosen,
        **_BY_OPTIMIZER[chosen](trial, f"{chosen}_"),
        **_training(trial),
    }


def _sgd(trial: optuna.Trial, prefix: str) -> Config:
    return {
        "lr": trial.suggest_float(f"{prefix}lr", 1e-3, 1.0, log=True),
        "momentum": trial.suggest_float(f"{prefix}momentum", 0.8, 0.98),
        "weight_decay": trial.suggest_float(f"{prefix}weight_decay", 1e-6, 1e-2, log=True),
    }


def _adam(trial: optuna.Trial, prefix: str) -> Config:
    return {
        "lr": trial.suggest_float(f"{prefix}lr", 1e-5, 0.03, log=True),
        "beta1": trial.suggest_float(f"{prefix}beta1", 0.8, 0.95),
        "beta2": trial.suggest_float(f"{prefix}beta2", 0.95, 0.999),
        "weight_decay": trial.suggest_float(f"{prefix}weight_decay", 1e-7, 1e-3, log=True),
    }


def _adamw(trial: optuna.Trial, prefix: str) -> Config:
    return {
        "lr": trial.suggest_float(f"{prefix}lr", 1e-5, 0.03, log=True),
        "beta1": trial.suggest_float(f"{prefix}beta1", 0.8, 0.95),
        "beta2": trial.suggest_float(f"{prefix}beta2", 0.95, 0.999),
        "weight_decay": trial.suggest_float(f"{prefix}weight_decay", 1e-4, 0.3, log=True),
    }


def _rmsprop(trial: optuna.Trial, prefix: str) -> Config:
    return {
        "lr": trial.suggest_float(f"{prefix}lr", 1e-5, 0.01, log=True),
        "momentum": trial.suggest_float(f"{prefix}momentum", 0.0, 0.9),
        "beta2": trial.suggest_float(f"{prefix}beta2", 0.9, 0.999),
        "weight_decay": trial.suggest_float(f"{prefix}weight_decay", 1e-7, 1e-3, log=True),
    }


def _rotation(trial: optuna.Trial, prefix: str) -> Config:
    return {"final_distance": trial.suggest_float(f"{prefix}final_distance", 0.05, 0.98)}


_BY_OPTIMIZER: dict[str, Callable[[optuna.Trial, str], Config]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "layca": _rotation,
}


def _training(trial: optuna.Trial) -> Config:
    return {
        "batch_size": trial.suggest_categorical("batch_size", BATCH_SIZES),
        "schedule": trial.suggest_categorical("schedule", ["constant", "cosine"]),
        "warmup_epochs": trial.suggest_float("warmup_epochs", 0.0, 0.75, step=0.25),
    }
