"""What all tests share: a Ray, and none that happens to run on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shared_ray import SharedRay

os.environ["RAY_ADDRESS"] = "local"

# What takes minutes, though it is few tests.
_LONGEST = ("tests/test_readme.py",)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, so that no process is left with one when others have ended."""
    longest = [config.rootpath / name for name in _LONGEST]
    items.sort(key=lambda item: Path(item.path) not in longest)


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[SharedRay]:
    shared = SharedRay()
    yield shared
    shared.stop()


@pytest.fixture(scope="module")
def two_cpus(shared_ray) -> None:
    """A Ray of two CPUs, which other files use too."""
    shared_ray.have(2)


@pytest.fixture(scope="module")
def four_cpus(shared_ray) -> None:
    """A Ray of four CPUs, which other files use too."""
    shared_ray.have(4)


@pytest.fixture(scope="module")
def no_ray(shared_ray) -> None:
    """No Ray runs in this process: the file starts its own."""
    shared_ray.stop()
