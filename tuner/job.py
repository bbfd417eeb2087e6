"""TuningJob: the description of a tuning job, for `tuner.run` and `tuner.submit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from trainables.training import DEFAULT_EPOCHS
from tuner.errors import InvalidInput, unknown_name
from tuner.rotation import RotationTarget
from tuner.storage.paths import StoragePath
from tuner.study.direction import mode_of
from tuner.study.folder import DEFAULT_FOLDER
from tuner.study.pruners import PRUNERS
from tuner.study.samplers import SAMPLERS
from tuner.study.search_space import SearchSpace

if TYPE_CHECKING:
    from ray.tune import Trainable

    AnyTrainable = type[Trainable] | Callable[[dict[str, Any]], Any]
    """A class trainable, or a function that takes a config and calls `tune.report`."""
else:  # Importing Ray takes a second; a validator checks the value.
    AnyTrainable = Any

LOGGERS = ("tensorboard", "mlflow")


class TuningJob(BaseModel):
    """The description of a study: the trainable, the search space and the resources.

    The constructor checks all fields. `tuner.run` does not check them again.

    Args:
        name: the name of the study and of its folder: letters, digits, dots, dashes and
            underscores.
        trainable: a Ray Tune class trainable (see `trainables.RotationTrainable`), or a function
            that takes a config and calls `tune.report`.
        search_space: a function of an Optuna trial that returns a dict, a dict of Optuna
            distributions, or a dict of Ray Tune domains.
        metric: the key of the report to optimise. Default: the trainable's own.
        mode: "max" or "min". Default: the trainable's own for its own metric; else the mode that
            the metric's name implies, such as "min" for a loss.
        num_trials: the number of trials of the whole study, >= 1.
        max_epochs: epochs of a trial that is not pruned, >= 1. Default: the trainable's own
            `epochs`, or 20.
        rotation_target: the distances that the layers should reach, for the ``rotation`` pruner.
        pruner: a name (``rotation``, ``none``, ``median``, ...) or any Optuna pruner.
        sampler: a name (``tpe``, ``random``, ...) or any Optuna sampler.
        start: the choice of the first trials. ``rotation`` begins with a ladder of rotations,
            trained to the end, if the space sets the rotation (Layca's rate or `final_distance`).
            ``random`` begins with the sampler. Default: ``rotation``, except with the samplers
            ``random`` and ``qmc`` or a sampler instance, where it is ``random``.
        seed: the seed of the suggestions, and of the training of every trial whose space sets no
            seed.
        cpus_per_trial: CPUs that a trial reserves, > 0 unless it reserves a GPU.
        gpus_per_trial: GPUs that a trial reserves, >= 0; fractions share one GPU. A
            `RotationTrainable` trains on all of them; another trainable must do so itself.
        memory_gb_per_trial: memory that a trial reserves, >= 0, in GB (10^9 bytes). Ray places
            trials by it and does not limit what they use.
        node_labels: the labels that a trial's node must have. A value may also be ``!value``,
            ``in(a,b)`` or ``!in(a,b)``.
        resources_per_trial: amounts > 0 of the cluster's custom resources that a trial reserves.
        max_concurrent: the number of trials that run at the same time, >= 1. Default: as many as
            the cluster's resources allow.
        data_dir: folder with the training data. Default: the trainable's own.
        storage: database URL of the study. Default: a file in the study's folder.
        checkpoints: the path of the trials' checkpoints: a folder that every node of the cluster
            can read and write, or a URL such as ``s3://bucket/path`` without credentials. Default:
            the study's folder.
        loggers: ``tensorboard``, ``mlflow`` or both. They also receive every report.
        folder: the folder of all studies, in which the study's folder is made. ~ is the home folder
            of the user who runs the job.

    Raises:
        InvalidInput: a value breaks its rule.

    Example:
        >>> from search_spaces import adamw
        >>> from trainables import DigitsMlp
        >>> job = TuningJob(name="digits", trainable=DigitsMlp, search_space=adamw, num_trials=4)
        >>> job.metric, job.max_epochs
        ('val_accuracy', 20)
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        validate_default=True,
        hide_input_in_errors=True,  # a URL may hold a password
    )

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    trainable: AnyTrainable
    search_space: SearchSpace
    metric: str = ""
    mode: Literal["min", "max", ""] = ""
    num_trials: int = Field(default=50, ge=1)
    max_epochs: int = Field(default=DEFAULT_EPOCHS, ge=1)
    rotation_target: RotationTarget = RotationTarget()
    pruner: str | BasePruner = "rotation"
    sampler: str | BaseSampler = "tpe"
    start: Literal["rotation", "random"] | None = None
    seed: int = Field(default=0, ge=0)
    cpus_per_trial: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    gpus_per_trial: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    memory_gb_per_trial: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    node_labels: dict[str, str] = {}
    resources_per_trial: dict[str, float] = {}
    max_concurrent: int | None = Field(default=None, ge=1)
    data_dir: str | Path | None = None
    storage: str | None = None
    checkpoints: str | None = None
    loggers: tuple[str, ...] = ()
    folder: Path = Path(DEFAULT_FOLDER)

    def __init__(self, **fields: Any) -> None:
        trainable = fields.get("trainable")
        own_metric = getattr(trainable, "metric", "")
        metric = fields["metric"] = fields.get("metric") or own_metric
        if not fields.get("mode"):
            own_mode = getattr(trainable, "mode", "") if metric == own_metric else ""
            fields["mode"] = own_mode or (mode_of(metric) if isinstance(metric, str) else "") or ""
        if own := getattr(trainable, "epochs", None):
            fields.setdefault("max_epochs", own)
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidInput(_in_one_line(error)) from error

    @field_validator("trainable", mode="plain")
    @classmethod
    def _trains(cls, trainable: Any) -> Any:
        if not callable(trainable):
            raise ValueError("must be a class trainable or a function")
        return trainable

    @field_validator("search_space", mode="plain")
    @classmethod
    def _suggests(cls, space: Any) -> Any:
        if not callable(space) and not isinstance(space, Mapping):
            raise ValueError("must be a function of a trial or a dict")
        return space

    @field_validator("metric")
    @classmethod
    def _is_named(cls, metric: str) -> str:
        if not metric:
            raise ValueError("must name a key that the trainable reports, e.g. 'val_accuracy'")
        return metric

    @field_validator("mode")
    @classmethod
    def _is_given(cls, mode: str, info: Any) -> str:
        metric = info.data.get("metric")
        if not mode and metric:
            own = getattr(info.data.get("trainable"), "metric", "")
            meant = f" (is {own!r} meant?)" if get_close_matches(metric, [own]) else ""
            raise InvalidInput(
                f"mode must be given for the metric {metric!r}{meant}, whose name does not tell "
                'it; use mode="max" (--mode max) if larger is better, else "min"'
            )
        return mode

    @field_validator("pruner", "sampler")
    @classmethod
    def _is_known(cls, given: Any, info: Any) -> Any:
        known = PRUNERS if info.field_name == "pruner" else SAMPLERS
        if isinstance(given, str) and given not in known:
            raise unknown_name(info.field_name, given, known)
        return given

    @field_validator("gpus_per_trial")
    @classmethod
    def _reserves_something(cls, gpus: float, info: Any) -> float:
        if gpus > 1 and not float(gpus).is_integer():
            raise ValueError("must be whole above 1")
        if gpus == 0 and info.data.get("cpus_per_trial") == 0:
            raise InvalidInput(
                "a trial must reserve a share of a CPU or a GPU, got none of either; "
                "leave cpus_per_trial out for 1"
            )
        return gpus

    @field_validator("resources_per_trial")
    @classmethod
    def _are_custom(cls, resources: dict[str, float]) -> dict[str, float]:
        for name, amount in resources.items():
            if name in ("CPU", "GPU", "memory"):
                raise ValueError(
                    "must name custom resources; for others there are cpus_per_trial, "
                    "gpus_per_trial and memory_gb_per_trial"
                )
            if not 0 < amount < float("inf"):
                raise ValueError("must hold amounts > 0")
        return resources

    @field_validator("checkpoints", mode="before")
    @classmethod
    def _is_a_place(cls, given: Any) -> Any:
        if given is None:
            return None
        if not isinstance(given, str | Path) or not str(given):
            raise ValueError("must be a folder or a URL such as s3://bucket/path")
        place = StoragePath(str(given))
        # Absolute, because a study can be resumed from any working directory.
        return str(place if place.is_url else Path(given).expanduser().absolute())

    @field_validator("loggers", mode="before")
    @classmethod
    def _are_known(cls, given: Any) -> Any:
        names = (given,) if isinstance(given, str) else given
        if not isinstance(names, list | tuple):
            raise ValueError("must be names such as ('tensorboard', 'mlflow')")
        for name in names:
            if name not in (*LOGGERS, "none"):
                raise unknown_name("logger", str(name), (*LOGGERS, "none"))
        return tuple(name for name in dict.fromkeys(names) if name != "none")

    def with_changes(self, **changes: Any) -> TuningJob:
        """Return a copy of the job with some fields replaced.

        Another metric without a mode has the mode that its name implies.

        Args:
            changes: the new values by field, for example ``num_trials=100``.

        Raises:
            InvalidInput: a value breaks its rule.
        """
        # A pickled job of an earlier version may lack the newest fields.
        fields = {
            name: self.__dict__[name] for name in type(self).model_fields if name in vars(self)
        }
        if changes.get("metric", self.metric) != self.metric:
            del fields["mode"]
        return TuningJob(**{**fields, **changes})


def _in_one_line(error: ValidationError) -> str:
    """Return a validation error as one line: field, rule, value and remedy."""
    problem = error.errors()[0]
    field = str(problem["loc"][0]) if problem["loc"] else "job"
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, InvalidInput):
        return str(cause)
    if problem["type"] == "missing":
        return f"a TuningJob must have {field}, got none; add {field}=..."
    if problem["type"] == "extra_forbidden":
        return str(unknown_name("TuningJob field", field, TuningJob.model_fields))
    rule = problem["msg"].removeprefix("Value error, ").replace("Input should", "must")
    if problem["type"] == "string_pattern_mismatch":
        rule = "must be letters, digits, '.', '-' and '_', and start with a letter or digit"
    if problem["type"] == "greater_than_equal":
        rule = f"must be >= {problem['ctx']['ge']}"
    default = TuningJob.model_fields[field].default
    has_default = isinstance(default, int | float | str) and default != ""
    remedy = f"leave it out for {default!r}" if has_default else "see help(tuner.TuningJob)"
    return f"{field} {rule}, got {problem['input']!r}; {remedy}"
