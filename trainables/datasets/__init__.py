"""Image data sets: each reader returns arrays, which become the `Data` of a task.

Begin with `images`. `read_fashion`, `read_mnist`, `read_cifar` and `read_tiny_imagenet` find the
files, download them if they can, and check them. `stratified`, `tenth_for_validation` and
`samples_of_each_class` make splits; `flip_and_shift` augments a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables._lazy import lazy_attributes

if TYPE_CHECKING:
    from trainables.datasets.cifar import CIFAR10, CIFAR100, read_cifar
    from trainables.datasets.images import (
        Images,
        flip_and_shift,
        read_fashion,
        read_mnist,
        samples_of_each_class,
        stratified,
        tenth_for_validation,
    )
    from trainables.datasets.tiny_imagenet import read_tiny_imagenet

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "Images",
    "flip_and_shift",
    "read_cifar",
    "read_fashion",
    "read_mnist",
    "read_tiny_imagenet",
    "samples_of_each_class",
    "stratified",
    "tenth_for_validation",
]

__getattr__ = lazy_attributes(
    __name__,
    {
        "CIFAR10": "cifar",
        "CIFAR100": "cifar",
        "read_cifar": "cifar",
        "Images": "images",
        "flip_and_shift": "images",
        "read_fashion": "images",
        "read_mnist": "images",
        "samples_of_each_class": "images",
        "stratified": "images",
        "tenth_for_validation": "images",
        "read_tiny_imagenet": "tiny_imagenet",
    },
)
