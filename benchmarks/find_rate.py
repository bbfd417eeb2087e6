"""What `find_rate`'s probes forecast of whole runs under Layca, against what these then reach.

python benchmarks/find_rate.py [--json] [--networks cnn resnet ...]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from families import BatchNormMlp, Cnn, PlainMlp, Resnet, Transformer
from scipy.stats import spearmanr

from trainables import C10Cnn1Small, DigitsMlp, MnistMlp
from trainables.probes import run_probes
from tuner.rotation.finding import FoundRates
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


def compared(network: str) -> dict[str, Any]:
    """Probe a network, train it at five rates, and return what was said and what came of it."""
    kind, settings = NETWORKS[network]
    config = {"optimizer": "layca", "momentum": 0.9, "schedule": "cosine", "seed": 1, **settings}
    probed = run_probes(kind, config)
    found = FoundRates(probed)
    alone = RateRelation(probed.momentum)
    runs = []
    for rate in (*RATES, found.rate, probed.probes[-1].rate):
        loss, ends = _whole_run(kind, {**config, "lr": rate}, probed.layers)
        (prior,), (ours,) = alone.distances([rate], probed.factors), found.distances([rate])
        runs.append(
            {
                "rate": round(rate, 5),
                "alone": round(prior.mid, 3),
                "probes": [round(end, 3) for end in (ours.low, ours.mid, ours.high)],
                "measured": round(float(np.median(ends[list(found.turned)])), 3),
                "train_loss": round(loss, 3),
                "layers": [round(float(end), 3) for end in ends],
            }
        )
    at_rate, ways = np.array(runs[3]["layers"]), found.ways
    aim = found.distance - found.target.tolerance
    return {
        "error_alone": _mean([abs(run["alone"] - run["measured"]) for run in runs[:3]]),
        "error_probes": _mean([abs(run["probes"][1] - run["measured"]) for run in runs[:3]]),
        "within": _mean(
            [run["probes"][0] <= run["measured"] <= run["probes"][2] for run in runs[:3]]
        ),
        "aimed_at": found.distance,
        "reached": runs[3]["measured"],
        "rank_of_layers": None if ways is None else _rank(ways, at_rate),
        "rank_of_hidden": None
        if ways is None or len(found.turned) < 3
        else _rank([ways[i] for i in found.turned], at_rate[list(found.turned)]),
        "said_to_lag": None if ways is None else [lag.layer for lag in found.lagging() or ()],
        "lagged": [probed.layers[i] for i in found.turned if at_rate[i] < aim],
        "learns": found.learns,
        "start_loss": round(probed.probes[0].losses[0], 3),
        "epochs": round(found.epochs, 3),
        "runs": runs,
    }


def _whole_run(
    kind: Any, config: dict[str, Any], layers: Sequence[str]
) -> tuple[float, np.ndarray[Any, Any]]:
    trial = kind(config=config)
    report: dict[str, Any] = {}
    while not report.get("done"):
        report = trial.train()
    ends = [min(report[f"rotation/{layer}"], 1.0) for layer in layers]
    return float(report["train_loss"]), np.array(ends)


def _rank(said: Sequence[float], measured: Sequence[float]) -> float:
    return round(float(spearmanr(said, measured)[0]), 2)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    shown = {}
    for network in asked.networks:
        shown[network] = compared(network)
        if not asked.json:
            print(network, json.dumps(shown[network]), flush=True)
    if asked.json:
        print(json.dumps(shown))


if __name__ == "__main__":
    main()
