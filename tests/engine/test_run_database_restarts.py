"""A real PostgreSQL is stopped and started again while a study in it is run, and read."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from curve_trials import logged, report_at, space
from rich.console import Console

from tests.postgresql import Server, started_server
from tests.waiting import until
from tuner import InvalidInput, load_study, run
from tuner.cli import main
from tuner.engine.callbacks import RunCallback
from tuner.report.terminal import watch
from tuner.serve.studies import DatabaseSource, HTTPError, Reader
from tuner.storage import database as outage
from tuner.storage import lease

pytestmark = pytest.mark.usefixtures("two_cpus")
EPOCHS = 25


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.5)


class Counting(RunCallback):
    """Counts what it is told, and keeps the lines."""

    def __init__(self) -> None:
        self.reports = 0
        self.ended = 0
        self.lines: list[str] = []

    def noted(self, line):
        self.lines.append(line)

    def reported(self, number, report):
        self.reports += 1

    def finished(self, number, state, value, epochs, reason):
        self.ended += 1


def test_a_study_whose_database_is_restarted_goes_on_and_has_every_report_once(
    server, make_job, tmp_path
):
    counting, log = Counting(), tmp_path / "log"
    url = server.url.replace("postgres:@", "postgres:hush@")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, height=40, _environ={})
    troubles: list[str] = []

    def restart() -> None:
        until(lambda: counting.reports > 5, "reports")
        shelf = DatabaseSource(url)
        reader = Reader(shelf, "study", interval_s=0.0)
        assert reader.look().seen.num_trials == 4
        watching = threading.Thread(target=watch, args=(f"{url}#study", "", console, 0.1))
        watching.start()
        until(lambda: "0/4 trials" in screen.getvalue(), "a first look")
        server.stop()
        before = counting.reports
        until(lambda: counting.lines, "the line that it is lost")
        with pytest.raises(HTTPError) as trouble:
            reader.look()
        with pytest.raises(InvalidInput) as refused:
            load_study(f"{url}#study")
        troubles.extend([trouble.value.line, str(refused.value)])
        until(lambda: "trying again" in screen.getvalue(), "that it is tried again")
        # Those that ran train to their end; nothing new begins.
        until(lambda: counting.ended == 2, "two trials to end without it", within_s=120)
        assert counting.reports - before > 5
        server.start()
        assert reader.look().seen.num_trials == 4
        reader.close()
        shelf.close()
        watching.join(120)

    job = make_job(
        search_space=lambda trial: {**space(trial), "log": str(log), "pause_s": 0.05},
        num_trials=4,
        max_epochs=EPOCHS,
        max_concurrent=2,
        storage=url,
    )
    errors: list[BaseException] = []

    def watched_restart() -> None:
        try:
            restart()
        except BaseException as error:
            errors.append(error)
            server.start()
            raise

    meanwhile = threading.Thread(target=watched_restart)
    meanwhile.start()
    result = run(job, observer=counting)
    meanwhile.join(120)
    assert not errors
    assert [trial.number for trial in result.trials] == list(range(4))
    assert {trial.state for trial in result.trials} == {"complete"}
    for trial in result.trials:
        config = {**trial.params, "max_epochs": EPOCHS}
        expected = [report_at(epoch, config)["score"] for epoch in range(1, EPOCHS + 1)]
        assert trial.curve.metric == pytest.approx(expected)
    # No epoch was trained twice.
    assert sorted(logged(log)) == [(n, epoch) for n in range(4) for epoch in range(1, EPOCHS + 1)]
    assert load_study(f"{url}#study") == load_study("study", folder=job.folder) == result
    lost, back = counting.lines
    assert lost.startswith("the database does not answer (")
    assert back.startswith("the database answers again, after ")
    assert troubles[0].endswith("cannot be read now (StorageInternalError); trying again")
    assert "study is finished: 4 trials have ended" in screen.getvalue()
    assert not [line for line in [*counting.lines, *troubles] if "hush" in line or "\n" in line]
    assert "hush" not in screen.getvalue()


def test_after_the_stated_time_a_run_ends_in_a_line_and_is_resumed_when_the_database_is_back(
    server, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(outage, "WAIT_S", 1.0)
    monkeypatch.syspath_prepend(Path(__file__).parent)
    log, folder = tmp_path / "log", tmp_path / "studies"
    file = tmp_path / "job.py"
    file.write_text(
        "from curve_trials import Curve, space\n"
        "from tuner import TuningJob\n"
        "def slow(trial):\n"
        f"    return {{**space(trial), 'log': {str(log)!r}, 'pause_s': 0.05, 'saves': True}}\n"
        "job = TuningJob(name='ended', trainable=Curve, search_space=slow, num_trials=2,\n"
        "                max_epochs=30, max_concurrent=1, pruner='none', sampler='random',\n"
        f"                storage={server.url.replace('postgres:@', 'postgres:hush@')!r})\n"
    )

    def stop() -> None:
        until(lambda: len(logged(log)) > 5, "a trial that runs", within_s=120)
        server.stop()

    meanwhile = threading.Thread(target=stop)
    meanwhile.start()
    assert quarterturn(monkeypatch, "run", file, "--folder", folder) == 1
    meanwhile.join()
    said = capsys.readouterr()
    line = said.err.strip()
    assert re.fullmatch(
        r"quarterturn: the study could not be written: the database has not answered for \d+ s "
        r"\(.*\); resume the study once it does",
        line,
    )
    assert "Traceback" not in said.out
    assert "hush" not in said.out + said.err
    assert quarterturn(monkeypatch, "resume", "ended", "--folder", folder) == 2
    assert "storage must be the URL of a database that answers" in capsys.readouterr().err
    server.start()
    assert quarterturn(monkeypatch, "resume", "ended", "--folder", folder) == 0
    result = load_study("ended", folder=folder)
    assert [(trial.state, trial.epochs) for trial in result.trials] == [("complete", 30)] * 2


def quarterturn(monkeypatch, *arguments: object) -> int:
    """Give a command, and return its exit code."""
    monkeypatch.setattr("sys.argv", ["quarterturn", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)
