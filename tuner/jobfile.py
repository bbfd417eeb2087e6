"""Load a tuning job from a Python file, or make one from names on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import io
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import search_spaces
import trainables
from tuner.errors import InvalidInput, unknown_name
from tuner.job import TuningJob

# Modules that jobs of earlier versions name, with the modules that replaced them.
_MOVED_MODULES = {
    "trainables.augment": "trainables.datasets.images",
    "trainables.batches": "trainables.training.data",
    "trainables.cifar_files": "trainables.datasets.cifar",
    "trainables.data": "trainables.training.data",
    "trainables.digits": "trainables.tasks.basic",
    "trainables.fashion": "trainables.tasks.basic",
    "trainables.fashion_files": "trainables.datasets.images",
    "trainables.folders": "trainables.datasets.images",
    "trainables.idx_images": "trainables.datasets.images",
    "trainables.layca": "trainables.layca.optimizer",
    "trainables.layer_rates": "trainables.layca.layer_rates",
    "trainables.mnist": "trainables.tasks.basic",
    "trainables.mnist_files": "trainables.datasets.images",
    "trainables.networks": "trainables.models.mlp_cnn",
    "trainables.optimizers": "trainables.training.optimizers",
    "trainables.precision": "trainables.training.precision",
    "trainables.randomness": "trainables.training.randomness",
    "trainables.resnet": "trainables.models.resnet",
    "trainables.run": "trainables.training.loop",
    "trainables.schedules": "trainables.training.schedules",
    "trainables.settings": "trainables.training.config",
    "trainables.small_tasks": "trainables.tasks.paper",
    "trainables.splits": "trainables.datasets.images",
    "trainables.tasks": "trainables.tasks.paper",
    "trainables.tiny_files": "trainables.datasets.tiny_imagenet",
    "trainables.vgg": "trainables.models.vgg",
    "tuner.engine.find_rate": "tuner.rate_finder.find_rate",
    "tuner.rotation.field": "tuner.rotation.halving",
    "tuner.rotation.verdict": "tuner.rotation.decision",
    "tuner.study.record": "tuner.study.schema",
}
_RENAMED = {
    ("trainables.small_tasks", "halved"): "downsample_2x",
    ("tuner.rotation.field", "Criteria"): "PruningConfig",
}


class _JobUnpickler(pickle.Unpickler):
    """Unpickles jobs of earlier versions, whose classes and functions are in other modules now."""

    def find_class(self, module: str, name: str) -> Any:
        name = _RENAMED.get((module, name), name)
        if name == "subimport":  # how cloudpickle refers to a module
            return _import_moved
        return super().find_class(_MOVED_MODULES.get(module, module), name)


def _import_moved(module: str) -> ModuleType:
    return importlib.import_module(_MOVED_MODULES.get(module, module))


def load_job(reference: str) -> TuningJob:
    """Run a job file and return the job that it defines.

    Args:
        reference: ``FILE.py``, or ``FILE.py:NAME`` if the file defines several jobs, or
            ``FILE.pkl`` with the bytes of `pickle_job`.

    Raises:
        InvalidInput: the file does not exist, fails to run, defines no job, or defines several jobs
            and none is named.

    Example:
        >>> job = load_job("examples/fashion.py")  # doctest: +SKIP
    """
    file, _, wanted = reference.partition(":")
    if file.endswith(".pkl"):
        return unpickle_job(Path(file))
    jobs = {
        name: value
        for name, value in vars(_run_file(Path(file))).items()
        if isinstance(value, TuningJob)
    }
    if wanted in jobs:
        return jobs[wanted]
    if wanted and jobs:
        raise unknown_name(f"job in {file}", wanted, jobs)
    if len(jobs) == 1 and not wanted:
        return next(iter(jobs.values()))
    raise InvalidInput(
        f"a job file must define one TuningJob, {file} defines {', '.join(sorted(jobs)) or 'none'}"
        + (f"; name one: {file}:{sorted(jobs)[0]}" if jobs else "; add job = TuningJob(...)")
    )


def pickle_job(job: TuningJob) -> bytes:
    """Return a job as bytes that contain the user's code that it needs."""
    from ray import cloudpickle

    pickled: bytes = cloudpickle.dumps(job)
    return pickled


def unpickle_job(file: Path) -> TuningJob:
    """Return the job from a file of `pickle_job`, also of an earlier version.

    Unpickling runs code that the file names, so read only files that you trust.

    Args:
        file: the file.

    Raises:
        InvalidInput: the file cannot be unpickled.
    """
    try:
        job: TuningJob = _JobUnpickler(io.BytesIO(file.read_bytes())).load()
    except Exception as error:  # unpickling runs code of the user, which may raise anything
        raise InvalidInput(
            f"a stored job must be readable with this Python and these packages, {file} raised "
            f"{_in_one_line(error)}; run its Python file instead to continue the study"
        ) from error
    return job


def built_in_job(trainable: str, space: str, **fields: Any) -> TuningJob:
    """Return the job of a trainable and a search space.

    Args:
        trainable: an included name or ``module:attribute``.
        space: an included name or ``module:function``.
        fields: further fields of the `TuningJob`.

    Raises:
        InvalidInput: a name is unknown, or a field breaks its rule.

    Example:
        >>> built_in_job("digits-mlp", "adamw", num_trials=3).name
        'digits-mlp-adamw'
    """
    fields.setdefault("name", f"{trainable}-{space}".replace(":", "-"))
    return TuningJob(
        trainable=_look_up(trainable, trainables.find),
        search_space=find_space(space),
        **fields,
    )


def find_space(reference: str) -> Callable[..., Any]:
    """Return a search space by its name or by ``module:function``.

    Args:
        reference: an included name or ``module:function``.

    Raises:
        InvalidInput: the space does not exist.
    """
    space: Callable[..., Any] = _look_up(reference, search_spaces.find)
    return space


def _look_up(reference: str, by_name: Callable[[str], Any]) -> Any:
    module, colon, attribute = reference.partition(":")
    if not colon:
        return by_name(reference)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = _by_value(importlib.import_module(module.removesuffix(".py")))
        return getattr(found, attribute)
    except (Exception, SystemExit) as error:  # a module is the user's code, like a job file
        raise InvalidInput(
            f"{reference!r} must be a name or module:attribute that can be imported, got "
            f"{_in_one_line(error)}; run from the folder that holds the module"
        ) from error


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InvalidInput(
            f"a job file must exist, got {str(path)!r}; "
            "or use --trainable NAME --space NAME instead of a file"
        )
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_job"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"a job file must be Python, got {str(path)!r}; name it FILE.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except InvalidInput:
        raise
    except (Exception, SystemExit) as error:  # the file is the user's code and may raise anything
        where = getattr(_innermost(error), "tb_lineno", None) or getattr(error, "lineno", "?")
        raise InvalidInput(
            f"a job file must run, {path} raised {_in_one_line(error)} (line {where}); "
            f"try: python {path}"
        ) from error
    return _by_value(module)


def _innermost(error: BaseException) -> Any:
    """Return the first frame of the traceback outside this module, which is in the user's file."""
    frame = error.__traceback__
    found = None
    while frame is not None:
        if not frame.tb_frame.f_code.co_filename.startswith(("<frozen", __file__)):
            found = found or frame
        frame = frame.tb_next
    return None if isinstance(error, SyntaxError) else found


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _by_value(module: ModuleType) -> ModuleType:
    """Make cloudpickle send the code of a user's module, and of the modules beside it.

    The workers cannot import these modules.
    """
    from ray import cloudpickle

    folder = Path(module.__file__ or "").absolute().parent
    for other in list(sys.modules.values()):
        file = getattr(other, "__file__", None)
        if file and Path(file).is_relative_to(folder) and not _is_installed(Path(file)):
            cloudpickle.register_pickle_by_value(other)
    return module


def _is_installed(file: Path) -> bool:
    """Return whether the workers can import a file: it is installed or part of this project."""
    here = Path(__file__).parents[1]
    own = any(file.is_relative_to(here / name) for name in ("tuner", "trainables", "search_spaces"))
    return own or "site-packages" in file.parts or file.is_relative_to(sys.base_prefix)
