"""Flips and shifts: where the pixels come from, how often, and that a trial can repeat them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from smallest_net import reports

from trainables import C10Cnn2Small
from trainables.datasets.images import flip_and_shift


def slow_flip_and_shift(image: np.ndarray, down: int, right: int, mirrored: bool) -> np.ndarray:
    """The same by padding: NumPy calls a reflection that repeats the edge symmetric."""
    height, width = image.shape[-2:]
    margin = max(abs(down), abs(right))
    image = image[..., ::-1] if mirrored else image
    padded = np.pad(image, ((0, 0), (margin, margin), (margin, margin)), mode="symmetric")
    top, left = margin - down, margin - right
    return padded[:, top : top + height, left : left + width]


def drawn(images: torch.Tensor, max_shift_px: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return flip_and_shift(images, max_shift_px)


@pytest.mark.parametrize("shape", [(40, 3, 8, 8), (40, 1, 7, 5)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_image_is_one_of_those_that_padding_gives(shape, dtype):
    images = torch.randint(0, 256, shape, dtype=torch.uint8).to(dtype)
    moved = drawn(images, 2)
    assert (moved.shape, moved.dtype) == (images.shape, dtype)
    seen = set()
    for before, after in zip(images.numpy(), moved.numpy(), strict=True):
        ways = [
            (down, right, mirrored)
            for down in range(-2, 3)
            for right in range(-2, 3)
            for mirrored in (False, True)
            if (slow_flip_and_shift(before, down, right, mirrored) == after).all()
        ]
        assert len(ways) == 1
        seen.update(ways)
    assert len(seen) > 20


def test_shifts_are_drawn_evenly_and_half_of_the_images_are_mirrored():
    # Every pixel tells where it comes from, so one pixel in the middle tells what was drawn.
    positions = torch.arange(16 * 16).reshape(1, 1, 16, 16).expand(20_000, 1, 16, 16)
    moved = drawn(positions, 4)[:, 0]
    row, column = moved[:, 8, 8] // 16, moved[:, 8, 8] % 16
    mirrored = moved[:, 8, 7] > moved[:, 8, 8]
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.02)
    shifts = {"down": 8 - row, "right": torch.where(mirrored, 7, 8) - column}
    for shift in shifts.values():
        values, counts = shift.unique(return_counts=True)
        assert values.tolist() == list(range(-4, 5))
        assert (counts / 20_000).tolist() == pytest.approx([1 / 9] * 9, abs=0.012)
    both = torch.stack([*shifts.values(), mirrored.long()]).double()
    assert (torch.corrcoef(both) - torch.eye(3)).abs().max() < 0.03


def test_no_shift_leaves_the_image_or_its_mirror():
    images = torch.randint(0, 256, (50, 3, 6, 6), dtype=torch.uint8)
    same = (drawn(images, 0) == images).flatten(1).all(dim=1)
    mirror = (drawn(images, 0) == images.flip(3)).flatten(1).all(dim=1)
    assert (same | mirror).all()
    assert 10 < same.sum() < 40


@pytest.fixture
def config(write_fashion, tmp_path):
    folder = write_fashion(tmp_path / "fashion", train=400, test=30)
    return {"data_dir": str(folder), "train_samples": 128, "batch_size": 32, "max_epochs": 3}


@pytest.mark.parametrize("reports_per_epoch", [1, 2], ids=["at-an-end", "within"])
def test_a_resumed_trial_draws_what_an_unbroken_one_does(config, reports_per_epoch, tmp_path):
    config["reports_per_epoch"] = reports_per_epoch
    seen: dict[str, list[torch.Tensor]] = {"unbroken": [], "resumed": []}

    def recording(name: str) -> C10Cnn2Small:
        class Recording(C10Cnn2Small):
            def augment(self, inputs):
                seen[name].append(super().augment(inputs))
                return seen[name][-1]

        return Recording(config=config)

    unbroken = recording("unbroken")
    unbroken.train()
    unbroken.save(str(tmp_path))
    seen["unbroken"].clear()
    expected = reports(unbroken, 2)
    resumed = recording("resumed")
    resumed.restore(str(tmp_path))
    torch.manual_seed(99)
    resumed.restore(str(tmp_path))
    assert reports(resumed, 2) == expected
    assert len(seen["unbroken"]) == len(seen["resumed"]) > 0
    assert all(map(torch.equal, seen["unbroken"], seen["resumed"]))


def test_training_batches_alone_are_augmented_and_only_where_asked_for(config):
    trial = C10Cnn2Small(config=config)
    trial.train()
    inputs, _ = trial.training_state.data.validation
    seen = torch.cat(
        [batch for batch, _ in trial.evaluation_batches(trial.training_state.data.validation)]
    )
    assert torch.equal(seen, inputs)

    known = {image.numpy().tobytes() for image in trial.training_state.data.train[0]}
    share = {}
    for augment in (True, False):
        trial = C10Cnn2Small(config={**config, "augment": augment})
        trial.training_state.begin_interval()
        images = torch.cat([batch for batch, _ in trial.training_batches()])
        share[augment] = sum(image.numpy().tobytes() in known for image in images) / len(images)
    assert share[False] == 1
    assert share[True] < 0.2
