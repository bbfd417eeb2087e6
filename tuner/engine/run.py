"""Run a tuning job, and resume a study whose run has ended early."""

from __future__ import annotations

import posixpath
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from ray import tune

from tuner.engine.buffered_trainable import buffer_reports, can_pause
from tuner.engine.callbacks import RunCallback, RunCallbacks
from tuner.engine.checkpoints import check_shared, forget_trials, open_trials
from tuner.engine.failures import StorageProbe
from tuner.engine.loggers.callback import logs_of
from tuner.engine.loggers.registry import check_loggers
from tuner.engine.ray_tune import CheckpointRecorder, StudyScheduler, StudySearcher, patched_tune
from tuner.engine.resources import (
    CapacityNotifier,
    ClusterCapacity,
    as_placement_group,
    may_have,
    request_of,
)
from tuner.engine.session import ray_session
from tuner.engine.trial_manager import TrialManager
from tuner.errors import InvalidInput
from tuner.job import TuningJob
from tuner.jobfile import pickle_job, unpickle_job
from tuner.rotation.report import epoch_of
from tuner.storage.database import close_database, open_database, seconds_now
from tuner.storage.lease import LeaseLost, is_driven
from tuner.storage.optuna_internals import study_id_of
from tuner.study.enqueue import count_retries, enqueue_failed
from tuner.study.folder import DEFAULT_FOLDER, StudyFolder, find_study, open_for_writing
from tuner.study.initial_trials import first_trials
from tuner.study.load import NUM_TRIALS, SPACE, read_result
from tuner.study.pruners import MAX_EPOCHS, METRIC, make_pruner, rotation_pruner_of
from tuner.study.result import StudyResult
from tuner.study.schema import ROTATION_TARGET, WARMUP_EPOCHS, read_target
from tuner.study.search_space import Space, as_function, fingerprint

_SAID = {
    SPACE: "search space",
    MAX_EPOCHS: "epochs per trial",
    ROTATION_TARGET: "rotation target",
}


def run(
    job: TuningJob,
    *,
    observer: RunCallback | None = None,
    code: Path | None = None,
    retry_failed: bool = False,
) -> StudyResult:
    """Run a job until all its trials have ended, and return its study.

    If a study of the job's name exists, it is continued. It must have the same space, metric and
    budget per trial. Interrupted trials continue from their checkpoints, and new trials are created
    until there are `num_trials` in all. Ctrl-C ends the run early and cleanly; the result is then
    not `finished`.

    Args:
        job: the job to run.
        observer: its methods are called at every start, report and end; none by default.
        code: a folder of modules that the job imports, to keep with the study for `resume`.
        retry_failed: whether to run each failed trial once more, as a new trial.

    Raises:
        InvalidInput: the job cannot be run. A study that this call has made is removed again,
            unless a trial of it has reported or has a checkpoint.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    check_loggers(job.loggers)
    asked = job
    space = as_function(job.search_space)
    made_of = fingerprint(space)
    root = job.folder.expanduser().absolute()
    home = StudyFolder(root / job.name)
    new_folder, new_root = not home.exists(), not root.exists()
    new_study, trained, trials = False, False, None
    with home.locked():
        try:
            shown = observer or RunCallback()
            with open_for_writing(home, job.storage, drives=True, say=shown.noted) as storage:
                study, new_study = _study(job, storage)
                if retry_failed:
                    enqueue_failed(study)
                job = job.with_changes(num_trials=job.num_trials + count_retries(study))
                _describe(study, job, made_of)
                logs = logs_of(job.loggers, study, home.path, shown.noted)
                manager = _manager(job, study, space, home, RunCallbacks(shown, *logs))
                if manager.exhausted:  # a log may lack some of it
                    with RunCallbacks(*logs) as callbacks:
                        callbacks.begun(read_result(study, home.path))
                else:
                    trials = open_trials(study, job, home)
                    with ray_session(None if code else home.code):
                        capacity = ClusterCapacity(request_of(job), may_have())
                        capacity.check()
                        nodes = capacity.nodes()
                        check_shared(trials, nodes)
                        probe = StorageProbe.after(trials, nodes)
                        home.job.touch(mode=0o600)
                        home.job.write_bytes(pickle_job(asked))
                        if code:
                            _keep(code, home)
                        _tune(job, manager, home, probe, capacity)
                trained = manager.has_trained()
                if manager.fatal:
                    raise manager.fatal
                return read_result(study, home.path)
        except LeaseLost:  # another process drives the study, so nothing is removed
            raise
        except InvalidInput:
            if new_folder and not trained:
                if trials is not None:
                    forget_trials(trials, home)
                _remove(home, new_study)
                if new_root and not any(root.iterdir()):
                    root.rmdir()
            raise


def resume(
    name: str,
    *,
    folder: Path | str = DEFAULT_FOLDER,
    observer: RunCallback | None = None,
    retry_failed: bool = False,
    **changes: Any,
) -> StudyResult:
    """Continue a study with its last job.

    No ended trial runs again. Trials that were running continue from their checkpoints. The
    decisions are the same as without the interruption.

    Args:
        name: the name of the study.
        folder: the folder of studies.
        observer: as for `run`.
        retry_failed: as for `run`.
        changes: fields of the job to replace, e.g. ``num_trials=100``.

    Raises:
        InvalidInput: the study does not exist, or its job cannot be read.
    """
    if (code := find_study(name, folder).code).is_dir():
        sys.path.insert(0, str(code))
    job = kept_job(name, folder=folder).with_changes(**changes)
    return run(job, observer=observer, retry_failed=retry_failed)


def kept_job(name: str, *, folder: Path | str = DEFAULT_FOLDER) -> TuningJob:
    """Return the last job of a study.

    The job is unpickled, which runs code that it names. So use only folders that you trust.

    Raises:
        InvalidInput: the study does not exist, or its job cannot be read.
    """
    job = unpickle_job(find_study(name, folder).job)
    return job.with_changes(folder=Path(folder))


def _manager(
    job: TuningJob, study: optuna.Study, space: Space, home: StudyFolder, observer: RunCallback
) -> TrialManager:
    constants: dict[str, Any] = {"max_epochs": job.max_epochs, "seed": job.seed}
    if job.data_dir is not None:
        constants["data_dir"] = str(Path(job.data_dir).expanduser().absolute())
    manager = TrialManager(
        study,
        space,
        metric=job.metric,
        num_trials=job.num_trials,
        max_epochs=job.max_epochs,
        sampler=job.sampler,
        seed=job.seed,
        constants=constants,
        observer=observer,
        may_pause=can_pause(job.trainable),
        start=first_trials(space, job.start, job.sampler, study.direction),
        errors=home.errors,
    )
    manager.recover()
    return manager


def _tune(
    job: TuningJob,
    manager: TrialManager,
    home: StudyFolder,
    probe: StorageProbe,
    capacity: ClusterCapacity,
) -> None:
    """Run the remaining trials of the study with Ray Tune."""
    in_epochs = partial(epoch_of, metric=job.metric, max_epochs=job.max_epochs)
    trials, rungs = probe.path, (*manager.rungs, job.max_epochs)
    trainable = buffer_reports(job.trainable, rungs, in_epochs, job.cpus_per_trial, probe.here)
    try:
        with manager.observer, _own_interrupts(), patched_tune():
            manager.observer.opened(manager.study, home.path)
            manager.observer.begun(read_result(manager.study, home.path))
            if hint := capacity.unused_gpus():
                manager.observer.noted(hint)
            tune.run(
                trainable,
                name=posixpath.basename(trials.path),
                storage_path=posixpath.dirname(trials.path),
                storage_filesystem=trials.filesystem,
                search_alg=StudySearcher(manager, trainable, trials, capacity, job.max_concurrent),
                scheduler=StudyScheduler(manager),
                callbacks=[
                    CheckpointRecorder(manager),
                    CapacityNotifier(capacity, manager.observer),
                ],
                # With two checkpoints, the one that the study names is always complete.
                checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
                resources_per_trial=as_placement_group(capacity.request),
                reuse_actors=True,
                verbose=0,
                raise_on_failed_trial=False,
            )
    finally:
        manager.release()


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C within the context; restore the caller's handlers after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Ray Tune handles SIGINT while it runs.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _study(job: TuningJob, storage: BaseStorage) -> tuple[optuna.Study, bool]:
    """Return the study, and whether this call has created it."""
    pruner = make_pruner(job.pruner, job.rotation_target, job.max_epochs, job.seed)
    direction = StudyDirection.MAXIMIZE if job.mode == "max" else StudyDirection.MINIMIZE
    if not storage.get_all_studies():
        # With `load_if_exists`, Optuna would write to a study that is then refused.
        with suppress(DuplicatedStudyError):  # another process has been faster
            new = optuna.create_study(
                study_name=job.name, storage=storage, pruner=pruner, direction=direction
            )
            with warnings.catch_warnings():  # experimental; optuna-dashboard names its axes so
                warnings.simplefilter("ignore", ExperimentalWarning)
                new.set_metric_names([job.metric])
            return new, True
    return optuna.load_study(study_name=job.name, storage=storage, pruner=pruner), False


def _describe(study: optuna.Study, job: TuningJob, made_of: str) -> None:
    """Record the job's metric, space and settings in the study, or refuse a job that differs.

    Raises:
        InvalidInput: the study has trials of another space, metric, mode, budget or rotation
            target.
    """
    pruner = rotation_pruner_of(study.pruner)
    target = pruner.target_or(job.rotation_target) if pruner else job.rotation_target
    # If one of these changed, the trials of the study could not be compared. Studies of older
    # versions have no rotation target, and get the job's.
    identity = {
        METRIC: job.metric,
        MAX_EPOCHS: job.max_epochs,
        SPACE: made_of,
        ROTATION_TARGET: target.to_dict(),
    }
    attrs = study.user_attrs
    if trials := study.get_trials(deepcopy=False):  # else there is nothing to compare
        for key, value in identity.items():
            kept = attrs.get(key, value)
            if key == METRIC and not any(trial.intermediate_values for trial in trials):
                continue  # no trial has ever reported the old one
            if kept == value or (key == ROTATION_TARGET and read_target(attrs) == target):
                continue
            raise InvalidInput(
                f"a study keeps its {_SAID.get(key, key)}, {job.name!r} was given "
                f"{_difference(key, value, kept)}; "
                f"choose another name, or remove {str(job.folder / job.name)!r} to start over"
            )
    mode = "max" if study.direction == StudyDirection.MAXIMIZE else "min"
    if mode != job.mode:
        raise InvalidInput(
            f"a study keeps its mode, {job.name!r} was given {job.mode!r} where it has {mode!r}; "
            "choose another name"
        )
    described: dict[str, Any] = {**identity, NUM_TRIALS: job.num_trials}
    if pruner:  # its settings may change from run to run; reports judge by those of the last
        described[WARMUP_EPOCHS] = pruner.criteria.warmup_epochs
    if ROTATION_TARGET in attrs and read_target(attrs) == target:
        del described[ROTATION_TARGET]  # the same target, perhaps written in another way
    for key, value in described.items():
        if attrs.get(key) != value:
            study.set_user_attr(key, value)


def _difference(key: str, given: Any, kept: Any) -> str:
    """Return the difference of a value in the job and in the study, in words."""
    if key == SPACE:
        return "another"
    if key != ROTATION_TARGET:
        return f"{given!r} where it has {kept!r}"
    kept = read_target({ROTATION_TARGET: kept}).to_dict()
    names = [name for name in given if given[name] != kept[name]]
    one, other = (", ".join(f"{name}={of[name]!r}" for name in names) for of in (given, kept))
    return f"{one} where it has {other}"


def _keep(code: Path, home: StudyFolder) -> None:
    shutil.rmtree(home.code, ignore_errors=True)
    shutil.copytree(code, home.code, ignore=shutil.ignore_patterns("*.url", "*.pkl", "__pycache__"))


def _remove(home: StudyFolder, with_database: bool) -> None:
    """Remove a study without ended trials, unless another process drives it now."""
    if with_database and home.storage_url.exists():
        database = open_database(home.storage_url.read_text())
        now = seconds_now(database)
        for study in database.get_all_studies():
            if study.study_name == home.name and not is_driven(study.system_attrs, now):
                database.delete_study(study_id_of(study))
        close_database(database)
    shutil.rmtree(home.path)
