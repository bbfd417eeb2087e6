"""Studies as a night of tuning leaves them, of any size, for the tests of the page."""

from __future__ import annotations

import json
import math
import random
from typing import Any

from optuna.distributions import FloatDistribution, distribution_to_json

from tuner.rotation import RotationCurve
from tuner.study.result import StudyResult, TrialResult

LAYERS = ("stem.weight", "block1.weight", "block2.weight", "block3.weight", "head.weight")
LR = FloatDistribution(1e-4, 1.0, log=True)
PLAIN = {"lr": "lr", "optimizer": "optimizer", "layers": LAYERS, "name": "night"}
# What would run, or break out of where it is written, if it were taken for anything but text.
EVIL = "</script><script>window.ran=1</script><!--<img src=x onerror=window.ran=1>"
HOSTILE = {
    "lr": "params/conv.weight[0]['a\\\"b']",
    "optimizer": EVIL,
    "layers": ("a.b[0]", EVIL, "x'];window.ran=1;//", '"+alert(1)+"', '\\"+(window.ran=1)+\\"'),
    "name": f"n{EVIL}",
}


def night(trials: int, epochs: int = 20, names: dict[str, Any] = PLAIN) -> StudyResult:
    """Return a study by successive halving: most trials pruned early, a few failed or running."""
    draw = random.Random(trials)
    return StudyResult(
        name=names["name"],
        metric="val_accuracy" if names is PLAIN else f"val.acc['{EVIL}']",
        mode="max",
        max_epochs=epochs,
        num_trials=trials,
        space=json.dumps({names["lr"]: distribution_to_json(LR)}),
        trials=tuple(_trial(number, draw, epochs, names) for number in range(trials)),
    )


def _trial(number: int, draw: random.Random, epochs: int, names: dict[str, Any]) -> TrialResult:
    lr = 10 ** draw.uniform(-4, 0)
    # The best learning rates are at the edge of their range, which is advised on.
    quality = math.exp(-(((math.log10(lr) - 0.5) / 2) ** 2)) * draw.uniform(0.9, 1)
    weights = (60 * quality**3, 30, 1, 1)
    state = draw.choices(("complete", "pruned", "failed", "running"), weights)[0]
    ends = {"complete": epochs, "failed": 1, "running": epochs // 2}
    last = ends.get(state) or draw.choice((1, 1, 2, 4))
    curve = RotationCurve(layers=names["layers"], max_epochs=epochs)
    for epoch in range(1, last + 1):
        done = epoch / epochs
        turned = quality * (1 - math.exp(-4 * done))
        curve = curve.append(
            epoch,
            {layer: turned * (0.6 + 0.1 * place) for place, layer in enumerate(names["layers"])},
            lr_progress=done,
            train_loss=2.3 - 2 * quality * done**0.5,
            metric=0.1 + 0.85 * quality * done**0.3,
        )
    reason = {
        "pruned": f"peers: place {number} at epoch {last} by {names['optimizer']}; saves epochs",
        "failed": f"RuntimeError: CUDA out of memory {names['optimizer']}",
    }
    return TrialResult(
        number=number,
        state=state,
        value=curve.metric[-1],
        params={
            names["lr"]: lr,
            "weight_decay": 10 ** draw.uniform(-6, -2),
            names["optimizer"]: draw.choice(["sgd", "adamw", names["optimizer"]]),
            "nesterov": draw.random() < 0.5,
            "clip": draw.choice([None, 1.0, "auto"]),
        },
        curve=curve,
        epochs=float(last),
        seconds=1.7 * last,
        reason=reason.get(state, ""),
        checkpoint=f"/studies/{names['name']}/trial-{number}" if state == "complete" else None,
        test={"test_accuracy": curve.metric[-1] - 0.01} if state == "complete" else {},
        audit="peers: place 9 of 20" if state == "complete" and draw.random() < 0.05 else "",
    )
