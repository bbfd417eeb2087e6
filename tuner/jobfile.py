"""A tuning job from a Python file, or from names on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import search_spaces
import trainables
from tuner.errors import InvalidInput, unknown_name
from tuner.job import TuningJob


def load_job(reference: str) -> TuningJob:
    """Run a job file and return the job it defines.

    Args:
        reference: ``FILE.py``, or ``FILE.py:NAME`` where the file defines several jobs; or
            ``FILE.pkl``, a job kept by `pickle_job`.

    Raises:
        InvalidInput: no such file, it fails to run, or it defines no job or several.
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
    """Return a job as bytes, with whatever code of the user's own it needs."""
    from ray import cloudpickle

    pickled: bytes = cloudpickle.dumps(job)
    return pickled


def unpickle_job(file: Path) -> TuningJob:
    """Return a job from a file of `pickle_job`; that runs code which it names.

    Raises:
        InvalidInput: it cannot be read.
    """
    from ray import cloudpickle

    try:
        job: TuningJob = cloudpickle.loads(file.read_bytes())
    except Exception as error:  # unpickling runs whatever the job refers to
        raise InvalidInput(
            f"a kept job must be readable with this Python and these packages, {file} raises "
            f"{_in_one_line(error)}; run its Python file again instead, and the study goes on"
        ) from error
    return job


def built_in_job(trainable: str, space: str, **fields: Any) -> TuningJob:
    """Return the job of a trainable and a search space, each by name or as ``module:attribute``.

    Raises:
        InvalidInput: a name is unknown, or a field breaks its rule.
    """
    fields.setdefault("name", f"{trainable}-{space}".replace(":", "-"))
    return TuningJob(
        trainable=_look_up(trainable, trainables.find),
        search_space=find_space(space),
        **fields,
    )


def find_space(reference: str) -> Callable[..., Any]:
    """Return a search space by name or as ``module:function``.

    Raises:
        InvalidInput: there is none.
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
    except (Exception, SystemExit) as error:  # the file is the user's code: anything may come
        where = getattr(_innermost(error), "tb_lineno", None) or getattr(error, "lineno", "?")
        raise InvalidInput(
            f"a job file must run, {path} raised {_in_one_line(error)} (line {where}); "
            f"try: python {path}"
        ) from error
    return _by_value(module)


def _innermost(error: BaseException) -> Any:
    """The last frame of the traceback that is in the user's file."""
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
    """Send the functions and classes of a user's module, and of what it imports from its own
    folder, to the workers whole: they cannot import them."""
    from ray import cloudpickle

    folder = Path(module.__file__ or "").absolute().parent
    for other in list(sys.modules.values()):
        file = getattr(other, "__file__", None)
        if file and Path(file).is_relative_to(folder) and not _is_installed(Path(file)):
            cloudpickle.register_pickle_by_value(other)
    return module


def _is_installed(file: Path) -> bool:
    """Whether a module is of an installed package, or of this project, which workers have too."""
    here = Path(__file__).parents[1]
    own = any(file.is_relative_to(here / name) for name in ("tuner", "trainables", "search_spaces"))
    return own or "site-packages" in file.parts or file.is_relative_to(sys.base_prefix)
