"""The paper's tasks at full size: their data, schedules, and a step of each on generated files."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from image_files import write_cifar, write_tiny

from trainables import PAPER_TASKS, find
from trainables.datasets.cifar import CIFAR10, CIFAR100
from trainables.datasets.images import samples_of_each_class, tenth_for_validation
from trainables.tasks.paper import downsample_2x
from trainables.training.schedules import lr_factors
from tuner.errors import InvalidInput

EPOCHS_AND_DROPS = {
    # get_training_utils.py, and the notebook "MNIST 1st layer feature visualization".
    "c10-cnn1": (100, 0.2, [80, 90, 97], 128, False),
    "c100-resnet": (100, 0.1, [70, 90, 97], 128, False),
    "tiny-cnn": (80, 0.2, [70], 128, False),
    "c10-cnn2": (250, 0.2, [100, 170, 220], 128, True),
    "c100-wrn": (250, 0.2, [100, 170, 220], 128, True),
    "mnist-features": (100, 0.2, [95], 2048, None),
    "warmup-resnet": (200, 0.2, [60, 120, 160], 128, True),
}
CLASSES = {"c100-resnet": 100, "c100-wrn": 100, "tiny-cnn": 200}


@pytest.mark.parametrize("name", PAPER_TASKS)
def test_the_rate_drops_at_the_papers_epochs(name):
    epochs, factor, drops, batch_size, augment = EPOCHS_AND_DROPS[name]
    task = find(name)
    assert task.epochs == epochs
    given = task.defaults
    assert (given["batch_size"], given.get("augment")) == (batch_size, augment)
    steps = 7
    factors = lr_factors(
        given["schedule"],
        epochs * steps,
        step_factor=given["step_factor"],
        step_at=given["step_at"],
    ).reshape(epochs, steps)
    for epoch in range(epochs):
        expected = factor ** sum(epoch >= drop for drop in drops)
        assert factors[epoch] == pytest.approx(expected), epoch


@pytest.mark.parametrize("name", PAPER_TASKS)
def test_a_small_twin_has_the_schedule_and_augmentation_of_its_task(name):
    task, twin = find(name), find(name, "small")
    scale = {"batch_size", "train_samples"}
    assert {key: value for key, value in twin.defaults.items() if key not in scale} == {
        key: value for key, value in task.defaults.items() if key not in scale
    }
    assert twin.epochs <= task.epochs


@pytest.fixture
def folder(request, tmp_path, write_fashion):
    """Generated files for the task that the test is parametrised with."""
    name = request.param
    if name == "tiny-cnn":
        write_tiny(tmp_path)
    elif name == "mnist-features":
        write_fashion(tmp_path / "MNIST" / "raw")
    else:
        write_cifar(CIFAR100 if CLASSES.get(name) == 100 else CIFAR10, tmp_path, binary=True)
    return name, str(tmp_path)


@pytest.mark.parametrize(
    "folder",
    # A step of the largest takes seconds; the others and its small twin have its kind of files.
    [pytest.param(n, marks=[pytest.mark.soak] * (n == "c100-wrn")) for n in PAPER_TASKS],
    ids=PAPER_TASKS,
    indirect=True,
)
def test_a_full_size_task_trains_on_files_of_its_format(folder):
    name, data_dir = folder
    trial = find(name)(config={"data_dir": data_dir, "train_samples": 2, "max_epochs": 1})
    report = trial.train()
    assert report["done"]
    assert math.isfinite(report["train_loss"])
    assert math.isfinite(report["test_loss"])
    assert all(value > 0 for key, value in report.items() if key.startswith("rotation/"))
    inputs, targets = trial.training_state.data.train
    assert inputs.dtype == torch.uint8
    assert trial.model.eval()(inputs[:1]).shape == (1, CLASSES.get(name, 10))
    assert int(targets.max()) < CLASSES.get(name, 10)


def test_the_largest_net_answers_with_its_tasks_classes():
    with torch.device("meta"):  # shapes alone, which take no time
        net = find("c100-wrn").build_net(None).eval()
        answer = net(torch.empty(1, 3, 32, 32, dtype=torch.uint8))
    assert answer.shape == (1, CLASSES["c100-wrn"])


@pytest.mark.parametrize("value", [1, "yes", None])
def test_augment_is_true_or_false(value, write_fashion, tmp_path):
    folder = write_fashion(tmp_path)
    trial = find("c10-cnn2", "small")(
        config={"data_dir": str(folder), "train_samples": 4, "augment": value}
    )
    with pytest.raises(InvalidInput, match="augment must be true or false, got"):
        trial.step()


def images(count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.arange(count)
    pixels = np.zeros((count, 2, 2), np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = numbers % 256, numbers // 256
    return pixels, numbers % classes


def numbered(split) -> list[int]:
    pixels, labels = split
    numbers = (pixels[:, 0, 0].int() + 256 * pixels[:, 0, 1].int()).tolist()
    assert [number % 3 for number in numbers] == labels.tolist()
    return numbers


def test_a_random_tenth_is_for_validation_and_every_image_is_somewhere():
    train, test = images(300, 3), images(20, 3)
    data = tenth_for_validation(train, test)
    chosen = numbered(data.validation)
    assert len(chosen) == 30
    assert sorted(chosen + numbered(data.train)) == list(range(300))
    assert chosen != sorted(chosen)
    assert numbered(data.test) == list(range(20))
    assert numbered(tenth_for_validation(train, test).train) == numbered(data.train)
    fewer = tenth_for_validation(train, test, at_most=8)
    assert numbered(fewer.validation) == chosen[:8]
    assert numbered(fewer.train) == numbered(data.train)


@pytest.mark.parametrize(("count", "expected"), [(40, [40, 40, 40]), (1000, None)])
def test_so_many_of_each_class_are_trained_on_and_none_is_validated_on(count, expected):
    data = samples_of_each_class(images(300, 3), images(20, 3), count=count)
    train, validation = numbered(data.train), numbered(data.validation)
    assert len(validation) == 30
    assert not set(train) & set(validation)
    assert expected is None or data.train[1].bincount().tolist() == expected
    assert len(set(train)) == len(train) == (120 if expected else 270)


def test_halving_takes_the_rounded_mean_of_each_square():
    pixels = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(2, 4, 6) * 5
    expected = pixels.reshape(2, 2, 2, 3, 2).astype(float).mean(axis=(2, 4))
    found = downsample_2x(pixels)
    assert (found.shape, found.dtype) == ((2, 1, 2, 3), np.uint8)
    assert np.abs(found[:, 0] - expected).max() <= 0.5
    assert downsample_2x(np.full((1, 2, 2), 255, np.uint8)).item() == 255
