"""Compare the forecasts of `find_rate`'s probes with the whole runs that follow.

python benchmarks/find_rate.py [--json] [--networks cnn resnet ...] [--optimizers layca sgd adamw]

Usual optimizers train at five learning rates between the lowest and the highest probed, and at
those found for .6 and .95. The five families train for 12 epochs in batches of 128. The forecast is
compared with a random walk (s as the learning rate spent) and with motion in one direction (s as
its square). Both start at the end of the same probes.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from families import FAMILIES, BatchNormMlp, Cnn, PlainMlp, Resnet, Transformer
from scipy.stats import spearmanr

from trainables import C10Cnn1Small, DigitsMlp, MnistMlp
from tuner.rate_finder.estimate import FoundRates, ProbeRuns
from tuner.rate_finder.probes import run_probes
from tuner.rotation.rate import RateRelation

RATES = (3**-2, 3**-3, 3**-4)
SMALL = {"max_epochs": 10, "batch_size": 64}
NETWORKS: Mapping[str, tuple[Any, dict[str, Any]]] = {
    "cnn": (Cnn, SMALL),
    "resnet": (Resnet, SMALL),
    "bn-mlp": (BatchNormMlp, SMALL),
    "plain-mlp": (PlainMlp, SMALL),
    "transformer": (Transformer, SMALL),
    "digits": (DigitsMlp, {"max_epochs": 20, "batch_size": 32}),
    "mnist": (MnistMlp, {"max_epochs": 10, "batch_size": 64}),
    "cnn-long": (Cnn, {"max_epochs": 20, "batch_size": 32}),
    "transformer-long": (Transformer, {"max_epochs": 20, "batch_size": 32}),
    "plain-mlp-short": (PlainMlp, {"max_epochs": 2, "batch_size": 64}),
    "transformer-short": (Transformer, {"max_epochs": 2, "batch_size": 64}),
    "vgg13": (C10Cnn1Small, {"max_epochs": 6, "train_samples": 3000, "batch_size": 64}),
}
PLAIN: Mapping[str, tuple[dict[str, Any], ...]] = {
    "sgd": tuple({"momentum": 0.9, "weight_decay": decay} for decay in (0.0, 5e-4)),
    "adam": ({"weight_decay": 0.0},),
    "adamw": tuple({"weight_decay": decay} for decay in (0.0, 0.05)),
    "rmsprop": ({"weight_decay": 0.0},),
}
# Between the lowest and the highest probed, on a log scale.
PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
AIMS = (0.6, 0.95)
# As powers of the learning rate spent.
SIMPLER = {"random walk": 1.0, "one direction": 2.0}


@dataclass(frozen=True)
class Whole:
    """A whole run's train loss, the hidden layers' median distance, and each layer's distance."""

    loss: float
    middle: float
    layers: np.ndarray[Any, Any]


def of_layca(network: str) -> dict[str, Any]:
    """Probe a network, train it at five rates of Layca, and return forecasts and results."""
    kind, settings = NETWORKS[network]
    config = {"optimizer": "layca", "momentum": 0.9, "schedule": "cosine", "seed": 1, **settings}
    probed = run_probes(kind, config)
    found = FoundRates(probed)
    alone = RateRelation(probed.momentum)
    runs, wholes = [], []
    for rate in (*RATES, found.rate, probed.probes[-1].rate):
        whole = _whole_run(kind, {**config, "lr": rate}, found)
        wholes.append(whole)
        (prior,) = alone.distances([rate], probed.factors)
        runs.append({"alone": round(prior.mid, 3), **_told(found, rate, whole)})
    return {
        "error_alone": _mean([abs(run["alone"] - run["measured"]) for run in runs[:3]]),
        "error_probes": _mean([abs(run["probes"][1] - run["measured"]) for run in runs[:3]]),
        "within": _mean([_within(run) for run in runs[:3]]),
        "aimed_at": found.distance,
        "reached": runs[3]["measured"],
        **_behind(found, wholes[3]),
        "learns": found.learns,
        "start_loss": round(probed.probes[0].losses[0], 3),
        "epochs": round(probed.epochs, 3),
        "runs": runs,
    }


def of_plain(network: str, optimizer: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Probe a network, train it at some learning rates, and return forecasts and results."""
    kind, length = NETWORKS[network]
    length = {"max_epochs": 12, "batch_size": 128} if network in FAMILIES else length
    config = {"optimizer": optimizer, "schedule": "cosine", "seed": 1, **length, **settings}
    probed = run_probes(kind, config)
    found = FoundRates(probed)
    lowest, highest = probed.probes[0].rate, probed.probes[-1].rate
    runs = []
    for rate in (lowest * (highest / lowest) ** place for place in PLACES):
        whole = _whole_run(kind, {**config, "lr": rate}, found)
        simpler = {name: _simpler(probed, found, rate, power) for name, power in SIMPLER.items()}
        runs.append({**_told(found, rate, whole), **simpler})
    aims = {}
    for aim in AIMS:
        aimed = FoundRates(probed, aim)
        whole = _whole_run(kind, {**config, "lr": aimed.rate}, aimed)
        aims[aim] = {
            "targetable": aimed.targetable,
            **_told(aimed, aimed.rate, whole),
            **_behind(aimed, whole),
        }
    return {"config": config, "learns": found.learns, "runs": runs, "aims": aims}


def _whole_run(kind: Any, config: dict[str, Any], found: FoundRates) -> Whole:
    trial = kind(config=config)
    report: dict[str, Any] = {}
    while not report.get("done"):
        report = trial.train()
    trial.stop()
    ends = np.array([min(report[f"rotation/{layer}"], 1.0) for layer in found.probed.layers])
    return Whole(float(report["train_loss"]), float(np.median(ends[list(found.turned)])), ends)


def _told(found: FoundRates, rate: float, whole: Whole) -> dict[str, Any]:
    (ours,) = found.distances([rate])
    return {
        "rate": float(f"{rate:.3g}"),
        "probes": [round(end, 3) for end in (ours.low, ours.mid, ours.high)],
        "measured": _figure(whole.middle),
        "train_loss": _figure(whole.loss),
        "layers": [_figure(end) for end in whole.layers],
    }


def _behind(found: FoundRates, whole: Whole) -> dict[str, Any]:
    """Return the layers forecast to lag at the rate for the distance, and those that did."""
    ways = found.relation.path_lengths(found.turned, found.rate)
    hidden, aim = list(found.turned), found.distance - found.target.tolerance
    return {
        "rank_of_layers": None if ways is None else _rank(ways, whole.layers),
        "rank_of_hidden": None
        if ways is None or len(hidden) < 3
        else _rank([ways[i] for i in hidden], whole.layers[hidden]),
        "said_to_lag": None if ways is None else [lag.layer for lag in found.lagging() or ()],
        "lagged": [found.probed.layers[i] for i in hidden if whole.layers[i] < aim],
    }


def _simpler(probed: ProbeRuns, found: FoundRates, rate: float, power: float) -> float:
    """Return the hidden layers' median if s is a power of the learning rate spent."""
    known = []
    for probe in probed.probes:
        middle = float(np.median([probe.distances[-1][layer] for layer in found.turned]))
        if 0 < middle < 1:
            ahead = power * math.log(max(probed.factors.sum() / probe.steps[-1], 1.0))
            known.append((math.log(probe.rate), math.log(-math.log1p(-middle)) + ahead))
    rates, logs = zip(*known, strict=True)
    return round(-math.expm1(-math.exp(float(np.interp(math.log(rate), rates, logs)))), 3)


def _figure(value: float) -> float | None:
    return round(float(value), 3) if math.isfinite(value) else None


def _within(run: Mapping[str, Any]) -> bool:
    return bool(run["probes"][0] <= run["measured"] <= run["probes"][2])


def summary(found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the errors of the forecasts of several settings, without failed runs."""
    found = list(found)
    runs = [run for each in found for run in each["runs"] if run["measured"] is not None]
    errors = np.array([abs(run["probes"][1] - run["measured"]) for run in runs])
    shown: dict[str, Any] = {
        "runs": len(runs),
        "broken": sum(len(each["runs"]) for each in found) - len(runs),
        "error": _mean(errors),
        "largest": round(float(errors.max()), 3),
        "within": _mean([_within(run) for run in runs]),
        "width": _mean([run["probes"][2] - run["probes"][0] for run in runs]),
    }
    for name in SIMPLER:
        shown[name] = _mean([abs(run[name] - run["measured"]) for run in runs])
    for aim in AIMS:
        ended = [each["aims"][aim] for each in found]
        for name, said in (("reached", True), ("said to be out of reach", False)):
            shown[f"{name} for {aim}"] = [
                end["measured"] for end in ended if (end["targetable"] is not False) is said
            ]
    return shown


def _rank(said: Sequence[float], measured: Sequence[float]) -> float:
    return round(float(spearmanr(said, measured)[0]), 2)


def _mean(values: Any) -> float:
    return round(float(np.mean(values)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--optimizers", nargs="+", choices=["layca", *PLAIN], default=["layca"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    shown: dict[str, Any] = {}
    for optimizer in asked.optimizers:
        for network in asked.networks:
            if optimizer == "layca":
                shown[network] = of_layca(network)
            else:
                of_settings = [of_plain(network, optimizer, each) for each in PLAIN[optimizer]]
                shown[f"{network} {optimizer}"] = summary(of_settings) | {"settings": of_settings}
            if not asked.json and shown:
                name = list(shown)[-1]
                print(name, json.dumps(shown[name]), flush=True)
        if optimizer != "layca":
            names = [name for name in shown if name.endswith(f" {optimizer}")]
            every = [each for name in names for each in shown[name]["settings"]]
            shown[f"all {optimizer}"] = summary(every)
            if not asked.json:
                print(f"all {optimizer}", json.dumps(shown[f"all {optimizer}"]), flush=True)
    if asked.json:
        print(json.dumps(shown))


if __name__ == "__main__":
    main()
