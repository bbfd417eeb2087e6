"""Measure the cost of one decision, by the number of known trials of the study.

The trial has ten layers and twenty reports, four in each epoch. It is the worst of all, so the
decision also writes a reason. `with_report` adds one more report at a rung. Between rungs a report
costs almost nothing.

    python benchmarks/decide.py --json
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Callable
from functools import partial

from tuner.rotation import HalvingState, PruningConfig, RotationCurve, decide

KNOWN = (10, 100, 1_000, 10_000)
MAX_EPOCHS = 20
PER_EPOCH = 4
REPORTS = 20
LAYERS = tuple(f"block{n}.conv.weight" for n in range(10))
# The epochs of the rungs: within the first epoch, and at the end of the first, second and fourth.
AT_RUNGS = (0.25, 1.0, 2.0, 4.0)


def trial_of(quality: float, epochs: tuple[float, ...]) -> RotationCurve:
    """Return a curve whose metric, loss and rotation all follow the quality, in (0, 1)."""
    shares = [epoch / MAX_EPOCHS for epoch in epochs]
    return RotationCurve(
        layers=LAYERS,
        max_epochs=MAX_EPOCHS,
        epochs=epochs,
        lr_progress=tuple(shares),
        distances=tuple((quality * share,) * len(LAYERS) for share in shares),
        train_loss=tuple(2 - quality * share for share in shares),
        metric=tuple(quality if epoch.is_integer() else math.nan for epoch in epochs),
    )


def state_of(known: int) -> HalvingState:
    """Return the state of trials of random quality that have all reached the last rung."""
    draw = random.Random(0)
    curves = {number: trial_of(draw.uniform(0.01, 1), AT_RUNGS) for number in range(known)}
    return HalvingState(PruningConfig(audit=0), MAX_EPOCHS).with_curves(curves)


def median_ms(call: Callable[[], object], times: int) -> float:
    """Return the median time of a call, in milliseconds."""
    call()  # the first call also does one-time work
    taken_ms = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        taken_ms.append(1000 * (time.perf_counter() - begun))
    return round(statistics.median(taken_ms), 4)


def measure(times: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds of a decision, without and with one more report, by known trials."""
    decide_ms, with_report_ms = {}, {}
    worst = trial_of(0.001, tuple(report / PER_EPOCH for report in range(1, REPORTS + 1)))
    at_rung = trial_of(0.001, AT_RUNGS)
    for known in KNOWN:
        others = state_of(known)
        state = others.with_curves({known: worst})
        decide_ms[str(known)] = median_ms(partial(decide, known, worst, state), times)
        with_report_ms[str(known)] = median_ms(
            partial(others.with_report, known, at_rung), max(times // 10, 5)
        )
    return {"decide_ms": decide_ms, "with_report_ms": with_report_ms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    measured = measure(arguments.times)
    if arguments.json:
        print(json.dumps(measured))
        return
    for name, figures in measured.items():
        for known, figure in figures.items():
            print(f"{name:16} {figure:8.3f} ms with {int(known):6,} trials known")


if __name__ == "__main__":
    main()
