"""Measure the cost of loggers: no-op trials with and without them, in turn, in one Ray session.

For each system there are two times. The first is the seconds a trial from the study's begin to the
end of its last trial; a logger must not increase it. The second is the seconds from there until
`run` returns, in which the logger writes the rest.

    python benchmarks/loggers.py --json
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune

import tuner
from tuner.engine.callbacks import RunCallback

REPORTS, LAYERS = 20, 8
SYSTEMS: dict[str, tuple[str, ...]] = {
    "none": (),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow",),
}


class Noop(tune.Trainable):
    """Reports 20 times, with eight layers and all other keys of a report, and does nothing else."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.x, self.n = new_config["x"], 0
        return True

    def step(self) -> dict[str, Any]:
        self.n += 1
        turned = {f"rotation/layer{n}.weight": self.x * self.n / REPORTS for n in range(LAYERS)}
        return {
            "epoch": self.n,
            "val_accuracy": self.x * (1 - 0.9**self.n),
            "train_loss": 1 - self.x,
            "lr_progress": self.n / REPORTS,
            "rotation_min": self.x,
            "rotation_mean": self.x,
            **turned,
            "done": self.n == REPORTS,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing."""


class Clock(RunCallback):
    """Records the times of the study's begin and of its last trial's end."""

    def begun(self, so_far: tuner.StudyResult) -> None:
        self.begin = self.end = time.perf_counter()

    def finished(self, *_: Any) -> None:
        self.end = time.perf_counter()


def space(trial: optuna.Trial) -> dict[str, Any]:
    """Suggest one number in [0, 1]."""
    return {"x": trial.suggest_float("x", 0, 1)}


def measure_once(
    loggers: tuple[str, ...], trials: int, folder: Path, seed: int
) -> dict[str, float]:
    """Run the trials once."""
    clock = Clock()
    job = tuner.TuningJob(
        name=f"noop-{time.monotonic_ns()}",
        trainable=Noop,
        search_space=space,
        metric="val_accuracy",
        mode="max",
        num_trials=trials,
        max_epochs=REPORTS,
        pruner="none",
        sampler="random",
        seed=seed,
        loggers=loggers,
        folder=folder,
    )
    tuner.run(job, observer=clock)
    return {
        "s_per_trial": (clock.end - clock.begin) / trials,
        "s_after": time.perf_counter() - clock.end,
    }


def measure(trials: int, repeats: int) -> dict[str, Any]:
    """Run every system `repeats` times in turn, after a warm-up run."""
    runs: dict[str, list[dict[str, float]]] = {system: [] for system in SYSTEMS}
    with tempfile.TemporaryDirectory() as name:
        measure_once((), 10, Path(name), 0)
        for seed in range(repeats):
            for system, loggers in SYSTEMS.items():
                runs[system].append(measure_once(loggers, trials, Path(name), seed))
    medians = {
        system: {
            key: round(statistics.median(run[key] for run in measured), 4) for key in measured[0]
        }
        for system, measured in runs.items()
    }
    bare = medians["none"]["s_per_trial"]
    return {
        "trials": trials,
        "reports_per_trial": REPORTS,
        "repeats": repeats,
        "systems": medians,
        "ratio_to_none": {
            system: round(figures["s_per_trial"] / bare, 2) for system, figures in medians.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ray.init(num_cpus=2, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    try:
        measured = measure(arguments.trials, arguments.repeats)
    finally:
        ray.shutdown()
    if arguments.json:
        print(json.dumps(measured))
        return
    for system, figures in measured["systems"].items():
        print(
            f"{system:12} {figures['s_per_trial']:.4f} s a trial, "
            f"ratio {measured['ratio_to_none'][system]}, {figures['s_after']:.1f} s after"
        )


if __name__ == "__main__":
    main()
