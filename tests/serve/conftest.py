"""What the tests of the server share: studies, their server, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from tests.report.conftest import browser  # noqa: F401
from tests.serve.serving import Served, server
from tests.study.example_studies import make_study

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> Path:
    """A folder with two studies that nobody writes any more."""
    folder = tmp_path_factory.mktemp("served") / "studies"
    make_study(folder, "first")
    make_study(folder, "second")
    return folder


@pytest.fixture(scope="module")
def served(studies) -> Iterator[Served]:
    with server(studies) as running:
        yield running
