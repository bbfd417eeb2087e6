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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, and those that start a Ray of their own before the others.

    No process is then left with a long file when others have ended, and none ends the shared Ray
    for a file and starts it again after it, which takes 10 s of a CPU.
    """
    longest = {config.rootpath / name for name in _LONGEST}
    own_ray = {Path(item.path) for item in items if "no_ray" in getattr(item, "fixturenames", ())}

    def turn(item: pytest.Item) -> int:
        path = Path(item.path)
        return 0 if path in longest else 1 if path in own_ray else 2

    items.sort(key=turn)


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[SharedRay]:
    shared = SharedRay()
    yield shared
    shared.stop()


@pytest.fixture(scope="module")
def two_cpus(shared_ray) -> None:
    """A Ray of two CPUs, which other files use too."""
    shared_ray.start()


@pytest.fixture(scope="module")
def no_ray(shared_ray) -> None:
    """No Ray runs in this process: the file starts its own."""
    shared_ray.stop()
