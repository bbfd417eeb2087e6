"""Enqueue trials in a study. Its present driver runs them, or else its next driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState

from tuner.errors import InvalidInput
from tuner.study.folder import StudyFolder, open_for_writing
from tuner.study.load import FIXED_PARAMS, open_study
from tuner.study.schema import ADVICE, CONFIG, RETRY_OF, read_config


@dataclass(frozen=True)
class Enqueued:
    """The result of `enqueue`.

    Attributes:
        numbers: the numbers of the new trials, in order.
        trials: the number of trials that the study has now.
    """

    numbers: tuple[int, ...]
    trials: int


@dataclass(frozen=True)
class QueuedTrial:
    """A trial to enqueue.

    Attributes:
        advice: the title of the advice that it tests.
        params: its parameters, as the space names them.
        config: config entries that override the space, such as layer_rates.
    """

    advice: str
    params: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)


def enqueue(home: StudyFolder, queued: Sequence[QueuedTrial]) -> Enqueued:
    """Enqueue trials in a study, each with the advice that it tests.

    A configuration that the study already has, run or enqueued, is left out. A parameter may lie
    outside its range: Optuna and all its samplers accept that.

    The driver of a study in a database finds the trials within seconds. A study in its folder must
    have no driver meanwhile.

    Args:
        home: the study's folder.
        queued: the trials.

    Returns:
        The numbers of the new trials.

    Raises:
        InvalidInput: a process runs the study in its folder, or the study does not exist yet.
    """
    alone = nullcontext() if home.storage_url.exists() else home.locked()
    with alone, open_for_writing(home, None) as storage:
        if not storage.get_all_studies():
            raise InvalidInput(
                "a study must have started before trials can be enqueued, "
                f"{home.name!r} holds nothing yet; run it"
            )
        study = open_study(storage, home.name, home.path)
        known = [(_params(trial), read_config(trial)) for trial in study.get_trials(deepcopy=False)]
        numbers = []
        for each in queued:
            params, config = dict(each.params), dict(each.config)
            if (params, config) not in known:
                attrs = {ADVICE: each.advice} | ({CONFIG: config} if config else {})
                study.enqueue_trial(params, user_attrs=attrs)
                numbers.append(_last_number(study, params))
                known.append((params, config))
        return Enqueued(tuple(numbers), len(study.get_trials(deepcopy=False)))


def enqueue_failed(study: optuna.Study) -> tuple[int, ...]:
    """Enqueue each failed trial of an open study once more, with the same parameters.

    A trial that was repeated already is left out.

    Returns: the numbers of the failed trials.
    """
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    failed = [
        trial for trial in trials if trial.state == TrialState.FAIL and trial.number not in repeated
    ]
    for trial in failed:
        config = read_config(trial)
        attrs = {RETRY_OF: trial.number} | ({CONFIG: config} if config else {})
        study.enqueue_trial(_params(trial), user_attrs=attrs)
    return tuple(trial.number for trial in failed)


def count_retries(study: optuna.Study) -> int:
    """Return how many trials of a study repeat a failed one."""
    return sum(RETRY_OF in trial.user_attrs for trial in study.get_trials(deepcopy=False))


def _last_number(study: optuna.Study, params: dict[str, Any]) -> int:
    """Return the number of the newest trial with these parameters; the driver may add others."""
    trials = study.get_trials(deepcopy=False)
    return next(trial.number for trial in reversed(trials) if _params(trial) == params)


def _params(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return dict(trial.params or trial.system_attrs.get(FIXED_PARAMS, {}))
