"""Trials without a model: they report the curve that their config asks for, and cost nothing."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import optuna
from ray import cloudpickle
from ray.tune import Trainable
from ray.tune.result import SHOULD_CHECKPOINT

from tuner.engine.callbacks import RunCallback
from tuner.rotation import EpochReport

# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def space(trial: optuna.Trial) -> dict[str, Any]:
    return {
        "height": trial.suggest_float("height", 0.3, 1.0),
        "speed": trial.suggest_float("speed", 0.1, 1.0, log=True),
        "turn": trial.suggest_float("turn", 0.05, 1.3),
    }


def report_at(epoch: int, config: dict[str, Any]) -> dict[str, Any]:
    """What a trial of this config reports at an epoch: the same wherever it is asked for."""
    progress = epoch / config["max_epochs"]
    turned = config["turn"] * progress**0.6
    wiggle = 0.01 * math.sin(37 * epoch * config["speed"])
    return {
        "epoch": epoch,
        "progress": progress,
        "lr_progress": progress,
        "train_loss": 2.3 - config["height"] * progress,
        "score": config["height"] * (1 - math.exp(-config["speed"] * epoch)) + wiggle,
        "rotation/first": 0.5 * turned,
        "rotation/hidden": turned,
        "rotation/head": 0.8 * turned,
        "rotation_min": 0.5 * turned,
        "rotation_mean": 2.3 * turned / 3,
        "epoch_s": 0.01,
    }


class Curve(Trainable):
    """Reports its curve. With `log` it appends "trial epoch time" to that file at every epoch,
    with `pause_s` it takes its time, with `saves` it writes a checkpoint every epoch."""

    metric = "score"
    mode = "max"

    @property
    def number(self) -> int:
        # Ray's id of a trial that goes on after an interruption or a pause ends in -1, -2, ...
        return int(self.trial_id.partition("-")[0])

    def setup(self, config: dict[str, Any]) -> None:
        self.epoch = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        self.epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        if "log" in self.config:
            with Path(self.config["log"]).open("a") as log:
                log.write(f"{self.number} {self.epoch} {time.time()}\n")
        time.sleep(self.config.get("pause_s", 0.0))
        report = self.report()
        if self.config.get("saves"):
            report[SHOULD_CHECKPOINT] = True
        return report

    def report(self) -> dict[str, Any]:
        return report_at(self.epoch, self.config)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "epoch").write_text(str(self.epoch))

    def load_checkpoint(self, checkpoint: str) -> None:
        self.epoch = int(Path(checkpoint, "epoch").read_text())


class Unpausable(Curve):
    """Writes no checkpoints, so that its trials cannot wait."""

    save_checkpoint = Trainable.save_checkpoint


class Interrupting(RunCallback):
    """Presses Ctrl-C at a report of a trial."""

    def __init__(self, number: int, epoch: int) -> None:
        self.at = (number, epoch)

    def reported(self, number: int, report: EpochReport) -> None:
        if (number, report.epoch) == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def logged(log: Path) -> list[tuple[int, int]]:
    """Return the (trial, epoch) of every line that trials have logged, in order."""
    if not log.exists():
        return []
    lines = [line.split() for line in log.read_text().splitlines()]
    return [(int(trial), int(epoch)) for trial, epoch, _ in lines]
