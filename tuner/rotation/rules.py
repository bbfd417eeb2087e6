"""The rules that end a trial early, each a function from the case to a reason or None."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuner.rotation.curve import RotationCurve
from tuner.rotation.field import EPOCH_ROUNDING, Criteria, Field, has_diverged
from tuner.rotation.forecast import Forecast
from tuner.rotation.rung import FEATURES, Rung

# High rates, and none of the usual warmup, can turn layers to 1 without learning anything
# (arXiv:1806.01603). Of 106 recorded 20-epoch runs this catches 4, all in the worst fifth of their
# family by final accuracy [measured].
_TURNED = 0.5
_EPOCHS_TO_LEARN = 2


@dataclass(frozen=True)
class Case:
    """What the rules look at: one trial at its last report, which must exist."""

    number: int
    curve: RotationCurve
    field: Field
    forecast: Forecast | None

    @property
    def criteria(self) -> Criteria:
        return self.field.criteria

    @property
    def epoch(self) -> float:
        """Epochs finished, rounded to a whole number where it is one but for rounding."""
        epoch = self.curve.epochs[-1]
        return float(round(epoch)) if abs(epoch - round(epoch)) < EPOCH_ROUNDING else epoch

    @property
    def reached(self) -> float:
        """What the layers have reached; NaN if unknown."""
        return self.criteria.target.reached(self.curve.distances[-1], self.curve.layers)

    @property
    def rung(self) -> Rung | None:
        """The last rung that the trial has passed, if it is compared with others there."""
        rung = self.field.rung_of(self.curve)
        return rung if rung is not None and self.number in rung else None


def diverged(case: Case) -> str | None:
    """Prune when the train loss is no longer finite, or no number after it has been one."""
    if not has_diverged(case.curve, len(case.curve) - 1):
        return None
    loss = case.curve.train_loss[-1]
    return f"diverged: the train loss is {loss:g} after epoch {round(case.epoch, 3):g}"


def rotating_without_learning(case: Case) -> str | None:
    """Prune when the layers have turned far and the train loss is where it started, or above."""
    losses = [loss for loss in case.curve.train_loss if not math.isnan(loss)]
    warm = case.epoch >= max(case.criteria.warmup_epochs, _EPOCHS_TO_LEARN)
    if not warm or len(losses) < 2 or not case.reached > _TURNED or losses[-1] < losses[0]:
        return None
    return (
        f"rotating without learning: the hidden layers have turned by {case.reached:.2f}, over "
        f"{_TURNED:g}, and the train loss went from {losses[0]:.4g} to {losses[-1]:.4g} by epoch "
        f"{case.epoch:g}{_furthest_behind(case)}"
    )


def behind_peers(case: Case, *, closing: bool = False) -> str | None:
    """Prune unless the trial is among those that may go on from the last rung it has passed.

    Successive halving without a barrier (Li et al., arXiv:1810.05934), by metric, train loss and
    rotation as far as each has ranked this study's own trials. `closing` gives the reason of a
    trial that is not to go on whatever its place: others had gone on when it came to it.

    A target that is out of reach is said first. It ends no trial that its peers let go on: good
    runs can end far below a quarter turn, and pruning for the target alone lost the best of them
    wherever it was tried (docs/log.md, 2026-11-23).
    """
    rung = case.rung
    if rung is None:
        return None
    place, allowed = rung.place(case.number), case.field.allowed(rung, more_to_come=False)
    if place <= allowed and not closing:
        return None
    return (
        f"{_target_out_of_reach(case)}peers: place {place} of {len(rung)} at epoch {rung.epoch:g} "
        f"by {_compared_by(case, rung)}, where the best {allowed} of {case.field.started} go on"
        f"{_furthest_behind(case)}"
    )


def _target_out_of_reach(case: Case) -> str:
    """Return a clause that even the upper end of the forecast misses the target; empty if not, or
    where rotation has not ranked this study's own trials."""
    if case.forecast is None or case.field.weights.rotation_is != "informative":
        return ""
    target = case.criteria.target
    best_hope = target.reached(case.forecast.high, case.curve.layers)
    if not best_hope < target.floor:
        return ""
    return (
        f"target out of reach: the hidden layers are forecast to end at {best_hope:.2f} at the "
        f"most, below {target.floor:.2f}; "
    )


def _compared_by(case: Case, rung: Rung) -> str:
    """Say what trials are compared by at a rung: what is known there and has a weight."""
    used = case.field.weights.used
    names = [
        case.criteria.metric_name if name == "metric" else name
        for name, weight, is_known in zip(FEATURES, used, rung.known, strict=True)
        if weight > 0 and is_known
    ]
    if not names:
        return "nothing that has a weight"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _furthest_behind(case: Case) -> str:
    """Return a clause on the hidden layer forecast to turn least; empty without a forecast."""
    if case.forecast is None:
        return ""
    forecast, target = case.forecast, case.criteria.target
    hidden = [
        index for index in target.hidden(forecast.layers) if not math.isnan(forecast.mid[index])
    ]
    if not hidden:
        return ""
    least = min(hidden, key=lambda index: forecast.mid[index])
    return (
        f"; furthest behind is {forecast.layers[least]}, forecast to end at "
        f"{forecast.mid[least]:.2f} (90 % interval {forecast.low[least]:.2f} to "
        f"{forecast.high[least]:.2f}) against {target.floor:.2f}"
    )
