"""RotationMonitor beside a GPU: the same distances, and one wait for all layers."""

import warnings

import pytest
import torch

from tests.rotation.nets import small_net, turn
from tuner.rotation import RotationMonitor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("device", [None, "cpu"])
def test_on_a_gpu_the_distances_are_those_of_the_cpu(device):
    on_cpu, on_gpu = small_net(), small_net().cuda()
    monitors = RotationMonitor(on_cpu), RotationMonitor(on_gpu, device=device)
    turn(on_cpu, 0.5)
    on_gpu.load_state_dict(on_cpu.state_dict())
    assert monitors[1].measure() == pytest.approx(monitors[0].measure(), abs=1e-7)


def test_on_a_gpu_one_measurement_waits_once():
    monitor = RotationMonitor(small_net().cuda())
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            monitor.measure()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(caught) == 1


def test_the_snapshot_follows_the_model_to_a_gpu():
    model = small_net()
    monitor = RotationMonitor(model)
    turn(model, 0.5)
    before = monitor.measure()
    model.cuda()
    assert monitor.measure() == pytest.approx(before, abs=1e-7)
    assert all(weight.is_cuda for weight in monitor.state_dict()["initial"].values())
