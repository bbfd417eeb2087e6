"""Compare the cost of a training step: quarterturn, a hand-written loop, a tutorial's loop.

All three train the net of `FashionCnn` on the same images of random pixels, with SGD with momentum,
one epoch a round, in turn:

- own: `RotationTrainable.train_epoch`, which the trials run;
- hand: a loop over tensors on the device, written for speed, without reports or checkpoints;
- dataloader: a torchvision-style dataset of single PIL images, with ToTensor and Normalize, in a
  DataLoader without workers. It reads the loss at every step.

    python benchmarks/train_step.py --json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from trainables import Data, FashionCnn
from trainables.distributed.trainable import trial_device
from trainables.training.precision import choose_precision

SAMPLES = 12_800
BATCH = 128
CONFIG = {"lr": 0.01, "momentum": 0.9, "batch_size": BATCH, "reports_per_epoch": 1}


def pixels() -> tuple[torch.Tensor, torch.Tensor]:
    """Return random images, uint8 of shape (n, 1, 28, 28), and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (SAMPLES, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return images, torch.randint(10, (SAMPLES,), generator=generator)


class RandomFashion(FashionCnn):
    """The net of `FashionCnn` on images of random pixels."""

    def build_data(self, data_dir: str | None) -> Data:
        """Return all images as training data, and a few as validation data."""
        images, labels = pixels()
        return Data((images, labels), (images[:BATCH], labels[:BATCH]))


class SingleImages(Dataset):
    """A data set that returns single PIL images, as torchvision's data sets do."""

    def __init__(self) -> None:
        images, labels = pixels()
        self.images, self.labels = images[:, 0].numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.286,), (0.353,))]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def new_net(device: torch.device) -> nn.Module:
    """Return the net that the trainable builds."""
    torch.manual_seed(0)
    return RandomFashion().build_model(CONFIG).to(device).train()


def own(device: torch.device) -> Callable[[], object]:
    """Return a function that trains an epoch of a trial."""
    trial = RandomFashion(config={**CONFIG, "max_epochs": 10_000})
    run = trial.training_state

    def epoch() -> None:
        run.begin_part()
        run.finish_part(trial.train_epoch(), SAMPLES)

    return epoch


def by_hand(device: torch.device) -> Callable[[], object]:
    """Return a function that trains an epoch in a loop over tensors on the device."""
    net = new_net(device)
    images, labels = (tensor.to(device) for tensor in pixels())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    precision = choose_precision(device, "auto")

    def epoch() -> float:
        total = torch.zeros((), device=device)
        for batch in torch.randperm(SAMPLES, device=device).split(BATCH):
            with precision.autocast():
                loss = functional.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            precision.scaler.scale(loss).backward()
            precision.scaler.step(optimizer)
            precision.scaler.update()
            total += loss.detach()
        return total.item()

    return epoch


def dataloader(device: torch.device) -> Callable[[], object]:
    """Return a function that trains an epoch as in tutorials."""
    net = new_net(device)
    net = nn.Sequential(*list(net.children())[1:])  # the images are already standardised
    loader = DataLoader(SingleImages(), batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def epoch() -> float:
        total = 0.0
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(inputs.to(device)), targets.to(device))
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total

    return epoch


def measure(rounds: int) -> dict[str, object]:
    """Return the median milliseconds of a step, and ratios to the hand-written loop."""
    device = trial_device(False)
    loops = {"own": own(device), "hand": by_hand(device), "dataloader": dataloader(device)}
    taken: dict[str, list[float]] = {name: [] for name in loops}
    steps = SAMPLES // BATCH
    for round_ in range(rounds + 1):
        for name, epoch in loops.items():
            begun = time.perf_counter()
            epoch()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if round_:  # the first round is a warm-up
                taken[name].append(1000 * (time.perf_counter() - begun) / steps)
    ratios = {
        name: statistics.median(np.divide(taken[name], taken["hand"]).tolist()) for name in loops
    }
    return {
        "device": str(device),
        "rounds": rounds,
        **{f"{name}_ms": round(statistics.median(times), 3) for name, times in taken.items()},
        "own_to_hand": round(ratios["own"], 3),
        "dataloader_to_hand": round(ratios["dataloader"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    measured = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps(measured))
        return
    for name, figure in measured.items():
        print(f"{name:20} {figure}")


if __name__ == "__main__":
    main()
