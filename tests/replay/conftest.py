"""What the tests of recordings share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def one_file(tmp_path_factory) -> Path:
    """The file that one example after the other is written to."""
    return tmp_path_factory.mktemp("one") / "one.parquet"
