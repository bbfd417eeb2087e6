"""The keys of a trial's config: each key's rule and default, checked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from trainables.training.optimizers import OPTIMIZERS
from trainables.training.schedules import SCHEDULES
from tuner.errors import InvalidInput, unknown_name


@dataclass(frozen=True)
class Rule:
    """What a key's value must be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _is(value: Any, kind: type) -> bool:
    # bool is a number to Python, and never what was meant here.
    return isinstance(value, kind) and not isinstance(value, bool)


def _whole(least: int) -> Rule:
    return Rule(
        f"a whole number >= {least}",
        lambda value: _is(value, Integral) and value >= least,
    )


def _is_reports(value: Any) -> bool:
    numbers = value if isinstance(value, (list, tuple)) and len(value) == 2 else [value]
    return value is None or all(_is(number, Integral) and number >= 1 for number in numbers)


def _is_rates(value: Any) -> bool:
    return value is None or (
        isinstance(value, Mapping)
        and all(isinstance(pattern, str) for pattern in value)
        and all(NOT_NEGATIVE.holds(rate) for rate in value.values())
    )


POSITIVE = Rule("a number > 0", lambda value: _is(value, Real) and 0 < value < float("inf"))
NOT_NEGATIVE = Rule("a number >= 0", lambda value: _is(value, Real) and 0 <= value < float("inf"))
SHARE = Rule("a number in [0, 1)", lambda value: _is(value, Real) and 0 <= value < 1)
BETWEEN = Rule("a number in (-1, 1)", lambda value: _is(value, Real) and -1 < value < 1)
FLAG = Rule("true or false", lambda value: isinstance(value, bool))

RULES: Mapping[str, Rule] = {
    "max_epochs": _whole(1),
    "batch_size": _whole(1),
    "seed": Rule(
        "a whole number in [0, 2**32)", lambda value: _is(value, Integral) and 0 <= value < 2**32
    ),
    "train_samples": Rule(
        "a whole number >= 2, or None for all",
        lambda value: value is None or (_is(value, Integral) and value >= 2),
    ),
    "data_dir": Rule(
        "the path of a folder, or None",
        lambda value: value is None or isinstance(value, (str, Path)),
    ),
    "num_workers": _whole(0),
    "processes": Rule(
        "a whole number >= 1, or None for one on each reserved GPU",
        lambda value: value is None or (_is(value, Integral) and value >= 1),
    ),
    "checkpoint_every_s": NOT_NEGATIVE,
    "reports_per_epoch": Rule(
        "a whole number >= 1, or two of them, of the first epoch and of each later one",
        _is_reports,
    ),
    "amp": Rule("'auto' or 'off'", lambda value: value in ("auto", "off")),
    "compile": FLAG,
    "warmup_epochs": NOT_NEGATIVE,
    "step_factor": POSITIVE,
    "step_at": Rule(
        "a list of shares of the run, each in (0, 1)",
        lambda value: (
            isinstance(value, (list, tuple)) and all(_is(at, Real) and 0 < at < 1 for at in value)
        ),
    ),
    "lr": POSITIVE,
    "momentum": SHARE,
    "nesterov": FLAG,
    "weight_decay": NOT_NEGATIVE,
    "beta1": SHARE,
    "beta2": SHARE,
    "alpha": BETWEEN,
    "layer_rates": Rule(
        "a mapping of layer name patterns to numbers >= 0, or None for 1 everywhere", _is_rates
    ),
    "final_distance": Rule(
        "a number in (0, 1), or None for the lr",
        lambda value: value is None or (_is(value, Real) and 0 < value < 1),
    ),
    "train_others": FLAG,
}

NAMED: Mapping[str, tuple[str, ...]] = {"optimizer": tuple(OPTIMIZERS), "schedule": SCHEDULES}

KEYS = frozenset(RULES) | frozenset(NAMED)
"""Every config key that the base class itself reads; a subclass may read others."""


@dataclass(frozen=True)
class Settings:
    """A trial's checked config, less what belongs to the optimizer (see `build_optimizer`)."""

    max_epochs: int = 10
    batch_size: int = 128
    seed: int = 0
    train_samples: int | None = None
    data_dir: str | Path | None = None
    num_workers: int = 0
    processes: int | None = None
    """None is for one on each GPU that the trial has reserved, and one on CPUs."""
    checkpoint_every_s: float = 30.0
    reports_per_epoch: int | Sequence[int] | None = None
    """None is for 1, and in the first epoch for up to 4; see `parts.reports_in_epoch`."""
    amp: str = "auto"
    compile: bool = False
    """Whether `torch.compile` makes the model's passes; it pays on GPUs and in long runs."""
    final_distance: float | None = None
    """In place of lr, under Layca: how far the hidden layers are to turn in the whole run; see
    `tuner.rotation.rate`."""
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    step_factor: float = 0.2
    step_at: Sequence[float] = (0.5, 0.75)


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with NumPy's scalars as Python's, as a safely loaded checkpoint needs."""
    return {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in config.items()
    }


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Check a plain config and return its settings; keys not in `KEYS` are left to the subclass.

    Raises `InvalidInput` for the first value that breaks its rule.
    """
    for key, names in NAMED.items():
        if key in config and config[key] not in names:
            raise unknown_name(key, str(config[key]), names)
    for key, rule in RULES.items():
        if key in config and not rule.holds(config[key]):
            raise InvalidInput(
                f"{key} must be {rule.words}, got {config[key]!r}; leave it out for the default"
            )
    read = Settings.__dataclass_fields__.keys() & config.keys()
    settings = Settings(**{key: config[key] for key in read})
    if settings.warmup_epochs >= settings.max_epochs:
        raise InvalidInput(
            f"warmup_epochs must be < max_epochs ({settings.max_epochs}), "
            f"got {settings.warmup_epochs}; use 0 for no warmup"
        )
    if settings.final_distance is not None:
        _check_sets_rotation("final_distance", config, "give an lr instead")
        _check_no_lr(config)
    if config.get("layer_rates"):
        _check_sets_rotation("layer_rates", config, "leave it out")
    return settings


def _check_sets_rotation(key: str, config: Mapping[str, Any], otherwise: str) -> None:
    optimizer = str(config.get("optimizer", "sgd"))
    if not optimizer.startswith("layca"):
        raise InvalidInput(
            f"{key} must come with an optimizer that sets the rotation, got {optimizer}; "
            f"use layca, or {otherwise}"
        )


def _check_no_lr(config: Mapping[str, Any]) -> None:
    if "lr" in config:
        raise InvalidInput(
            f"final_distance stands in place of lr, got both ({config['final_distance']} and "
            f"{config['lr']}); leave one out"
        )
