"""Measure the effect of a separate rate for each layer, so that all layers end equally far.

Trains the five families under Layca to a final distance of .95 and of .6, from several seeds. Takes
the layers' median distances, and computes the multipliers that bring them to the hidden layers'
median. Trains again from the same seeds with these multipliers:

    hidden    of the hidden layers
    all       of the first layer, the head and the shortcuts too
    planted   of one hidden layer in the middle, whose first run had an eighth of the rate

python benchmarks/layer_rates.py [--json] [--families cnn ...] [--scopes hidden ...] [--seeds 6]
    [--first-seed 0]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from families import FAMILIES

from tuner.rotation import RotationTarget
from tuner.rotation.rate import at_times, levelling_rates, power_between

AIMS = (0.95, 0.6)
METRICS = ("val_accuracy", "test_accuracy")
SCOPES = ("hidden", "all", "planted")
_SLOW = 1 / 8
_PREFIX = "rotation/"
Rates = Mapping[str, float]
Report = Mapping[str, Any]


def trained(family: str, aim: float, rates: Rates, seeds: Sequence[int]) -> list[Report]:
    """Train from each seed, and return the last report of each run."""
    reports = []
    for seed in seeds:
        config = {"optimizer": "layca", "momentum": 0.9, "final_distance": aim, "seed": seed}
        setting = {"schedule": "cosine", "batch_size": 128, "layer_rates": dict(rates)}
        trial = FAMILIES[family](config={**config, **setting})
        report: dict[str, Any] = {}
        while not report.get("done"):
            report = trial.train()
        reports.append(report)
    return reports


def ends_of(reports: Sequence[Report]) -> dict[str, float]:
    """Return each layer's median final distance over the seeds."""
    return {
        key.removeprefix(_PREFIX): float(np.median([report[key] for report in reports]))
        for key in reports[0]
        if key.startswith(_PREFIX)
    }


def means(reports: Sequence[Report]) -> dict[str, float]:
    """Return the metrics' means over the seeds."""
    return {key: round(float(np.mean([each[key] for each in reports])), 4) for key in METRICS}


def gains(before: Sequence[Report], after: Sequence[Report]) -> dict[str, list[float]]:
    """Return the mean gain of each metric over the seeds, and its standard error."""
    shown = {}
    for key in METRICS:
        by = np.array([late[key] - early[key] for early, late in zip(before, after, strict=True)])
        error = by.std(ddof=1) / math.sqrt(len(by))
        shown[key] = [round(float(by.mean()), 4), round(float(error), 4)]
    return shown


def compared(
    family: str, aim: float, seeds: Sequence[int], scopes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Train without multipliers and with those of each scope, and yield the results."""
    plain = trained(family, aim, {}, seeds)
    layers = list(ends_of(plain))
    hidden = [layers[index] for index in RotationTarget().hidden(layers)]
    level = float(np.median([ends_of(plain)[layer] for layer in hidden]))
    middle = hidden[len(hidden) // 2]
    for scope in scopes:
        now = {middle: _SLOW} if scope == "planted" else {}
        before = trained(family, aim, now, seeds) if now else plain
        ends = ends_of(before)
        chosen = {"hidden": hidden, "all": layers, "planted": [middle]}[scope]
        rates = levelling_rates({layer: ends[layer] for layer in chosen}, level, now)
        found: dict[str, Any] = {"family": family, "aim": aim, "scope": scope}
        found |= {"level": round(level, 3), "before": means(before), "layer_rates": rates}
        if rates:
            after = trained(family, aim, {**now, **rates}, seeds)
            found |= _came_of(ends, ends_of(after), chosen, rates, now)
            found["gain"] = gains(before, after)
        yield found


def _came_of(
    ends: Rates, then: Rates, chosen: Sequence[str], rates: Rates, now: Rates
) -> dict[str, Any]:
    times = {layer: rate / now.get(layer, 1.0) for layer, rate in rates.items()}
    off = [abs(at_times(ends[layer], times[layer]) - then[layer]) for layer in rates]
    powers = [power_between(ends[layer], then[layer], times[layer]) for layer in rates]
    return {
        "distances": {layer: [round(ends[layer], 3), round(then[layer], 3)] for layer in ends},
        "spread": [
            round(max(which[layer] for layer in chosen) - min(which[layer] for layer in chosen), 3)
            for which in (ends, then)
        ],
        "error": [round(float(np.mean(off)), 3), round(max(off), 3)],
        "powers": [round(power, 2) for power in powers],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--scopes", nargs="+", choices=SCOPES, default=list(SCOPES))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    shown = []
    for family in asked.families:
        for aim in AIMS:
            for found in compared(family, aim, seeds, asked.scopes):
                shown.append(found)
                if not asked.json:
                    print(json.dumps(found), flush=True)
    if asked.json:
        print(json.dumps(shown))


if __name__ == "__main__":
    main()
