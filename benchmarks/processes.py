"""Compare an epoch on several one-thread processes with one process of as many threads.

Measures whole epochs, with validation, of `digits-mlp` and of `fashion-cnn` on a part of its
images. The ways train in turn, from the start in each round. The first epoch of a round does not
count. Prints the median over all other epochs, and the shortest and the longest round.

    python benchmarks/processes.py --json
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import torch

from trainables import find

TASKS: dict[str, dict[str, Any]] = {
    "digits-mlp": {"max_epochs": 41},
    "fashion-cnn": {"max_epochs": 3, "train_samples": 6_000},
}


def epoch_times(task: str, processes: int, threads: int) -> list[float]:
    """Return the seconds of each epoch after the first, in a trial with this many threads."""
    torch.set_num_threads(threads)
    config = {**TASKS[task], "reports_per_epoch": 1, "processes": processes}
    trial = find(task)(config=config)
    times = [trial.step()["epoch_s"] for _ in range(config["max_epochs"])]
    trial.stop()
    return times[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2, help="processes, or threads of one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, Any] = {
        "count": given.count,
        "rounds": given.rounds,
        "torch": torch.__version__,
    }
    for task in TASKS:
        ways = {
            "one_thread": (1, 1),
            "threads": (1, given.count),
            "processes": (given.count, given.count),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(given.rounds):
            for way, (processes, threads) in ways.items():
                times[way] += epoch_times(task, processes, threads)
        of = {way: statistics.median(seconds) for way, seconds in times.items()}
        found[task] = {
            **{f"{way}_s": round(seconds, 5) for way, seconds in of.items()},
            **{f"{way}_s_range": [round(min(s), 5), round(max(s), 5)] for way, s in times.items()},
            "processes_over_threads": round(of["processes"] / of["threads"], 3),
            "processes_over_one_thread": round(of["processes"] / of["one_thread"], 3),
        }
    print(json.dumps(found, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
