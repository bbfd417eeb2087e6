"""Put configurations into a study, for its driver to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import optuna

from tuner.errors import InvalidInput
from tuner.study.folder import StudyFolder, open_for_writing
from tuner.study.load import FIXED_PARAMS, open_study
from tuner.study.schema import ADVICE, CONFIG, read_config


@dataclass(frozen=True)
class Enqueued:
    """What came of it: the new trials' numbers, in order, and how many trials there are now."""

    numbers: tuple[int, ...]
    trials: int


@dataclass(frozen=True)
class QueuedTrial:
    """A trial to run.

    Attributes:
        advice: that it tests.
        params: its parameters, as the space names them.
        config: entries that go over what the space makes of these, such as layer_rates.
    """

    advice: str
    params: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)


def enqueue(home: StudyFolder, wanted: Sequence[QueuedTrial]) -> Enqueued:
    """Put trials into a study that wait to be run, each with the advice that it tests.

    A configuration that a trial has already, or waits with, is not put in again. A parameter may
    lie outside of its range: Optuna takes it as it is, and all its samplers go on with it.

    The driver of a study in a database finds them within seconds. A study in its folder must have
    no driver meanwhile.

    Args:
        home: the study's folder.
        wanted: the trials.

    Raises:
        InvalidInput: a process runs the study in its folder, or nothing was ever begun in it.
    """
    alone = nullcontext() if home.storage_url.exists() else home.locked()
    with alone, open_for_writing(home, None) as storage:
        if not storage.get_all_studies():
            raise InvalidInput(
                f"a study must have been begun to enqueue trials, {home.name!r} holds nothing yet; "
                "run it"
            )
        study = open_study(storage, home.name, home.path)
        known = [(_params(trial), read_config(trial)) for trial in study.get_trials(deepcopy=False)]
        numbers = []
        for each in wanted:
            params, config = dict(each.params), dict(each.config)
            if (params, config) not in known:
                attrs = {ADVICE: each.advice} | ({CONFIG: config} if config else {})
                study.enqueue_trial(params, user_attrs=attrs)
                numbers.append(_last_number(study, params))
                known.append((params, config))
        return Enqueued(tuple(numbers), len(study.get_trials(deepcopy=False)))


def _last_number(study: optuna.Study, params: dict[str, Any]) -> int:
    """Return the number of the newest trial with these parameters; the driver may add others."""
    trials = study.get_trials(deepcopy=False)
    return next(trial.number for trial in reversed(trials) if _params(trial) == params)


def _params(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return dict(trial.params or trial.system_attrs.get(FIXED_PARAMS, {}))
