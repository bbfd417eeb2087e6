"""Measure the cost of a trial beyond its training: pruned no-op trials, compared with Ray Tune.

Every system runs the same trials in one Ray session: up to 20 reports each, successive halving with
eta 4 from the first report, one CPU a trial. The peers are Ray Tune with OptunaSearch and
ASHAScheduler: as documented, with reused actors, and further tuned (no default loggers, more than
one pending trial).

    python benchmarks/overhead.py --json
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

import tuner
from tuner.engine.callbacks import RunCallback

REPORTS = 20
_TUNED = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_MAX_PENDING_TRIALS_PG": "4"}


def noop(config: dict[str, Any]) -> None:
    """Report 20 times and do nothing else."""
    for n in range(1, REPORTS + 1):
        tune.report({"epoch": n, "val_accuracy": config["x"] * (1 - 0.9**n)})


class Noop(tune.Trainable):
    """The same trial as a class."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.x, self.n = new_config["x"], 0
        return True

    def step(self) -> dict[str, Any]:
        self.n += 1
        value = self.x * (1 - 0.9**self.n)
        return {"epoch": self.n, "val_accuracy": value, "done": self.n == REPORTS}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing."""


def space(trial: optuna.Trial) -> dict[str, Any]:
    """Suggest one number in [0, 1]."""
    return {"x": trial.suggest_float("x", 0, 1)}


def ours(trainable: Any, trials: int, folder: Path, seed: int) -> dict[str, float]:
    """Run the trials with quarterturn."""
    job = tuner.TuningJob(
        name=f"noop-{seed}-{time.monotonic_ns()}",
        trainable=trainable,
        search_space=space,
        metric="val_accuracy",
        mode="max",
        num_trials=trials,
        max_epochs=REPORTS,
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=4),
        seed=seed,
        folder=folder,
    )
    begun = time.perf_counter()
    result = tuner.run(job, observer=RunCallback())
    spent = time.perf_counter() - begun
    return {
        "s_per_trial": spent / trials,
        "reports_per_trial": sum(t.epochs for t in result.trials) / trials,
    }


def rays(
    trainable: Any,
    trials: int,
    folder: Path,
    seed: int,
    *,
    reuse: bool,
    environment: dict[str, str],
) -> dict[str, float]:
    """Run the trials on Ray Tune alone."""
    os.environ.update(environment)
    try:
        begun = time.perf_counter()
        results = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(space, metric="val_accuracy", mode="max", seed=seed),
                scheduler=ASHAScheduler(
                    metric="val_accuracy",
                    mode="max",
                    max_t=REPORTS,
                    grace_period=1,
                    reduction_factor=4,
                ),
                num_samples=trials,
                reuse_actors=reuse,
            ),
            run_config=tune.RunConfig(
                storage_path=str(folder), name=f"ray-{time.monotonic_ns()}", verbose=0
            ),
        ).fit()
        spent = time.perf_counter() - begun
    finally:
        for name in environment:
            del os.environ[name]
    reports = sum(result.metrics["training_iteration"] for result in results)
    return {"s_per_trial": spent / trials, "reports_per_trial": reports / trials}


def measure(trials: int, repeats: int, documented: bool) -> dict[str, Any]:
    """Run every system `repeats` times in turn, but the slow documented default only once."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    runs: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        systems: dict[str, Callable[[int], dict[str, float]]] = {
            "ray_documented": lambda seed: rays(
                noop, trials, folder, seed, reuse=False, environment={}
            ),
            "ray_reuse_actors": lambda seed: rays(
                noop, trials, folder, seed, reuse=True, environment={}
            ),
            "ray_tuned": lambda seed: rays(
                noop, trials, folder, seed, reuse=True, environment=_TUNED
            ),
            "ray_tuned_class": lambda seed: rays(
                Noop, trials, folder, seed, reuse=True, environment=_TUNED
            ),
            "quarterturn_function": lambda seed: ours(noop, trials, folder, seed),
            "quarterturn_class": lambda seed: ours(Noop, trials, folder, seed),
        }
        for seed in range(repeats):
            for system, run in systems.items():
                if system != "ray_documented" or (documented and seed == 0):
                    runs.setdefault(system, []).append(run(seed))
    medians = {
        system: {
            key: round(statistics.median(run[key] for run in measured), 4)
            for key in ("s_per_trial", "reports_per_trial")
        }
        for system, measured in runs.items()
    }
    own = medians["quarterturn_function"]["s_per_trial"]
    return {
        "trials": trials,
        "repeats": repeats,
        "systems": medians,
        "ratio_of_quarterturn_function_to": {
            system: round(own / figures["s_per_trial"], 3) for system, figures in medians.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--fast-only", action="store_true", help="leave out Ray as documented, which takes minutes"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    ray.init(num_cpus=2, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    try:
        measured = measure(arguments.trials, arguments.repeats, not arguments.fast_only)
    finally:
        ray.shutdown()
    if arguments.json:
        print(json.dumps(measured))
        return
    for system, figures in measured["systems"].items():
        ratio = measured["ratio_of_quarterturn_function_to"][system]
        print(
            f"{system:22} {figures['s_per_trial']:.4f} s a trial, "
            f"{figures['reports_per_trial']:.1f} reports, ratio {ratio}"
        )


if __name__ == "__main__":
    main()
