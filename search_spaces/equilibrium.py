"""Spaces that search the rotation per step; weight decay is computed from it.

Under normalisation, weight decay and gradients bring the norm of a layer into balance. Each step
then rotates the layer by the same angle on average: sqrt(2 lr wd (1 - b1) / (1 + b1)) for AdamW,
and sqrt(2 lr wd / (1 + mu)) for SGD with momentum mu (Kosson et al., arXiv:2305.17212; Wan et al.,
2006.08419). So these spaces search the learning rate and the rotation per step, and compute the
weight decay. The balance takes about 1 / (lr wd) steps. Before that, only the learning rate
determines the rotation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search_spaces.optimizers import BATCH_SIZES

if TYPE_CHECKING:
    import optuna

_BETA1, _MOMENTUM = 0.9, 0.9


def adamw_rotation(trial: optuna.Trial) -> dict[str, Any]:
    """AdamW: lr 1e-4 to 0.03, weight decay by the rotation a step 3**-7 to 3**-3, decaying.

    The schedules decay to nearly 0, so that the rotation ends. Under a constant schedule it never
    ends.

    Example:
        >>> import optuna
        >>> trial = optuna.trial.FixedTrial(
        ...     {"lr": 0.01, "rate": 0.01, "batch_size": 64, "schedule": "cosine"}
        ... )
        >>> round(adamw_rotation(trial)["weight_decay"], 3)
        0.095
    """
    lr = trial.suggest_float("lr", 1e-4, 0.03, log=True)
    rate = trial.suggest_float("rate", 3**-7, 3**-3, log=True)
    return {
        "optimizer": "adamw",
        "lr": lr,
        "weight_decay": weight_decay_of_adamw(rate, lr, _BETA1),
        **_training(trial),
    }


def sgd_rotation(trial: optuna.Trial) -> dict[str, Any]:
    """SGD: lr 0.01 to 1, weight decay by the rotation a step 3**-7 to 3**-3, decaying.

    The schedules decay to nearly 0, so that the rotation ends. Under a constant schedule it never
    ends.

    Example:
        >>> import optuna
        >>> trial = optuna.trial.FixedTrial(
        ...     {"lr": 0.1, "rate": 0.01, "batch_size": 64, "schedule": "cosine"}
        ... )
        >>> round(sgd_rotation(trial)["weight_decay"], 5)
        0.00095
    """
    lr = trial.suggest_float("lr", 0.01, 1.0, log=True)
    rate = trial.suggest_float("rate", 3**-7, 3**-3, log=True)
    return {
        "optimizer": "sgd",
        "lr": lr,
        "weight_decay": weight_decay_of_sgd(rate, lr, _MOMENTUM),
        **_training(trial),
    }


def weight_decay_of_adamw(rate: float, lr: float, beta1: float) -> float:
    """Return the decoupled weight decay with which AdamW rotates a layer by `rate` per step.

    Args:
        rate: radians per step, > 0 and small.
        lr: the learning rate, > 0.
        beta1: AdamW's first beta, in [0, 1).
    """
    return rate**2 * (1 + beta1) / (2 * lr * (1 - beta1))


def weight_decay_of_sgd(rate: float, lr: float, momentum: float) -> float:
    """Return the L2 penalty with which SGD rotates a layer by `rate` per step.

    Args:
        rate: radians per step, > 0 and small.
        lr: the learning rate, > 0.
        momentum: SGD's momentum, in [0, 1).
    """
    return rate**2 * (1 + momentum) / (2 * lr)


def _training(trial: optuna.Trial) -> dict[str, Any]:
    return {
        "batch_size": trial.suggest_categorical("batch_size", BATCH_SIZES),
        "schedule": trial.suggest_categorical("schedule", ["cosine", "step"]),
    }
