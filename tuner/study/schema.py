"""What a trial writes into its study, and how it is read back.

Optuna stores one float per step, so the rotation of each report is one user attribute, named by
its epoch: it is written once, never rewritten, and its size does not grow with the run. For readers
that know nothing of that, such as optuna-dashboard, the last rotation is stored by layer as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from tuner.errors import InvalidInput
from tuner.rotation import EpochReport, RotationCurve
from tuner.rotation.report import read_number, stored_number

LAYERS = "rotation:layers"
AUDIT = "audit"  # why it would have been pruned, had it not been let finish to measure that
ADVICE = "advice"  # which advice the trial tests, if it was enqueued for one
CONFIG = "fixed_config"  # what an advised trial's config holds whatever its space gives
OPTIMIZER = "optimizer"  # the name of the trial's, searched or not
START = "start"  # which of the study's first trials it is, if its rotation was set for that
REASON = "reason"  # why the trial was pruned, or failed
ROTATION = "rotation"  # the last distances by layer; beside it rotation_min and rotation_mean
TEST = "test"  # metrics on the test split, by name; no curve holds them
_REPORT = "rotation:"
_NAN = float("nan")


def report_rotation(
    trial: optuna.Trial,
    step: float,
    distances: Mapping[str, float],
    *,
    lr_progress: float = _NAN,
    train_loss: float = _NAN,
    epoch_s: float = _NAN,
) -> None:
    """Store one report's rotation in an Optuna trial, where `RotationPruner` finds it.

    Call it before `trial.should_prune()`, next to `trial.report(value, step)`.

    Args:
        trial: the running trial.
        step: epochs finished, from 1; a fraction within an epoch.
        distances: cosine distance from initialisation per layer, in [0, 2].
        lr_progress: share of the run's total learning rate spent so far, in (0, 1]; NaN if unknown.
        train_loss: mean training loss since the last report; NaN if unknown.
        epoch_s: seconds since the last report; NaN if unknown.

    Raises:
        InvalidInput: the layers are not those of the trial's first report, or the step is not > 0.
    """
    _record_rotation(
        trial,
        EpochReport(
            epoch=step,
            layers=tuple(distances),
            distances=tuple(distances.values()),
            lr_progress=lr_progress,
            train_loss=train_loss,
            epoch_s=epoch_s,
        ),
        trial.user_attrs.get(LAYERS),
    )


def record_report(trial: optuna.Trial, report: EpochReport, stored: FrozenTrial) -> None:
    """Store one whole report of a trial.

    The metric comes last, so that a reader who finds the metric finds all else too.

    Args:
        trial: the running trial.
        report: its new report.
        stored: the trial as the study holds it; `trial.user_attrs` copies all earlier reports.

    Raises:
        InvalidInput: the layers are not those of the trial's first report.
    """
    _record_rotation(trial, report, stored.user_attrs.get(LAYERS))
    report_test(trial, report.test)
    if report.metric is not None:
        trial.report(report.metric, int(report.epoch))


def _record_rotation(trial: optuna.Trial, report: EpochReport, known: list[str] | None) -> None:
    layers = list(report.layers)
    if known is None:
        trial.set_user_attr(LAYERS, layers)
    elif known != layers:
        odd = sorted(set(known) ^ set(layers)) or layers
        raise InvalidInput(
            f"every report of a trial must name the same layers in the same order, got another "
            f"{odd[0]!r} at epoch {report.epoch:g}; measure the same model each time"
        )
    trial.set_user_attr(_key(report.epoch), report.to_attribute())


def report_last_rotation(trial: optuna.Trial, stored: FrozenTrial) -> None:
    """Store a trial's last rotation as one can read and plot it: by layer, and its min and mean.

    Args:
        trial: the running trial, which is about to end.
        stored: the same as the study holds it; nothing is added if it has no rotation.
    """
    last = max(reports_of(stored).items(), default=(0.0, {}))[1].get("distances", ())
    layers = stored.user_attrs.get(LAYERS, ())
    known = {layer: d for layer, d in zip(layers, last, strict=False) if d is not None}
    if not known:
        return
    trial.set_user_attr(ROTATION, {layer: round(d, 3) for layer, d in known.items()})
    trial.set_user_attr(f"{ROTATION}_min", round(min(known.values()), 6))
    trial.set_user_attr(f"{ROTATION}_mean", round(math.fsum(known.values()) / len(known), 6))


def report_test(trial: optuna.Trial, metrics: Mapping[str, float]) -> None:
    """Store metrics on the test split, which no pruner sees; later ones replace those of a name.

    Args:
        trial: the running trial.
        metrics: by name, such as test_accuracy; NaN if unknown.
    """
    if not metrics:
        return
    known = trial.user_attrs.get(TEST, {})
    stored = {**known, **{name: stored_number(value) for name, value in metrics.items()}}
    if stored != known:
        trial.set_user_attr(TEST, stored)


def read_test(trial: FrozenTrial) -> dict[str, float]:
    """Return a trial's metrics on the test split, by name; empty if it has none."""
    stored = trial.user_attrs.get(TEST)
    if not isinstance(stored, dict):  # a study made elsewhere may mean something else by the name
        return {}
    return {
        name: read_number(stored, name)
        for name, value in stored.items()
        if value is None or isinstance(value, (int, float))
    }


def whole_config(
    trial: optuna.Trial, stored: FrozenTrial, suggested: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a trial's config: over what is suggested goes what it was enqueued with.

    The name of its optimizer is stored with it, for readers of the study who have no space.
    """
    config = {**suggested, **read_config(stored)}
    optimizer = config.get("optimizer")
    if isinstance(optimizer, str) and stored.user_attrs.get(OPTIMIZER) != optimizer:
        trial.set_user_attr(OPTIMIZER, optimizer)
    return config


def read_config(trial: FrozenTrial) -> dict[str, Any]:
    """Return the config entries that a trial was enqueued with; empty if there are none."""
    stored = trial.user_attrs.get(CONFIG)
    return dict(stored) if isinstance(stored, dict) else {}


def curve_of(trial: FrozenTrial, max_epochs: int) -> RotationCurve:
    """Return all reports of a trial as one curve; it is empty if there is none."""
    layers = tuple(trial.user_attrs.get(LAYERS, ()))
    return RotationCurve.from_reports(
        (
            EpochReport.from_attribute(
                epoch,
                layers,
                stored,
                trial.intermediate_values.get(epoch),  # type: ignore[call-overload]
            )
            for epoch, stored in reports_of(trial).items()
        ),
        layers,
        max_epochs,
    )


def reports_of(trial: FrozenTrial) -> dict[float, dict[str, Any]]:
    """Return a trial's reports by epoch, ascending; a report without rotation is an empty one."""
    reports: dict[float, dict[str, Any]] = {
        float(epoch): {}
        for epoch in trial.intermediate_values
        if epoch > 0  # plain Optuna may count from 0, before any epoch is finished
    }
    for key, report in trial.user_attrs.items():
        if key.startswith(_REPORT) and key != LAYERS:
            reports[float(key.removeprefix(_REPORT))] = report
    return dict(sorted(reports.items()))


def has_report(trial: FrozenTrial, epoch: float, with_metric: bool) -> bool:
    """Whether the study holds a trial's report at this epoch whole, from before a crash, say."""
    return epoch in trial.intermediate_values if with_metric else _key(epoch) in trial.user_attrs


def seconds_of(trial: FrozenTrial) -> float:
    """Return the seconds that the trial has trained, over all its reports."""
    spent = (read_number(report, "epoch_s") for report in reports_of(trial).values())
    return sum(seconds for seconds in spent if not math.isnan(seconds))


def _key(epoch: float) -> str:
    return f"{_REPORT}{int(epoch) if float(epoch).is_integer() else float(epoch)!r}"
