"""Whatever goes wrong in one of a trial's processes ends all of them, and is said."""

from __future__ import annotations

import subprocess
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import psutil
import pytest
from ray import cloudpickle
from ray.tune.trainable import trainable as ray_trainable
from shared_nets import CONFIG, Unpicklable, alone, other_processes

from tests.forked_processes import FORKS
from trainables.distributed.data_parallel import check_processes
from trainables.distributed.worker_main import error_message
from tuner.errors import InvalidInput


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"processes": 0}, "processes must be a whole number >= 1"),
        ({"processes": 2, "batch_size": 3}, "batch_size must be >= 4, 2 samples for each of the 2"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_anything_is_started(config, message):
    with pytest.raises(InvalidInput, match=message):
        alone(**config).step()
    assert other_processes() == []


def test_more_processes_than_gpus_are_refused():
    with pytest.raises(InvalidInput, match="processes must be <= 2, the GPUs of the trial, got 3"):
        check_processes(3, 2, 128)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("fault", "rank", "error", "message"),
    [
        ("raises", 1, ValueError, "the loss is purple"),
        ("raises RuntimeError", 0, RuntimeError, "the loss is purple"),
        ("dies", 1, RuntimeError, "process 1 of the trial's 2 has died of SIGKILL"),
        ("ends early", 0, InvalidInput, "the same number of steps in each process"),
        ("ends early", 1, InvalidInput, "the same number of steps in each process"),
        ("calls a part", None, InvalidInput, "must have the same weights"),
    ],
)
def test_an_error_in_any_process_is_the_trials(fault, rank, error, message):
    trial = alone(processes=2, fault=fault, **{"in": rank})
    _ = trial.training_state
    begun = time.monotonic()
    with pytest.raises(error, match=message) as raised:
        trial.step()
    assert time.monotonic() - begun < 5
    assert type(raised.value) is error
    assert other_processes() == []
    if rank == 1 and fault.startswith("raises"):
        assert "in training_batches" in str(raised.value.__cause__)
    trial.reset({**CONFIG})
    trial.step()  # alone, in a process that is as good as new


def train_forever(folder: str, told: Connection) -> None:
    """Train on two processes that start as a user's do, and tell the number of the other."""
    ray_trainable.DEFAULT_STORAGE_PATH = folder
    trial = alone(max_epochs=10**6, batch_size=6, processes=2)
    trial.step()
    (other,) = trial._workers._processes.values()
    assert isinstance(other, subprocess.Popen)
    told.send(other.pid)
    while True:
        trial.step()


def test_no_process_outlives_one_that_was_killed(tmp_path):
    told, teller = Pipe()
    first = FORKS.Process(target=train_forever, args=(str(tmp_path), teller))
    first.start()
    teller.close()
    with told:
        other = psutil.Process(told.recv())
    assert other.status() != psutil.STATUS_ZOMBIE
    first.kill()
    until = time.monotonic() + 10
    # Whoever inherits a process may take a while to notice its end.
    while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.01)
    first.join()
    first.close()


def test_an_error_that_cannot_be_pickled_is_told_in_words():
    when, error, text = cloudpickle.loads(error_message(Unpicklable(lambda: 0, 1)))[1]
    assert when <= time.monotonic()
    assert (type(error), str(error)) == (RuntimeError, "Unpicklable: the loss is purple")
    assert "Unpicklable" in text
