"""One Chromium for all tests of the page, and the pages that they look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import chromium
from tests.report.tuned_studies import HOSTILE, night
from tuner.report import write_html


# Of the module alone: while it is open its event loop runs in this thread, and no other could.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # As root, which containers often are, Chromium has no sandbox.
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def page_60(tmp_path_factory) -> Path:
    """Has every chart, and few rows: what looks at each element takes long."""
    file = tmp_path_factory.mktemp("page") / "night.html"
    write_html(night(60), file)
    return file


@pytest.fixture(scope="session")
def page_200(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("page") / "night.html"
    write_html(night(200), file)
    return file


@pytest.fixture(scope="session")
def page_hostile(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("page") / "hostile.html"
    write_html(night(60, names=HOSTILE), file)
    return file
