"""Measure what recording a report costs the driver, by the kind of storage.

Each trial makes 20 reports of ten layers' rotation and one metric through Optuna's own API. After
each it calls `should_prune`. The peers are Optuna's own storages.

    python benchmarks/storage.py --json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

import tuner
from tuner.storage.journal import WriteBehindJournal
from tuner.storage.write_behind import WriteBehindDatabase

REPORTS = 20
LAYERS = {f"block{n}.conv.weight": 0.1 * n for n in range(10)}


def ms_per_report(storage: BaseStorage, trials: int) -> float:
    """Run the trials, and return the milliseconds per report."""
    study = optuna.create_study(
        storage=storage,
        study_name="bench",
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.NopPruner(),
    )
    spent = 0.0
    for _ in range(trials):
        trial = study.ask()
        trial.suggest_float("lr", 0, 1)
        begun = time.perf_counter()
        for epoch in range(1, REPORTS + 1):
            tuner.report_rotation(trial, epoch, LAYERS, lr_progress=epoch / REPORTS)
            trial.report(0.5, epoch)
            trial.should_prune()
        spent += time.perf_counter() - begun
        study.tell(trial, 0.5)
    return 1000 * spent / trials / REPORTS


def measure(trials: int) -> dict[str, float]:
    """Return the milliseconds per report for each storage."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ms_per_report(InMemoryStorage(), trials=1)  # the first run also imports modules
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = WriteBehindJournal(folder / "behind.log")
        database = WriteBehindDatabase(RDBStorage(f"sqlite:///{folder}/behind.db"), "bench")
        storages: dict[str, BaseStorage] = {
            "memory": InMemoryStorage(),
            "journal_written_behind": JournalStorage(journal),
            "database_written_behind": database,
            "journal_direct": JournalStorage(JournalFileBackend(str(folder / "direct.log"))),
            "sqlite_direct": RDBStorage(f"sqlite:///{folder}/direct.db"),
        }
        measured = {
            name: round(ms_per_report(storage, trials), 4) for name, storage in storages.items()
        }
        journal.close()
        database.close()
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    measured = measure(arguments.trials)
    if arguments.json:
        print(json.dumps({"trials": arguments.trials, "ms_per_report": measured}))
        return
    for name, figure in measured.items():
        print(f"{name:24} {figure:8.3f} ms a report")


if __name__ == "__main__":
    main()
