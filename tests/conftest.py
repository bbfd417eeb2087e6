"""What all tests share: none uses a Ray cluster that happens to run on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["RAY_ADDRESS"] = "local"

# What takes minutes, though it is few tests.
_LONGEST = ("tests/test_readme.py",)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, so that no process is left with one when others have ended."""
    longest = [config.rootpath / name for name in _LONGEST]
    items.sort(key=lambda item: Path(item.path) not in longest)
