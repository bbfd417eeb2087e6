"""A job whose trials say on which host each epoch ran, and save every epoch."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import optuna

from trainables import DigitsMlp
from tuner import TuningJob

WHERE = Path("/mnt/quarterturn/where")


class SlowDigits(DigitsMlp):
    """A digits-mlp that takes half a second an epoch."""

    def step(self) -> dict[str, Any]:
        report = super().step()
        number = int(self.trial_id.partition("-")[0])
        with WHERE.open("a") as log:
            log.write(f"{number} {report['epoch']} {time.time()} {socket.gethostname()}\n")
        time.sleep(0.5)
        return report


def space(trial: optuna.Trial) -> dict[str, Any]:
    return {"lr": trial.suggest_float("lr", 1e-3, 1.0, log=True), "checkpoint_every_s": 0}


job = TuningJob(
    name="digits",
    trainable=SlowDigits,
    search_space=space,
    num_trials=12,
    max_epochs=12,
    pruner="none",
    cpus_per_trial=2,  # each host here shows the machine's two
)
