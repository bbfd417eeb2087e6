"""The schema of a study: the attributes that trials and runs write, and functions to read them.

Optuna stores one float per step, so each report's rotation is one user attribute, named by its
epoch. It is written once, never rewritten, and its size does not grow with the run. Other tools,
such as optuna-dashboard, do not read these attributes. For them the last rotation is stored by
layer as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from tuner.errors import InvalidInput
from tuner.rotation import EpochReport, PruningConfig, RotationCurve, RotationTarget
from tuner.rotation.report import read_number, stored_number

# Attributes of the study: the settings by which its trials are pruned.
ROTATION_TARGET = "rotation_target"  # as `RotationTarget.to_dict` gives it
WARMUP_EPOCHS = "warmup_epochs"  # the first epoch of comparison
# Attributes of a trial.
LAYERS = "rotation:layers"
AUDIT = "audit"  # the reason to prune the trial, if it is a control trial
ADVICE = "advice"  # the title of the advice that the trial tests, if any
CONFIG = "fixed_config"  # config entries of an enqueued trial; they override its space
OPTIMIZER = "optimizer"  # the name of the trial's optimizer, searched or not
START = "start"  # the point of the ladder, if the trial is one of the first of the study
REASON = "reason"  # why the trial was pruned or failed
ERROR = "error"  # the file of a failed trial's traceback, relative to the study's folder
RETRY_OF = "retry_of"  # the number of the failed trial that this one repeats
ROTATION = "rotation"  # the last distance of each layer; see also rotation_min, rotation_mean
TEST = "test"  # metrics on the test split, by name; curves do not hold them
_REPORT = "rotation:"
_NAN = float("nan")


def read_target(attrs: Mapping[str, Any]) -> RotationTarget:
    """Return the rotation target from a study's user attributes, or the default target.

    Older versions stored no target. Other programs may use the attribute's name for other data.
    """
    stored = attrs.get(ROTATION_TARGET)
    try:
        return RotationTarget.from_dict(stored) if isinstance(stored, dict) else RotationTarget()
    except InvalidInput:
        return RotationTarget()


def read_warmup(attrs: Mapping[str, Any]) -> float:
    """Return the warmup in epochs from a study's user attributes, or the default warmup."""
    stored = attrs.get(WARMUP_EPOCHS)
    if isinstance(stored, int | float) and not isinstance(stored, bool) and stored > 0:
        return float(stored)
    return PruningConfig.warmup_epochs


def report_rotation(
    trial: optuna.Trial,
    step: float,
    distances: Mapping[str, float],
    *,
    lr_progress: float = _NAN,
    train_loss: float = _NAN,
    epoch_s: float = _NAN,
) -> None:
    """Store the rotation of one report in an Optuna trial, for `RotationPruner` to read.

    Call it before `trial.should_prune()`, next to `trial.report(value, step)`.

    Args:
        trial: the running trial.
        step: epochs finished, from 1; a fraction within an epoch.
        distances: the cosine distance from initialisation of each layer, in [0, 2].
        lr_progress: share of the run's total learning rate spent so far, in (0, 1]; NaN if unknown.
        train_loss: mean training loss since the last report; NaN if unknown.
        epoch_s: seconds since the last report; NaN if unknown.

    Raises:
        InvalidInput: the layers are not those of the trial's first report, or the step is not > 0.

    Example:
        >>> trial = optuna.create_study().ask()
        >>> report_rotation(trial, 1, {"conv": 0.2, "fc": 0.4}, train_loss=1.3)
        >>> trial.user_attrs["rotation:1"]["distances"]
        [0.2, 0.4]
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

    The metric is stored last. So a reader that finds the metric also finds the rest of the report.

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
    """Store the last rotation of a trial by layer, with its minimum and mean, for other tools.

    Args:
        trial: the running trial, which is about to end.
        stored: the same trial as the study holds it. Without rotation nothing is stored.
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
    """Store metrics on the test split. Pruners do not read them.

    Args:
        trial: the running trial.
        metrics: values by name, such as test_accuracy; NaN if unknown. A value replaces the one
            stored before under its name.
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
    if not isinstance(stored, dict):  # other programs may use the name for other data
        return {}
    return {
        name: read_number(stored, name)
        for name, value in stored.items()
        if value is None or isinstance(value, (int, float))
    }


def whole_config(
    trial: optuna.Trial, stored: FrozenTrial, suggested: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a trial's config: the suggested entries, overridden by the enqueued entries.

    The name of the optimizer is also stored in the trial. The space may set it, and readers of the
    study do not have the space.

    Args:
        trial: the running trial.
        stored: the same trial as the study holds it.
        suggested: the config that the space suggested.
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
    """Return all reports of a trial as one curve; the curve is empty before the first report.

    Args:
        trial: the trial.
        max_epochs: epochs of a whole trial, >= 1.
    """
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
    """Return a trial's reports by ascending epoch; a report without rotation is an empty dict."""
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
    """Return whether the study already holds the whole report of this epoch.

    That is so if the report was written before a crash.

    Args:
        trial: the trial.
        epoch: epochs finished at the report.
        with_metric: whether the report has a metric.
    """
    return epoch in trial.intermediate_values if with_metric else _key(epoch) in trial.user_attrs


def seconds_of(trial: FrozenTrial) -> float:
    """Return the seconds of training that the trial has reported in all."""
    spent = (read_number(report, "epoch_s") for report in reports_of(trial).values())
    return sum(seconds for seconds in spent if not math.isnan(seconds))


def _key(epoch: float) -> str:
    return f"{_REPORT}{int(epoch) if float(epoch).is_integer() else float(epoch)!r}"
