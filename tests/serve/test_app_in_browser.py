"""The served pages as they are seen in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from tests.report.browser import DESKTOP, PHONE, opened
from tests.report.tuned_studies import EVIL, HOSTILE, night
from tests.serve.serving import TOKEN, server, written
from tests.serve.stored import store
from tests.study.example_studies import make_study, report
from tests.waiting import until
from tuner.serve.studies import DatabaseSource


@pytest.fixture(scope="module")
def nights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nights") / "studies"
    store(night(40), folder)
    make_study(folder, "small")
    return folder


@pytest.fixture(scope="module")
def served_nights(nights):
    with server(nights) as running:
        yield running


BOTH = [(DESKTOP, "light"), (PHONE, "dark")]


@pytest.mark.parametrize(
    ("path", "size", "theme"),
    [(path, *how) for path in ("/", "/studies/night") for how in BOTH]
    + [("/studies/nowhere", *BOTH[0])],
)
def test_the_pages_are_accessible_and_quiet(browser, served_nights, path, size, theme):
    page = f"{served_nights.url}{path}"
    drawn = path == "/studies/night"
    with opened(browser, page, size, theme, drawn=drawn, cookies=served_nights.cookies) as seen:
        if path != "/studies/nowhere":
            seen.page.get_by_text("live", exact=True).wait_for()
            assert seen.said == []
        assert seen.violations() == []
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert seen.page.evaluate(wider) <= 0
        assert all(address.startswith(served_nights.url) for address in seen.loaded)


@pytest.mark.parametrize("path", ["/", "/studies/small"])
def test_a_link_signs_in_and_is_gone_from_the_address(browser, served_nights, path):
    page = f"{served_nights.url}{path}#token={TOKEN}"
    with opened(browser, page, drawn=False) as seen:
        seen.page.get_by_text("live", exact=True).wait_for()
        assert seen.page.url == f"{served_nights.url}{path}"
        assert TOKEN not in "".join(seen.loaded).replace(page, "")
        assert TOKEN not in seen.page.evaluate("document.cookie")
        seen.page.goto(f"{served_nights.url}/#token={TOKEN}")  # once more, signed in already
        seen.page.get_by_text("live", exact=True).wait_for()
        until(lambda: "token" not in seen.page.url, "the address is clean")


def test_the_token_can_be_typed_and_a_wrong_one_is_shown(browser, served_nights):
    with opened(browser, served_nights.url, drawn=False) as seen:
        assert seen.violations() == []
        seen.page.get_by_label("Token").fill("not the token")
        seen.page.get_by_role("button", name="Sign in").click()
        seen.page.get_by_text("That is not the token.").wait_for()
        seen.page.get_by_label("Token").fill(TOKEN)
        seen.page.get_by_role("button", name="Sign in").click()
        seen.page.get_by_role("link", name="night").click()
        seen.page.get_by_role("heading", name="night", exact=True).wait_for()


def test_a_trial_appears_while_the_page_is_open_and_nobody_loses_their_place(browser, tmp_path):
    home = make_study(tmp_path)
    with (
        server(tmp_path) as served,
        opened(browser, f"{served.url}/studies/example", cookies=served.cookies) as seen,
    ):
        page = seen.page
        page.get_by_text("live", exact=True).wait_for()
        page.evaluate("window.stays = 1")
        page.get_by_label("Search").fill("because")
        seen.heading("epochs").click()
        page.get_by_text("2 of 2 trials shown").wait_for()
        page.evaluate("scrollTo(0, 600)")  # so that focus need not scroll
        at = page.evaluate("byId('trials').getBoundingClientRect().top")
        with written(home) as (study, flush):
            page.get_by_role("link", name="Trial 1", exact=True).last.focus()
            assert page.evaluate("document.activeElement.getAttribute('href')") == "#trial-1"
            study.ask().suggest_float("momentum", 0, 1)
            new = study.ask()
            new.set_user_attr("reason", "because it is new")
            new.suggest_float("lr", 0.1, 1.0)
            report(new, 1, 0.625)
            flush()
            page.get_by_text("3 of 3 trials shown").wait_for()
            assert "0.625" in page.locator("#running").inner_text()
            assert seen.column(6) == ["2", "2", "1"]
            assert "2 trials are running" in page.locator("#running h2").inner_text()
            seen.heading("momentum").wait_for()
            assert page.evaluate("byId('search').value") == "because"
            assert page.evaluate("document.activeElement.getAttribute('href')") == "#trial-1"
            assert page.evaluate("document.activeElement.closest('#table') !== null")
            moved = page.evaluate("byId('trials').getBoundingClientRect().top") - at
            page.locator("#table tbody a").filter(has_text="4").first.click()
            dialog = page.get_by_role("dialog", name="Trial 4", exact=True)
            dialog.get_by_text("1 of 4").wait_for()
            for epoch in (2, 3, 4):
                report(new, epoch, 0.9)
            study.tell(new, 0.9)
            flush()
            dialog.get_by_text("4 of 4").wait_for()
            dialog.get_by_text("rank 1 of 5").wait_for()
            page.keyboard.press("Escape")
        page.get_by_role("heading", name="Trial 4 is the best, with val_accuracy 0.9").wait_for()
        assert abs(moved) < 200
        assert page.evaluate("window.stays") == 1
        assert seen.said == []


def test_a_study_that_goes_and_comes_again_is_shown_without_a_reload(browser, tmp_path):
    home = make_study(tmp_path)
    with (
        server(tmp_path) as served,
        opened(browser, f"{served.url}/studies/example", cookies=served.cookies) as seen,
    ):
        seen.page.get_by_text("live", exact=True).wait_for()
        home.path.rename(tmp_path.parent / f"{tmp_path.name}-away")
        seen.page.get_by_text("study example does not exist, or was removed").wait_for()
        assert len(seen.column(0)) == 4
        (tmp_path.parent / f"{tmp_path.name}-away").rename(home.path)
        seen.page.locator("#trouble").wait_for(state="hidden")
        with written(home) as (study, flush):
            report(study.ask(), 3, 0.75)
            flush()
            seen.page.locator("#table").get_by_text("0.75").first.wait_for()


def test_hostile_names_are_text_and_never_run(browser, tmp_path):
    url = f"sqlite:///{tmp_path}/hostile.db"
    store(night(40, names=HOSTILE), tmp_path, url=url)
    with (
        server(source=DatabaseSource(url)) as served,
        opened(browser, served.url, drawn=False, cookies=served.cookies) as seen,
    ):
        seen.page.get_by_text("live", exact=True).wait_for()
        seen.page.get_by_role("link", name=HOSTILE["name"]).click()
        seen.page.wait_for_selector("html[data-drawn]", state="attached", timeout=30_000)
        seen.page.get_by_text("live", exact=True).wait_for()
        assert seen.page.locator("h1").inner_text() == HOSTILE["name"]
        study = optuna.load_study(study_name=HOSTILE["name"], storage=url)
        trial = study.ask()
        trial.suggest_categorical(f"new{EVIL}", [EVIL])
        trial.report(0.5, 1)
        trial.set_user_attr("reason", EVIL)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        last = seen.page.locator("#running").get_by_text(EVIL).first
        last.wait_for()
        seen.page.get_by_text("41 of 41 trials shown").wait_for()
        until(lambda: seen.page.evaluate("storyAt === latest"), "the story is told again")
        assert seen.page.evaluate("window.ran") is None
        assert seen.page.locator("img").count() == 0
        assert seen.said == []


def test_a_server_that_comes_again_is_listened_to_again(browser, tmp_path):
    make_study(tmp_path)
    with server(tmp_path) as served:
        context = opened(browser, f"{served.url}/", drawn=False, cookies=served.cookies)
        seen = context.__enter__()
        seen.page.get_by_text("live", exact=True).wait_for()
    seen.page.get_by_text("not connected, trying again").wait_for()
    make_study(tmp_path, "later")
    with server(tmp_path, port=served.port):
        seen.page.get_by_role("link", name="later").wait_for(timeout=30_000)
        context.__exit__(None, None, None)
