"""Compare the best of k trials: usual optimizers, with Layca, from a ladder, at a found rate.

Trains trials of the five families, as ordinary studies in --folder. A study that is there is not
trained again. Prints the test accuracy of the best of k trials by validation accuracy, and of the
best within as many epochs. All trials run to their end, except those of `pruned`, which is the
default with its pruner. The default is also shown with its ladders followed by random search.

python benchmarks/few_trials.py [--json] [--families cnn ...] [--methods ...] [--folder DIR]
    [--plot FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import optuna
import ray
from families import FAMILIES, Small

from search_spaces.optimizers import adam, adamw, sgd
from tuner import StudyResult, TuningJob, find_rate, run
from tuner.engine.callbacks import RunCallback
from tuner.vega import GREY, number_of, values, write_picture

TRIALS = (1, 2, 3, 5, 10, 20, 50)
DRAWS = 2000
_COLOURS = {
    "random": "#1f77b4",
    "random with layca": "#ff7f0e",
    "tpe": "#d62728",
    "default": "#2ca02c",
    "ladder, then random": "#bcbd22",
    "pruned": "#9467bd",
    "find-rate": "#8c564b",
}
_PLAIN: Mapping[str, Callable[[optuna.Trial], dict[str, Any]]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
}


class _Named:
    """A trial whose parameters have the prefix of their optimizer, except shared ones."""

    def __init__(self, trial: optuna.Trial, prefix: str) -> None:
        self._trial, self._prefix = trial, prefix

    def suggest_float(self, name: str, *range_: float, **kind: Any) -> float:
        shared = name == "warmup_epochs"
        return self._trial.suggest_float(name if shared else self._prefix + name, *range_, **kind)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._trial.suggest_categorical(name, choices)


def plain(trial: optuna.Trial) -> dict[str, Any]:
    """Suggest SGD, Adam or AdamW over the ranges of their own spaces."""
    chosen = trial.suggest_categorical("optimizer", list(_PLAIN))
    return _PLAIN[chosen](_Named(trial, f"{chosen}_"))  # type: ignore[arg-type]


def layca(trial: optuna.Trial) -> dict[str, Any]:
    """Suggest Layca over SGD with momentum by the final distance, with a cosine schedule."""
    return {
        "optimizer": "layca",
        "final_distance": trial.suggest_float("layca_final_distance", 0.05, 0.98),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
        "schedule": "cosine",
    }


def with_layca(trial: optuna.Trial) -> dict[str, Any]:
    """Suggest SGD, Adam, AdamW or Layca."""
    chosen = trial.suggest_categorical("optimizer", [*_PLAIN, "layca"])
    if chosen == "layca":
        return layca(trial)
    return _PLAIN[chosen](_Named(trial, f"{chosen}_"))  # type: ignore[arg-type]


def at_rate(rate: float | None) -> Callable[[optuna.Trial], dict[str, Any]]:
    """Return a space of Layca over SGD with momentum at one rate, with a cosine schedule."""

    def space(trial: optuna.Trial) -> dict[str, Any]:
        return {
            "optimizer": "layca",
            "lr": trial.suggest_categorical("lr", [rate]),
            "momentum": 0.9,
            "batch_size": 128,
            "schedule": "cosine",
        }

    return space


@dataclass(frozen=True)
class Method:
    """How trials are suggested. Random trials are pooled and drawn; others keep their order."""

    space: Callable[[optuna.Trial], dict[str, Any]]
    trials: int
    sampler: str = "random"
    start: str = "random"
    pruner: str = "none"
    probed: bool = False
    studies: int = 10


METHODS: Mapping[str, Method] = {
    "random": Method(plain, 12),
    "layca-random": Method(layca, 4),
    "tpe": Method(plain, 20, "tpe"),
    "default": Method(with_layca, 10, "tpe", "rotation", studies=20),
    "pruned": Method(with_layca, 40, "tpe", "rotation", "rotation"),
    "find-rate": Method(at_rate(None), 1, probed=True),
}


def studies(family: str, name: str, folder: Path) -> list[StudyResult]:
    """Run the missing studies of a method, and return all of its studies."""
    method = METHODS[name]
    found = []
    for seed in range(method.studies):
        job = TuningJob(
            name=f"{family}-{name}-{seed}",
            trainable=FAMILIES[family],
            search_space=method.space,
            num_trials=method.trials,
            sampler=method.sampler,
            start=method.start,
            pruner=method.pruner,
            seed=seed,
            folder=folder,
        )
        if method.probed:
            job = job.with_changes(search_space=at_rate(find_rate(job).rate))
        found.append(run(job, observer=RunCallback()))
    return found


def outcomes(study: StudyResult) -> list[tuple[float, float]]:
    """Return the validation and test accuracy of each trial, in order; 0 for a failed trial."""
    return [
        (trial.value, trial.test["test_accuracy"])
        if trial.state == "complete" and "test_accuracy" in trial.test
        else (0.0, 0.0)
        for trial in study.trials
    ]


def by_epochs(study: StudyResult) -> list[tuple[float, float]]:
    """Return the best trial within the epochs of one whole trial, of two, and so on."""
    used = list(accumulate(trial.epochs for trial in study.trials))
    found = outcomes(study)
    whole = Small.epochs
    return [
        max(
            (each for each, spent in zip(found, used, strict=True) if spent <= budget),
            default=(0.0, 0.0),
        )
        for budget in range(whole, int(used[-1]) + 1, whole)
    ]


def best_of(sequences: Sequence[Sequence[tuple[float, float]]]) -> dict[int, dict[str, float]]:
    """Return the accuracies of the best of the first k, for each k, averaged over sequences."""
    shown = {}
    for k in TRIALS:
        if k <= min(map(len, sequences)):
            best = np.array([max(sequence[:k]) for sequence in sequences])
            validation, test = best.mean(axis=0)
            error = best[:, 1].std(ddof=1) / np.sqrt(len(best))
            shown[k] = {
                "val_accuracy": round(float(validation), 4),
                "test_accuracy": round(float(test), 4),
                "standard_error": round(float(error), 4),
            }
    return shown


def drawn(pools: Sequence[tuple[float, list[tuple[float, float]]]]) -> Any:
    """Return sequences of trials, drawn from pools with these shares, each without replacement."""
    draw = np.random.default_rng(0)
    shares = np.array([share for share, _ in pools])
    sequences = []
    for _ in range(DRAWS):
        order = [list(draw.permutation(len(pool))) for _, pool in pools]
        sequence = []
        for chosen in draw.choice(len(pools), size=max(TRIALS), p=shares / shares.sum()):
            at = order[chosen].pop() if order[chosen] else draw.integers(len(pools[chosen][1]))
            sequence.append(pools[chosen][1][at])
        sequences.append(sequence)
    return sequences


def after_ladder(started: Sequence[StudyResult], pool: Sequence[tuple[float, float]]) -> Any:
    """Return sequences that begin with a study's ladder and continue with trials from a pool.

    A study does the same up to ten trials while the ladder does not lead. Here the chance in the
    few trials of its sampler is averaged.
    """
    draw = np.random.default_rng(0)
    ladders = [
        [each for each, trial in zip(outcomes(study), study.trials, strict=True) if trial.start][:3]
        for study in started
    ]
    return [
        ladders[draw.integers(len(ladders))]
        + [pool[at] for at in draw.choice(len(pool), size=7, replace=False)]
        for _ in range(DRAWS)
    ]


def compared(found: Mapping[str, list[StudyResult]]) -> dict[str, Any]:
    """Return the table of one family, and the trials that each method needs to reach the bar.

    The bar is the result of 50 random trials of the usual optimizers. The trials of `pruned` are
    counted in units of a whole trial's epochs.
    """
    pools = {
        name: [outcome for study in found[name] for outcome in outcomes(study)] for name in found
    }
    table = {"random": best_of(drawn([(1.0, pools["random"])]))}
    if "layca-random" in found:
        both = [(0.75, pools["random"]), (0.25, pools["layca-random"])]
        table["random with layca"] = best_of(drawn(both))
    for name in ("tpe", "default", "find-rate"):
        if name in found:
            table[name] = best_of([outcomes(study) for study in found[name]])
    if "default" in found:
        table["ladder, then random"] = best_of(after_ladder(found["default"], pools["random"]))
    if "pruned" in found:
        table["pruned"] = best_of([by_epochs(study) for study in found["pruned"]])
    bar = table["random"][max(TRIALS)]["test_accuracy"]
    reached = {
        name: next((k for k, best in rows.items() if best["test_accuracy"] >= bar), None)
        for name, rows in table.items()
    }
    shown: dict[str, Any] = {"best_of": table, "trials_to_reach_50_random": reached}
    if "default" in found:
        shown["first_trials"] = {
            trial.start: round(float(np.mean(tests)), 4)
            for trial in found["default"][0].trials[:3]
            if (
                tests := [
                    outcomes(study)[trial.number][1]
                    for study in found["default"]
                    if study.trials[trial.number].start == trial.start
                ]
            )
        }
    return shown


def plot(shown: Mapping[str, Any], file: Path) -> None:
    """Plot the test accuracy of the best of k trials, a panel for each family."""
    panels = []
    for family, found in shown.items():
        rows = [
            {"trials": k, "test": row["test_accuracy"], "method": name}
            for name, best in found["best_of"].items()
            for k, row in best.items()
        ]
        bar = found["best_of"]["random"][max(TRIALS)]["test_accuracy"]
        trials = alt.X(
            **number_of("trials", "trials", type="log", nice=False),
            axis=alt.Axis(values=list(TRIALS), format="d"),
        )
        domain = [bar - 0.045, bar + 0.01]
        title = None if panels else "test accuracy of the best by validation"
        accuracy = alt.Y(**number_of("test", title, domain=domain))
        colour = alt.Color(
            field="method",
            type="nominal",
            title=None,
            scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
        )
        panels.append(
            alt.layer(
                alt.Chart(values([{"test": bar}]))
                .mark_rule(color=GREY, strokeDash=[2, 2])
                .encode(accuracy),
                alt.Chart(values(rows))
                .mark_line(point=alt.OverlayMarkDef(size=20), clip=True)
                .encode(trials, accuracy, colour),
            ).properties(title=family, width=190, height=190)
        )
    write_picture(alt.hconcat(*panels), file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--folder", type=Path, default=Path("studies/few-trials"))
    parser.add_argument("--plot", type=Path, metavar="FILE")
    asked = parser.parse_args()
    names = list(dict.fromkeys(["random", *asked.methods]))
    ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False)
    shown = {}
    for family in asked.families:
        shown[family] = compared({name: studies(family, name, asked.folder) for name in names})
        if not asked.json:
            print(family, json.dumps(shown[family], indent=1), flush=True)
    if asked.json:
        print(json.dumps(shown))
    if asked.plot:
        plot(shown, asked.plot)


if __name__ == "__main__":
    main()
