"""Measure the size of a study's page, and the time until a browser can use it.

The studies are generated (20 epochs, 5 layers). The pages are the file that `report --html` writes,
and the page that `serve` sends, from a journal, over the local network. `usable_ms` is the time
until the table responds, `drawn_ms` the time until all charts are drawn, `carried_mb` the data that
cross the network. Each figure is the median of several openings. Needs Chromium and the test
extras.

    python benchmarks/page.py --json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.report.browser import chromium, opened  # noqa: E402
from tests.report.tuned_studies import night  # noqa: E402
from tests.serve.serving import Served, server  # noqa: E402
from tests.serve.stored import store  # noqa: E402
from tuner.report import write_html  # noqa: E402

_USABLE = "performance.getEntriesByName('usable')[0].startTime"
_DRAWN = "performance.getEntriesByName('drawn')[0].startTime"
_CARRIED = "performance.getEntriesByType('navigation')[0].encodedBodySize"


def timed(browser: Any, page: Path | str, repeats: int, **how: Any) -> dict[str, float]:
    """Return the median milliseconds until the table is usable and the charts are drawn."""
    found: dict[str, list[float]] = {"usable_ms": [], "drawn_ms": [], "carried_mb": []}
    for _ in range(repeats):
        with opened(browser, page, **how) as seen:
            found["usable_ms"].append(seen.page.evaluate(_USABLE))
            found["drawn_ms"].append(seen.page.evaluate(_DRAWN))
            found["carried_mb"].append(seen.page.evaluate(_CARRIED) / 1e6)
    return {name: round(statistics.median(values), 2) for name, values in found.items()}


def seconds(name: str, call: Callable[[], object]) -> dict[str, float]:
    """Return the time of a call, and its CPU time, which a busy machine changes less."""
    begun, used = time.perf_counter(), time.process_time()
    call()
    took, cpu = time.perf_counter() - begun, time.process_time() - used
    return {f"{name}_s": round(took, 3), f"{name}_cpu_s": round(cpu, 3)}


def file_of(browser: Any, trials: int, folder: Path, repeats: int) -> dict[str, float]:
    """Measure the file that `report --html` writes."""
    file = folder / f"night-{trials}.html"
    result = night(trials)
    written = seconds("written", lambda: write_html(result, file))
    found = timed(browser, file, repeats)
    del found["carried_mb"]
    return {"mb": round(file.stat().st_size / 1e6, 2), **written, **found}


def page_of(browser: Any, trials: int, folder: Path, repeats: int) -> dict[str, float]:
    """Measure the served page: the first answer, cached answers, and the cost of a change."""
    store(night(trials), folder / f"{trials}")
    with server(folder / f"{trials}", interval_s=1.0) as served:
        first = seconds("first_answer", lambda: served.ask("/studies/night"))
        page = served.ask("/studies/night").body
        found = timed(browser, f"{served.url}/studies/night", repeats, cookies=served.cookies)
        return {
            "mb": round(len(page.encode()) / 1e6, 2),
            **first,
            **seconds("kept_answer", lambda: served.ask("/studies/night")),
            **found,
            **change_of(served, folder / f"{trials}"),
        }


def change_of(served: Served, folder: Path) -> dict[str, float]:
    """Measure the request of a page after one trial has ended."""
    from tests.serve.serving import written
    from tuner.study.folder import StudyFolder

    revision = served.ask("/studies/night/records.json?since=").json["revision"]
    with written(StudyFolder(folder / "night")) as (study, _):
        study.tell(study.ask(), 0.5)
    time.sleep(1.1)  # the server reads the study once a second
    path = f"/studies/night/records.json?since={revision}"
    change = seconds("change", lambda: served.ask(path))
    news = served.ask(path)
    assert len(news.json["number"]) == 1
    return {**change, "change_kb": round(len(news.body) / 1e3, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[200, 10_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    from playwright.sync_api import sync_playwright

    found: dict[str, Any] = {"repeats": given.repeats}
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as name:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        found["chromium"] = browser.version
        for trials in given.trials:
            for kind, measure in (("file", file_of), ("served", page_of)):
                found[f"{kind}_{trials}"] = measure(browser, trials, Path(name), given.repeats)
        browser.close()
    print(json.dumps(found, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
