"""Compare the rotation of hidden layers under Layca with the forecast before training.

python benchmarks/rotation_rate.py [--json] [--networks digits cnn ...]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from families import BatchNormMlp, Cnn, PlainMlp, Resnet, Transformer

from trainables import DigitsMlp, MnistMlp
from tuner.rotation import RotationTarget
from tuner.rotation.rate import RateRelation

RATES = (3**-1.5, 3**-2, 3**-2.5, 3**-3, 3**-3.5, 3**-4, 3**-5)
BASES = (("layca", 0.9), ("layca", 0.0), ("layca-adam", 0.9))
# The relation's constants were chosen on the last five, with another seed.
NETWORKS: Mapping[str, tuple[Any, dict[str, Any]]] = {
    "digits": (DigitsMlp, {"max_epochs": 30, "batch_size": 32}),
    "mnist-long": (MnistMlp, {"max_epochs": 20, "batch_size": 32}),
    "mnist-short": (MnistMlp, {"max_epochs": 5, "batch_size": 128}),
    "cnn-long": (Cnn, {"max_epochs": 20, "batch_size": 32, "train_samples": 3000}),
    "transformer-long": (Transformer, {"max_epochs": 20, "batch_size": 32, "train_samples": 3000}),
    "cnn": (Cnn, {"max_epochs": 10, "batch_size": 64, "train_samples": 3000}),
    "resnet": (Resnet, {"max_epochs": 10, "batch_size": 64, "train_samples": 3000}),
    "bn-mlp": (BatchNormMlp, {"max_epochs": 10, "batch_size": 64, "train_samples": 3000}),
    "plain-mlp": (PlainMlp, {"max_epochs": 10, "batch_size": 64, "train_samples": 3000}),
    "transformer": (Transformer, {"max_epochs": 10, "batch_size": 64, "train_samples": 3000}),
}


def runs(network: str) -> Iterator[dict[str, Any]]:
    """Train at each rate with each base, and yield the forecasts and the results."""
    kind, settings = NETWORKS[network]
    for base, momentum in BASES:
        for rate in RATES:
            config = {"optimizer": base, "lr": rate, "momentum": momentum, "schedule": "cosine"}
            trial = kind(config={**config, "seed": 1, **settings})
            report: dict[str, Any] = {}
            while not report.get("done"):
                report = trial.train()
            layers = [key for key in report if key.startswith("rotation/")]
            hidden = [layers[index] for index in RotationTarget().hidden(layers)]
            factors = trial.training_state.lr_factors
            (said,) = RateRelation(momentum).distances([rate], factors)
            yield {
                "base": base,
                "momentum": momentum,
                "rate": round(rate, 5),
                "steps": len(factors),
                "said": [round(end, 3) for end in (said.low, said.mid, said.high)],
                "measured": round(float(np.mean([min(report[key], 1.0) for key in hidden])), 3),
                "val_accuracy": round(report["val_accuracy"], 4),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    shown = {}
    for network in asked.networks:
        found = list(runs(network))
        off = [abs(run["said"][1] - run["measured"]) for run in found]
        within = [run["said"][0] <= run["measured"] <= run["said"][2] for run in found]
        shown[network] = {
            "mean_error": round(float(np.mean(off)), 3),
            "largest_error": round(max(off), 3),
            "within_interval": round(float(np.mean(within)), 2),
            "runs": found,
        }
        if not asked.json:
            print(network, {key: shown[network][key] for key in list(shown[network])[:3]})
            for run in found:
                print("  ", run)
    if asked.json:
        print(json.dumps(shown))


if __name__ == "__main__":
    main()
