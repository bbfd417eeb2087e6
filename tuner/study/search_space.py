"""Search spaces in every accepted form, as one function of an Optuna trial.

Accepted forms are a define-by-run function, a dict of Optuna distributions, and a dict of Ray Tune
domains. The dicts may be nested and may hold constants.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from tuner.errors import InvalidInput
from tuner.storage.optuna_internals import suggest as draw

Space = Callable[[optuna.Trial], dict[str, Any]]
"""A define-by-run search space."""

SearchSpace = Space | Mapping[str, Any]
"""A search space in any accepted form; `as_function` makes a `Space` of it."""

# With this many draws a branch of probability .1 occurs at least once in 97 % of cases.
_PROBES = 32


def as_function(space: SearchSpace) -> Space:
    """Return the space as a function that suggests one configuration for a trial.

    Args:
        space: the search space in any accepted form.

    Raises:
        InvalidInput: the space is neither a function nor a mapping, or holds a Ray domain that has
            no equivalent in Optuna.

    Example:
        >>> space = as_function({"lr": FloatDistribution(1e-4, 1.0, log=True), "epochs": 5})
        >>> space(optuna.trial.FixedTrial({"lr": 0.1}))
        {'lr': 0.1, 'epochs': 5}
    """
    if callable(space):
        return space
    if not isinstance(space, Mapping):
        raise InvalidInput(
            f"a search space must be a function of a trial or a dict, got {type(space).__name__}; "
            "write def space(trial): return {'lr': trial.suggest_float('lr', 1e-4, 1, log=True)}"
        )
    distributions = _convert(space, ())

    def suggest(trial: optuna.Trial) -> dict[str, Any]:
        return {key: _suggest(trial, value, (key,)) for key, value in distributions.items()}

    return suggest


def fingerprint(space: Space) -> str:
    """Return the parameters that a space suggests in 32 random draws, as canonical JSON.

    Two spaces are the same if their fingerprints are equal.

    Raises:
        InvalidInput: the space raises, returns something other than a dict, or suggests nothing.
    """
    seen: dict[str, str] = {}
    for trial, _ in probe_space(space):
        for name, distribution in trial.distributions.items():
            try:
                seen[name] = distribution_to_json(distribution)
            except TypeError as error:
                raise InvalidInput(
                    f"choices of {name!r} must be numbers, texts, booleans or None, got "
                    f"{distribution}; suggest a name and look the rest up by it"
                ) from error
    if not seen:
        raise InvalidInput(
            f"a search space must suggest something, {_name(space)} suggested nothing in "
            f"{_PROBES} tries; call trial.suggest_float(...) or the like in it"
        )
    return json.dumps(seen, sort_keys=True)


def probe_space(
    space: Space, times: int = _PROBES
) -> Iterator[tuple[optuna.Trial, dict[str, Any]]]:
    """Yield random trials of a space, each with its configuration.

    The draws are seeded: every call yields the same trials.

    Args:
        space: the search space.
        times: the number of trials.

    Raises:
        InvalidInput: the space raises, or returns something other than a dict.
    """
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(times):
        trial = study.ask()
        yield trial, suggest(space, trial)


def suggest(space: Space, trial: optuna.Trial) -> dict[str, Any]:
    """Draw one configuration from the space for a trial.

    Args:
        space: the search space.
        trial: the trial.

    Raises:
        InvalidInput: the space raises, or returns something other than a dict.
    """
    try:
        with _storable_choices(trial):
            config = space(trial)
    except InvalidInput:
        raise
    except Exception as error:  # the space is the user's code, which may raise anything
        raise InvalidInput(
            f"a search space must not raise, {_name(space)} raised {type(error).__name__}: "
            f"{error}; "
            "call it with optuna.trial.FixedTrial({...}) to see where"
        ) from error
    if not isinstance(config, dict):
        raise InvalidInput(
            f"a search space must return a dict, {_name(space)} returned "
            f"{type(config).__name__}; return {{'lr': trial.suggest_float('lr', ...)}}"
        )
    return config


def _name(space: Space) -> str:
    return getattr(space, "__qualname__", repr(space))


@contextmanager
def _storable_choices(trial: optuna.Trial) -> Iterator[None]:
    """Let a space suggest choices of any type, as those of a dict may be.

    A storage returns a tuple as a list, and Optuna then refuses the parameter as another one.
    """
    suggest_categorical = trial.suggest_categorical

    def suggest(name: str, choices: Sequence[Any]) -> Any:
        choice = _choice(choices)
        if isinstance(choice, _Labelled):
            label = str(suggest_categorical(name, choice.distribution.choices))
            return _suggest(trial, choice.values[label], (name, label))
        return suggest_categorical(name, choice.choices)

    trial.suggest_categorical = suggest  # type: ignore[method-assign]
    try:
        yield
    finally:
        del trial.suggest_categorical


@dataclass(frozen=True)
class _Labelled:
    """A choice among values that Optuna cannot store. It suggests a label for each value.

    A value may hold distributions of its own. Only those of the value that is chosen are suggested.
    """

    distribution: CategoricalDistribution
    values: Mapping[str, Any]


def _suggest(trial: optuna.Trial, value: Any, at: tuple[str, ...]) -> Any:
    """Return a part of a space with a suggestion in the place of each distribution."""
    name = "/".join(at)
    if isinstance(value, BaseDistribution):
        return draw(trial, name, value)
    if isinstance(value, _Labelled):
        label = draw(trial, name, value.distribution)
        return _suggest(trial, value.values[label], (*at, label))
    if isinstance(value, Mapping) and _holds_distributions(value):
        return {key: _suggest(trial, each, (*at, str(key))) for key, each in value.items()}
    if isinstance(value, list | tuple) and _holds_distributions(value):
        each = [_suggest(trial, item, (*at, str(index))) for index, item in enumerate(value)]
        return each if isinstance(value, list) else tuple(each)
    return value


def _convert(value: Any, at: tuple[str, ...]) -> Any:
    """Return a part of a space with an Optuna distribution in the place of each domain."""
    if isinstance(value, Mapping):
        if "grid_search" in value:
            raise _unfaithful("tune.grid_search", at, "tune.choice")
        return {key: _convert(each, (*at, str(key))) for key, each in value.items()}
    if _is_domain(value):
        return _from_ray(value, at)
    if isinstance(value, CategoricalDistribution):
        return _choice(value.choices, at)
    if isinstance(value, list | tuple) and _holds_distributions(value):
        each = [_convert(item, (*at, str(index))) for index, item in enumerate(value)]
        return each if isinstance(value, list) else tuple(each)
    return value


def _holds_distributions(value: Any) -> bool:
    """Whether a value is or holds a distribution of Optuna or a domain of Ray Tune."""
    if isinstance(value, Mapping):
        return "grid_search" in value or any(map(_holds_distributions, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_distributions, value))
    return isinstance(value, BaseDistribution | _Labelled) or _is_domain(value)


def _is_domain(value: Any) -> bool:
    return type(value).__module__.startswith("ray.tune.search")


def _from_ray(domain: Any, at: tuple[str, ...]) -> BaseDistribution | _Labelled:
    """Return the Optuna distribution of one Ray Tune domain.

    Ray's integer ranges exclude their upper end. Its quantised domains draw multiples of the step,
    while Optuna counts steps from the lower end.
    """
    from ray.tune.search.sample import Categorical, Float, Integer, LogUniform, Quantized, Uniform

    sampler, step = domain.get_sampler(), None
    if isinstance(sampler, Quantized):
        sampler, step = sampler.get_sampler(), sampler.q
    log = isinstance(sampler, LogUniform)
    if isinstance(domain, Categorical) and isinstance(sampler, Uniform):
        return _choice(domain.categories, at)
    if not isinstance(domain, Float | Integer) or not isinstance(sampler, Uniform | LogUniform):
        raise _unfaithful(f"tune.{_ray_name(domain)}", at, "tune.uniform")
    whole = isinstance(domain, Integer)
    if log and step is not None and not (whole and step == 1):
        raise _unfaithful("a quantised log domain", at, "tune.loguniform")
    low, high = domain.lower, domain.upper
    if whole and step in (None, 1):
        high -= 1
    elif step is not None:
        # Decimal, because 3 * 0.1 is 0.30000000000000004 as a float.
        unit = Decimal(str(step))
        low = math.ceil(round(low / step, 9)) * unit
        high = math.floor(round(high / step, 9)) * unit
    if low > high:
        raise _unfaithful(f"nothing between {domain.lower} and {domain.upper}", at, "a wider range")
    if whole:
        return IntDistribution(int(low), int(high), log=log, step=step or 1)
    return FloatDistribution(float(low), float(high), log=log, step=step)


def _choice(
    categories: Sequence[Any], at: tuple[str, ...] = ()
) -> CategoricalDistribution | _Labelled:
    """Return a choice among any values, which is the same before and after the storage."""
    values = [value.item() if isinstance(value, np.generic) else value for value in categories]
    if all(isinstance(value, bool | int | float | str | None) for value in values):
        return CategoricalDistribution(values)
    conditional = _holds_distributions(values)
    texts = [_label(value) if conditional else str(value) for value in values]
    if len(set(texts)) < len(texts) or any(" at 0x" in text for text in texts):
        # A text with a memory address differs in every process. The index does not.
        texts = [f"{index}: {type(value).__name__}" for index, value in enumerate(values)]
    options = [
        _convert(value, (*at, text)) if _holds_distributions(value) else value
        for text, value in zip(texts, values, strict=True)
    ]
    return _Labelled(CategoricalDistribution(texts), dict(zip(texts, options, strict=True)))


def _label(value: Any) -> str:
    """Return a value of a conditional choice as text; of a mapping, only its constants."""
    if isinstance(value, Mapping):
        constants = {k: v for k, v in value.items() if not _holds_distributions(v)}
        return ", ".join(f"{key}={constant}" for key, constant in constants.items()) or str(value)
    return str(value)


def _ray_name(domain: Any) -> str:
    return {"Function": "sample_from", "Float": "randn"}.get(type(domain).__name__, "domain")


def _unfaithful(what: str, at: tuple[str, ...], instead: str) -> InvalidInput:
    return InvalidInput(
        f"search space key {'/'.join(at)!r} must be something Optuna can draw, got {what}; "
        f"use {instead} or a function of a trial"
    )


Range = tuple[float, float] | None

# A range that begins at or near 0 is searched over its highest decades only.
_DECADES = 4


def lr_range(space: Space, optimizer: str, usual: str = "sgd") -> Range:
    """Return the lowest and the highest learning rate that a space searches with an optimizer.

    Both are > 0. The range is that of the parameter whose value becomes `lr` in the configuration.
    Of 32 random draws, the first one with such a parameter decides.

    Args:
        space: the search space.
        optimizer: the name of the optimizer.
        usual: the optimizer of a configuration that names none.

    Returns:
        None if the space searches no learning rate with this optimizer.
    """
    for trial, config in probe_space(space):
        chosen = config.get("optimizer", usual)
        if chosen == optimizer and (found := _lr_distribution(trial, config.get("lr"))):
            return max(found.low, found.high / 10**_DECADES), found.high
    return None


def _lr_distribution(trial: optuna.Trial, lr: object) -> FloatDistribution | None:
    for name, range_ in trial.distributions.items():
        is_lr = name.endswith("lr") and trial.params[name] == lr
        if is_lr and isinstance(range_, FloatDistribution) and range_.low < range_.high:
            return range_
    return None
