"""The keys of a trial's config: the rule and the default of each, checked once.

`read_settings` checks a config and returns its `Settings`. The keys of the optimizer have no
default here: `build_optimizer` has one for each optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from trainables.training import DEFAULT_EPOCHS
from trainables.training.optimizers import OPTIMIZERS
from trainables.training.schedules import SCHEDULES
from tuner.errors import InvalidInput, unknown_name

# Strict: Python accepts a bool as a number, and pydantic a text. Both are errors here.
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, extra="ignore")

# The description of a field is its rule in the error message.
AtLeast1 = Annotated[int, Field(ge=1, description="a whole number >= 1")]
Positive = Annotated[float, Field(gt=0, description="a number > 0")]
NotNegative = Annotated[float, Field(ge=0, description="a number >= 0")]
BelowOne = Annotated[float, Field(ge=0, lt=1, description="a number in [0, 1)")]
Flag = Annotated[bool, Field(description="true or false")]
InsideUnit = Annotated[float, Field(gt=0, lt=1)]

# Pydantic does not check a default, so that a given None is still refused.
_OWN_DEFAULT: Any = None


class OptimizerConfig(BaseModel):
    """The keys that `build_optimizer` reads; a missing key has the optimizer's own default."""

    model_config = _STRICT

    optimizer: str = "sgd"
    lr: Positive = _OWN_DEFAULT
    momentum: BelowOne = _OWN_DEFAULT
    nesterov: Flag = _OWN_DEFAULT
    weight_decay: NotNegative = _OWN_DEFAULT
    beta1: BelowOne = _OWN_DEFAULT
    beta2: BelowOne = _OWN_DEFAULT
    alpha: float = Field(_OWN_DEFAULT, gt=-1, lt=1, description="a number in (-1, 1)")
    layer_rates: dict[str, NotNegative] | None = Field(
        None,
        description="a mapping of layer name patterns to numbers >= 0, or None for 1 everywhere",
    )
    train_others: Flag = _OWN_DEFAULT


class Settings(BaseModel):
    """A trial's checked config, without the keys of `OptimizerConfig`.

    Example:
        >>> read_settings({"batch_size": 64, "schedule": "cosine"}).batch_size
        64
    """

    model_config = _STRICT

    max_epochs: AtLeast1 = DEFAULT_EPOCHS
    batch_size: AtLeast1 = 128
    seed: int = Field(0, ge=0, lt=2**32, description="a whole number in [0, 2**32)")
    train_samples: Annotated[int, Field(ge=2)] | None = Field(
        None, description="a whole number >= 2, or None for all"
    )
    data_dir: str | Path | None = Field(None, description="the path of a folder, or None")
    num_workers: int = Field(0, ge=0, description="a whole number >= 0")
    processes: Annotated[int, Field(ge=1)] | None = Field(
        None, description="a whole number >= 1, or None for one on each reserved GPU"
    )
    """None: one process on each GPU that the trial has reserved, and one process on CPUs."""
    checkpoint_every_s: NotNegative = 30.0
    reports_per_epoch: AtLeast1 | tuple[AtLeast1, AtLeast1] | None = Field(
        None,
        description="a whole number >= 1, or two of them, of the first epoch and of each later one",
    )
    """None: 1, and up to 4 in the first epoch; see `reports_in_epoch`."""
    amp: Literal["auto", "off"] = Field("auto", description="'auto' or 'off'")
    compile: Flag = False
    """Whether to compile the model with `torch.compile`; it pays on GPUs and in long runs."""
    final_distance: InsideUnit | None = Field(
        None, description="a number in (0, 1), or None for the lr"
    )
    """Replaces lr under Layca: the rotation that the hidden layers reach at the end of the run.
    `tuner.rotation.rate` computes the rate."""
    schedule: str = "constant"
    warmup_epochs: NotNegative = 0.0
    step_factor: Positive = 0.2
    step_at: tuple[InsideUnit, ...] = Field(
        (0.5, 0.75), description="a list of shares of the run, each in (0, 1)"
    )

    @field_validator("reports_per_epoch", "step_at", mode="before")
    @classmethod
    def _list_is_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


NAMED: Mapping[str, tuple[str, ...]] = {"optimizer": tuple(OPTIMIZERS), "schedule": SCHEDULES}
"""The keys whose value is a name, and the names."""

_FIELDS = {**Settings.model_fields, **OptimizerConfig.model_fields}

KEYS = frozenset(_FIELDS)
"""Every config key that `RotationTrainable` reads; a subclass may read others."""


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with Python numbers for NumPy scalars, also inside lists and mappings.

    A checkpoint that holds NumPy scalars cannot be loaded safely.
    """
    return {key: _plain(value) for key, value in config.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    return value


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Check a trial's config and return its settings.

    Args:
        config: the keys to check; keys that are not in `KEYS` belong to the subclass.

    Raises:
        InvalidInput: a value breaks its rule; the first such value is named.
    """
    config = plain_config(config)
    for key, names in NAMED.items():
        if key in config and config[key] not in names:
            raise unknown_name(key, str(config[key]), names)
    try:
        OptimizerConfig.model_validate(config)
        settings = Settings.model_validate(config)
    except ValidationError as error:
        raise _in_one_line(error, config) from error
    if settings.warmup_epochs >= settings.max_epochs:
        raise InvalidInput(
            f"warmup_epochs must be < max_epochs ({settings.max_epochs}), "
            f"got {settings.warmup_epochs:g}; use 0 for no warmup"
        )
    if settings.final_distance is not None:
        _check_sets_rotation("final_distance", config, "give an lr instead")
        _check_no_lr(config)
    if config.get("layer_rates"):
        _check_sets_rotation("layer_rates", config, "leave it out")
    return settings


def _in_one_line(error: ValidationError, config: Mapping[str, Any]) -> InvalidInput:
    """Return the first problem of a validation as one line: rule, value, remedy."""
    key = str(error.errors()[0]["loc"][0])
    return InvalidInput(
        f"{key} must be {_FIELDS[key].description}, got {config[key]!r}; "
        "leave it out for the default"
    )


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
            f"final_distance replaces lr, got both ({config['final_distance']} and "
            f"{config['lr']}); leave one out"
        )
