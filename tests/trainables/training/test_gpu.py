"""What differs on a GPU: the number format, and where the data stays."""

from __future__ import annotations

import pytest
import torch

from trainables import DigitsMlp

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


def test_a_trial_trains_on_the_gpu_in_half_precision_and_resumes(tmp_path):
    config = {"max_epochs": 3}
    trial = DigitsMlp(config=config)
    trial.step()
    trial.save(str(tmp_path))
    expected = trial.step()
    assert trial.device.type == "cuda"
    assert trial.training_state.data.train[0].is_cuda
    assert trial.training_state.precision.dtype in (torch.bfloat16, torch.float16)

    resumed = DigitsMlp(config=config)
    resumed.restore(str(tmp_path))
    report = resumed.step()
    assert report["val_accuracy"] > 0.8
    assert report["train_loss"] == pytest.approx(expected["train_loss"], rel=0.05)


def test_half_precision_can_be_turned_off():
    trial = DigitsMlp(config={"amp": "off"})
    trial.step()
    assert trial.training_state.precision.dtype is None
