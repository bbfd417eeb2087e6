"""The event stream of a study while another thread writes it, through its real storage."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.report.tuned_studies import HOSTILE
from tests.serve.serving import server, written
from tests.study.example_studies import make_study, report
from tests.waiting import until
from tuner.serve.studies import DatabaseSource
from tuner.study.folder import StudyFolder


@pytest.fixture(params=["journal", "database"])
def home(request, tmp_path) -> StudyFolder:
    url = f"sqlite:///{tmp_path}/study.db" if request.param == "database" else None
    return make_study(tmp_path / "studies", url=url)


def test_what_is_written_is_shown_as_it_is_written(home):
    with server(home.path.parent) as served, served.listening("/studies/example/events") as heard:
        until(lambda: heard.parts.get("lede"), "the first event")
        assert heard.parts["lede"].startswith("3 of 4 trials (1 complete, 1 pruned, 1 failed")
        first = heard.parts["revision"]
        with written(home) as (study, flush):
            trial = study.ask()
            report(trial, 3, 0.75)
            flush()
            until(lambda: "0.75" in heard.parts["running"], "the report of a running trial")
            assert heard.parts["revision"] != first
            assert "1 trial is running" in heard.parts["running"]
            study.tell(trial, 0.75)
        until(lambda: heard.parts["finished"], "the end of the study")
        assert heard.parts["lede"].startswith("4 of 4 trials (2 complete")
        assert heard.lines[0].startswith("retry: ")
        # What has not changed is not sent again.
        assert all("trouble" not in event for event in heard.events[1:])


def test_nothing_is_sent_as_long_as_nothing_is_written(home):
    with server(home.path.parent) as served, served.listening("/studies/example/events") as heard:
        until(lambda: heard.parts.get("lede"), "the first event")
        reader = served.registry.studies["example"].reader
        looks = reader.looks
        until(lambda: reader.looks > looks + 5, "more looks")
        assert len(heard.events) == 1


def test_only_the_trials_that_changed_are_sent_again(home):
    with server(home.path.parent) as served:
        whole = served.ask("/studies/example/records.json").json
        assert (whole["since"], sorted(whole["number"])) == (None, [0, 1, 2, 3])
        same = served.ask(f"/studies/example/records.json?since={whole['revision']}").json
        assert (same["revision"], same["number"]) == (whole["revision"], [])
        with written(home) as (study, _):
            trial = study.ask()
            report(trial, 3, 0.75)
            study.tell(trial, 0.75)
        since = f"/studies/example/records.json?since={whole['revision']}"
        until(lambda: served.ask(since).json["number"], "the change")
        news = served.ask(since).json
        assert (news["number"], news["value"], news["rank"], news["total"]) == ([3], [0.75], [0], 4)
        for unknown in ("", "another-1", "x", f"{whole['revision']}x", "-"):
            again = served.ask(f"/studies/example/records.json?since={unknown}").json
            assert (again["since"], len(again["number"])) == (None, 4)


def test_a_browser_that_has_an_answer_already_is_shown_so(home):
    with server(home.path.parent) as served:
        for path in (
            "/studies/example",
            "/studies/example/records.json",
            "/studies/example/story.json",
        ):
            said = served.ask(path)
            again = served.ask(path, If_None_Match=said.headers["etag"])
            assert (again.status, again.body) == (304, "")
            assert (
                again.headers["content-security-policy"] == said.headers["content-security-policy"]
            )
            assert served.ask(path, If_None_Match='"another"').status == 200


def test_fifty_who_listen_cost_one_look_an_interval(tmp_path):
    home = make_study(tmp_path)
    with server(tmp_path, interval_s=0.1) as served, ExitStack() as stack:
        heard = [
            stack.enter_context(served.listening("/studies/example/events")) for _ in range(49)
        ]
        heard.append(stack.enter_context(served.listening("/events")))
        until(lambda: all(one.parts for one in heard), "an event for everyone")
        (study,) = served.registry.studies.values()
        assert study.events.listeners == 49
        assert served.registry.events.listeners == 1
        before, at = study.reader.looks, threading.Event()
        at.wait(1.0)
        looked = study.reader.looks - before
        assert 1 <= looked <= 11
        with written(home) as (study_, flush):
            report(study_.ask(), 3, 0.75)
            flush()
            until(lambda: all("0.75" in str(one.parts) for one in heard[:49]), "the news")
        assert len(served.registry.studies) == 1


def test_who_goes_is_forgotten_and_the_study_is_closed(tmp_path):
    make_study(tmp_path)
    with server(tmp_path, linger_s=0.2) as served:
        with served.listening("/studies/example/events") as heard, served.listening("/events"):
            until(lambda: heard.parts, "the first event")
            study = served.registry.studies["example"]
            until(lambda: served.registry.events.listeners == 1, "both listen")
            assert study.events.listeners == 1
        until(lambda: study.events.listeners == 0, "the stream has ended")
        until(lambda: served.registry.events.listeners == 0, "the other one too")
        until(lambda: not served.registry.studies, "the study is closed")
        looks = study.reader.looks
        threading.Event().wait(0.5)
        assert study.reader.looks == looks
        assert study.reader._reading is None


def test_all_streams_end_when_the_server_does(tmp_path):
    make_study(tmp_path)
    with ExitStack() as stack:
        with server(tmp_path) as served:
            heard = [
                stack.enter_context(served.listening(path))
                for path in ("/events", "/studies/example/events")
            ]
            until(lambda: all(one.parts for one in heard), "the first events")
        until(lambda: all(one.ended for one in heard), "the streams have ended")


def test_studies_that_begin_change_and_go_are_shown_to_the_page_of_all(tmp_path):
    home = make_study(tmp_path, "one")
    with server(tmp_path) as served, served.listening("/events") as heard:
        until(lambda: "=/studies/one" in heard.parts, "the first study")
        make_study(tmp_path, "two & more/".replace("/", "?"))
        until(lambda: "=/studies/two%20%26%20more%3F" in heard.parts, "the second")
        with written(home) as (study, flush):
            study.ask()
            flush()
            until(lambda: ">running<" in heard.parts["=/studies/one"], "that it runs")
        shutil.rmtree(tmp_path / "one")
        until(lambda: heard.parts["=/studies/one"] is None, "that it is gone")
        assert "one" not in heard.parts["order"]


class TestTrouble:
    def test_a_study_that_goes_is_shown_in_a_line_and_one_that_comes_again_is_shown(self, tmp_path):
        make_study(tmp_path)
        with server(tmp_path) as served, served.listening("/studies/example/events") as heard:
            until(lambda: heard.parts.get("trouble") == "", "the first event")
            first = heard.parts["revision"]
            assert served.ask("/studies/example").status == 200
            shutil.rmtree(tmp_path / "example")
            until(lambda: heard.parts["trouble"], "the trouble")
            assert heard.parts["trouble"] == "study example does not exist, or was removed"
            said = served.ask("/studies/example", Accept="text/html")
            assert said.status == 404
            assert "Study example does not exist, or was removed." in said.body
            assert list(tmp_path.iterdir()) == []
            make_study(tmp_path)
            until(lambda: heard.parts["trouble"] == "", "the study")
            until(lambda: heard.parts["revision"].split("-")[0] != first.split("-")[0], "a reading")

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"", "holds nothing yet"),
            (b'{"op_code": 0, "worker', "holds nothing yet"),
            (b"\x00\xff garbage\n{}\n", "cannot be read now"),
            (b'{"op_code": 4, "worker_id": "w", "study_id": 7}\n', "holds nothing yet"),
            (b"[1, 2]\n", "cannot be read now"),
        ],
        ids=["empty", "half", "garbage", "no-study", "other"],
    )
    def test_a_study_that_cannot_be_read_is_shown_in_a_line(self, tmp_path, content, line):
        (tmp_path / "odd").mkdir()
        (tmp_path / "odd" / "study.log").write_bytes(content)
        make_study(tmp_path, "well")
        with server(tmp_path) as served:
            said = served.ask("/studies/odd", Accept="text/html")
            assert said.status == 503
            assert line in said.body
            assert "Traceback" not in said.body
            assert served.ask("/studies/odd/records.json").status == 503
            assert served.ask("/studies/odd/events").status == 503
            page = served.ask("/").body
            assert line in page
            assert "/studies/well" in page

    def test_a_line_that_is_half_written_is_read_when_it_is_whole(self, tmp_path):
        home = make_study(tmp_path)
        with written(home) as (study, _):
            study.ask()
        whole = home.journal.read_bytes()
        home.journal.write_bytes(whole[:-10])
        with server(tmp_path) as served, served.listening("/studies/example/events") as heard:
            until(lambda: "No trial is running" in heard.parts.get("running", ""), "a first look")
            with home.journal.open("ab") as file:
                file.write(whole[-10:])
            until(lambda: "1 trial is running" in heard.parts["running"], "the whole line")
            assert heard.parts["trouble"] == ""

    def test_a_database_without_the_study_or_in_ruins_is_shown_in_a_line(self, tmp_path):
        url = f"sqlite:///{tmp_path}/a.db"
        for name in ("a", "b"):
            optuna.create_study(storage=url, study_name=name)
        with server(source=DatabaseSource(url)) as served:
            assert served.ask("/studies/a").status == 200
            optuna.delete_study(storage=url, study_name="a")
            until(lambda: served.ask("/studies/a").status == 404, "that it is gone")
            assert "/studies/a" not in served.ask("/").body
            (tmp_path / "a.db").write_bytes(b"x" * 100_000)
            until(lambda: served.ask("/studies/b").status == 503, "that it cannot be read")
            assert "the database cannot be read now" in served.ask("/").body


NAMES = ["plain", "a/b", "..", "x?y#z", "100%", "50%25", "a b+c", "ü", "events", HOSTILE["name"]]


def test_any_name_in_a_database_has_its_page(tmp_path):
    url = f"sqlite:///{tmp_path}/all.db"
    for name in NAMES:
        study = optuna.create_study(storage=url, study_name=name)
        study.tell(study.ask({}), 0.5)
    study = optuna.create_study(storage=url, study_name="two", directions=["minimize"] * 2)
    with server(source=DatabaseSource(url)) as served:
        page = served.ask("/").body
        assert "must have one objective" in page
        assert "<img" not in page
        with served.listening("/events") as heard:
            until(lambda: heard.parts.get("order"), "the rows")
            links = [part[1:] for part in heard.parts if part.startswith("=")]
        assert len(links) == len(NAMES) + 1
        for link in links:
            assert f'href="{link}"' in page
            said = served.ask(f"{link}/records.json")
            assert said.status == (503 if link == "/studies/two" else 200), link
            assert served.ask(f"{link}/events" if said.status == 503 else "/nowhere").status > 400


def test_names_of_a_folder_that_are_no_text_are_no_trouble(tmp_path):
    odd = Path(tmp_path) / "caf\udce9"
    make_study(tmp_path, "plain")
    (tmp_path / "plain").rename(odd)
    with server(tmp_path) as served:
        assert 'href="/studies/caf%E9"' in served.ask("/").body
        assert served.ask("/studies/caf%E9").status == 200


def test_a_trial_is_shown_by_its_end(tmp_path):
    home = make_study(tmp_path)
    with server(tmp_path) as served, served.listening("/studies/example/events") as heard:
        until(lambda: heard.parts, "the first event")
        with written(home) as (study, _):
            trial = study.ask()
            trial.set_user_attr("reason", "peers: <b>far</b> behind")
            study.tell(trial, state=TrialState.PRUNED)
        until(lambda: "&lt;b&gt;far" in heard.parts["running"], "the verdict")


def test_a_study_that_rests_is_not_read_again_until_it_is_written(tmp_path):
    home = make_study(tmp_path, "old")
    os.utime(home.journal, (1e9, 1e9))
    with server(tmp_path) as served, served.listening("/events") as heard:
        until(lambda: "2001-09-09" in heard.parts.get("=/studies/old", ""), "the row")
        reader = served.registry.studies["old"].reader
        make_study(tmp_path, "new")
        until(lambda: "=/studies/new" in heard.parts, "another look at all")
        assert (reader.looks, reader._reading) == (1, None)
        with written(home) as (study, flush):
            study.ask()
            flush()
            until(lambda: ">running<" in heard.parts["=/studies/old"], "that it runs again")
