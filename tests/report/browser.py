"""A real Chromium for the tests of the page, and what it says of a page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1280, 900), (390, 844)


@dataclass
class Seen:
    """A page as it is shown: what it said on its console and what it tried to load."""

    page: Any
    said: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        """Return what axe-core finds against the page as it stands."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [f"{rule['id']}: {[node['html'] for node in rule['nodes']]}" for rule in found]

    def column(self, index: int) -> list[str]:
        return self.page.locator(f"#table tbody tr > :nth-child({index + 1})").all_text_contents()

    def heading(self, name: str) -> Any:
        return self.page.locator("#table thead button").filter(has_text=name).first


def chromium() -> str:
    """Return where Chromium is; skip the test, saying what is missing, where it is not."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed; apt-get install chromium")
    return found


@contextmanager
def opened(
    browser: Any,
    page: Path | str,
    size: tuple[int, int] = DESKTOP,
    theme: str = "light",
    at: str = "",
    drawn: bool = True,
    cookies: Sequence[dict[str, str]] = (),
) -> Iterator[Seen]:
    """Open a file or an address, and wait until its charts are `drawn`; whatever it logs or loads
    is kept."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=theme, reduced_motion="reduce"
    )
    context.add_cookies(list(cookies))
    seen = Seen(context.new_page())
    seen.page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
    seen.page.on("dialog", lambda dialog: (seen.said.append(dialog.message), dialog.dismiss()))
    seen.page.on("request", lambda request: seen.loaded.append(request.url))
    seen.page.goto(f"{page.as_uri() if isinstance(page, Path) else page}{at}")
    if drawn:
        seen.page.wait_for_selector("html[data-drawn]", timeout=30_000, state="attached")
    yield seen
    context.close()
