"""The space that the recorded curves are drawn from: wide, with rates that fail at both ends."""

from __future__ import annotations

from typing import Any

import optuna

# Rates from where nothing is learnt to where training diverges.
_LR = {"sgd": (1e-3, 3.0), "adam": (1e-5, 0.1), "adamw": (1e-5, 0.1), "rmsprop": (1e-5, 0.03)}
# Largest weight decay; AdamW's is decoupled and small beside an L2 penalty of the same size.
_DECAY = {"sgd": 0.01, "adam": 0.003, "adamw": 0.3, "rmsprop": 0.003}


def wide(trial: optuna.Trial) -> dict[str, Any]:
    """Return any of four optimizers with any schedule, half of them without weight decay."""
    optimizer = trial.suggest_categorical("optimizer", list(_LR))
    low, high = _LR[optimizer]
    config: dict[str, Any] = {
        "optimizer": optimizer,
        "lr": trial.suggest_float(f"{optimizer}_lr", low, high, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
        "schedule": trial.suggest_categorical("schedule", ["constant", "cosine", "step"]),
        "warmup_epochs": trial.suggest_categorical("warmup_epochs", [0.0, 0.5, 2.0]),
        "weight_decay": 0.0,
        "reports_per_epoch": [8, 1],
    }
    if optimizer == "sgd":
        config["momentum"] = trial.suggest_categorical("momentum", [0.0, 0.9, 0.97])
    if trial.suggest_categorical("decays", [False, True]):
        most = _DECAY[optimizer]
        config["weight_decay"] = trial.suggest_float(
            f"{optimizer}_weight_decay", most / 1000, most, log=True
        )
    return config
