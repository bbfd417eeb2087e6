"""A trial that has reserved two GPUs trains on both, as it would on one."""

from __future__ import annotations

import time

import pytest
import torch
from shared_nets import Shared
from smallest_net import epochs
from torch import nn

from trainables import DigitsMlp
from tuner.errors import InvalidInput

GPUS = torch.cuda.device_count()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(GPUS < 2, reason=f"two CUDA devices are needed, torch sees {GPUS}"),
]

CONFIG = {"max_epochs": 3, "batch_size": 10, "lr": 0.05, "amp": "off"}


def trial_of(trainable, request, **config):
    trial = trainable(config={**CONFIG, **config})
    request.addfinalizer(trial.stop)
    return trial


@pytest.mark.parametrize("net", ["plain", "normalised"])
def test_two_gpus_train_as_one(request, net):
    one, both = (trial_of(Shared, request, net=net, processes=count) for count in (1, 2))
    for expected, found in zip(epochs(one), epochs(both), strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    for expected, found in zip(one.model.parameters(), both.model.parameters(), strict=True):
        assert (found - expected).norm() <= 1e-4 * expected.norm()


def test_batches_are_normalised_over_both_and_half_precision_learns(request):
    trial = trial_of(DigitsMlp, request, processes=2, amp="auto", batch_size=64)
    last = epochs(trial, 3)[-1]
    assert any(isinstance(module, nn.SyncBatchNorm) for module in trial.model.modules())
    assert last["val_accuracy"] > 0.8


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("fault", "rank", "error", "message"),
    [
        ("raises", 1, ValueError, "the loss is purple"),
        ("dies", 1, RuntimeError, "process 1 of the trial's 2 has died of SIGKILL"),
        ("ends early", 1, InvalidInput, "the same number of steps in each process"),
    ],
)
def test_an_error_on_another_gpu_ends_the_trial_in_seconds(request, fault, rank, error, message):
    trial = trial_of(Shared, request, processes=2, fault=fault, **{"in": rank})
    _ = trial.training_state
    begun = time.monotonic()
    with pytest.raises(error, match=message):
        trial.step()
    assert time.monotonic() - begun < 30


def test_more_processes_than_gpus_are_refused(request):
    with pytest.raises(InvalidInput, match=f"processes must be <= {GPUS}"):
        trial_of(Shared, request, processes=GPUS + 1, batch_size=10 * GPUS).step()
