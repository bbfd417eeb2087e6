"""Spaces of usual optimizers in which weight decay is given by the rotation that it leads to.

Where a layer is followed by normalisation, weight decay and gradients come to hold its norm, and
each step then turns it by the same angle on average: for AdamW sqrt(2 lr wd (1 - b1) / (1 + b1)),
for SGD with momentum mu sqrt(2 lr wd / (1 + mu)) (Kosson et al., arXiv:2305.17212; Wan et al.,
2006.08419). So the learning rate and the rotation rate are searched, and weight decay follows. It
takes about 1 / (lr wd) steps to get there: before, the rotation is that of the learning rate alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search_spaces.optimizers import BATCH_SIZES

if TYPE_CHECKING:
    import optuna

_BETA1, _MOMENTUM = 0.9, 0.9


def adamw_rotation(trial: optuna.Trial) -> dict[str, Any]:
    """AdamW: lr 1e-4 to 0.03, weight decay by the rotation a step 3**-7 to 3**-3, decaying.

    A schedule that decays to nearly nothing lets the turning end; a constant one never does.
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

    A schedule that decays to nearly nothing lets the turning end; a constant one never does.
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
    """Return the decoupled weight decay with which AdamW turns a layer by `rate` radians a step.

    Args:
        rate: in radians a step, > 0 and small.
        lr: > 0.
        beta1: in [0, 1).
    """
    return rate**2 * (1 + beta1) / (2 * lr * (1 - beta1))


def weight_decay_of_sgd(rate: float, lr: float, momentum: float) -> float:
    """Return the L2 penalty with which SGD turns a layer by `rate` radians a step.

    Args:
        rate: in radians a step, > 0 and small.
        lr: > 0.
        momentum: in [0, 1).
    """
    return rate**2 * (1 + momentum) / (2 * lr)


def _training(trial: optuna.Trial) -> dict[str, Any]:
    return {
        "batch_size": trial.suggest_categorical("batch_size", BATCH_SIZES),
        "schedule": trial.suggest_categorical("schedule", ["cosine", "step"]),
    }
