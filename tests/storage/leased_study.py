"""A driver that reports whenever it is asked to: python leased_study.py URL FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from optuna.study import StudyDirection

from tuner.errors import InvalidInput
from tuner.storage.database import open_database
from tuner.storage.lease import worker_of
from tuner.storage.write_behind import WriteBehindDatabase


def drive(url: str, folder: Path) -> None:
    """Create a trial; report to it, say so and wait for a line, until an error ends it."""
    folder.mkdir()
    behind = WriteBehindDatabase(open_database(url), "leased", worker_of(folder, folder / "trials"))
    behind.create_new_study([StudyDirection.MAXIMIZE], "leased")
    trial = behind.create_new_trial(0)
    step = 0
    while True:
        step += 1
        behind.set_trial_intermediate_value(trial, step, 0.5)
        behind.flush()
        print("reported", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    try:
        drive(sys.argv[1], Path(sys.argv[2]))
    except InvalidInput as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(2)
