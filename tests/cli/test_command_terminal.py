"""The command on a terminal: the live views, and Ctrl-C typed into them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress

import pytest

import tuner.cli
from tests.study.example_studies import make_study
from tuner import load_study

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command on a pseudo-terminal of 80 columns, which it is the foreground job of."""

    def __init__(self, preloaded, arguments, cwd):
        self.fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._preloaded = preloaded
        about = {"terminal": os.ttyname(theirs), "environment": {"TERM": "xterm-256color"}}
        self._pid = preloaded.begin(arguments, cwd, **about)
        self._theirs = theirs
        self._codes = []
        self.shown = ""

    def read_until(self, pattern, timeout_s=90.0):
        """Read until the pattern is shown."""
        until = time.monotonic() + timeout_s
        while not re.search(pattern, self.shown):
            assert time.monotonic() < until, self.shown
            self._read(0.2)

    def _read(self, within_s):
        if found := select.select([self.fd], [], [], within_s)[0]:
            self.shown += ESCAPES.sub("", os.read(self.fd, 65536).decode())
        return bool(found)

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def wait(self):
        """Read to the end of the command, and return its exit code."""
        follower = threading.Thread(target=lambda: self._codes.append(self._preloaded.wait()))
        follower.start()
        while follower.is_alive() or self._read(0):
            self._read(0.1)
        return self._codes[0]

    def close(self):
        """End the command if a test has failed before it ended."""
        if not self._codes:
            os.kill(self._pid, signal.SIGKILL)
            self.wait()
        os.close(self._theirs)
        os.close(self.fd)


@pytest.fixture
def on_terminal(preloaded, tmp_path):
    terminals = []

    def start(line):
        terminals.append(Terminal(preloaded, line.split(), tmp_path))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


@contextmanager
def shown_here() -> Iterator[list[str]]:
    """Make a pseudo-terminal this process's output; the list has what it shows in the end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    read, shown = bytearray(), []

    def follow() -> None:
        with suppress(OSError):  # nobody has the other end open any more
            while True:
                read.extend(os.read(ours, 65536))

    follower = threading.Thread(target=follow)
    follower.start()
    with open(theirs, "w") as screen, redirect_stdout(screen), redirect_stderr(screen):  # noqa: PTH123
        yield shown
    follower.join(30)
    os.close(ours)
    shown.append(ESCAPES.sub("", read.decode()))


def test_a_run_shows_a_live_view_and_then_the_report(two_cpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm-256color")
    # So quick a run is shown often, so that each state is seen.
    monkeypatch.setattr("tuner.report.terminal._REFRESHES_PER_SECOND", 50)
    command = (
        "quarterturn run --trainable digits-mlp --space sgd --name live --trials 12 --epochs 20"
    )
    monkeypatch.setattr(sys, "argv", command.split())
    with shown_here() as screens, pytest.raises(SystemExit) as end:
        tuner.cli.main()
    assert not end.value.code
    (shown,) = screens
    for part in (
        r"[1-9]\d*/12 trials",
        r"12 left",
        r"\d running, \d+ paused",
        r"\d complete, \d+ pruned",
        r"elapsed \d:\d\d",
        r"best: trial \d+ with val_accuracy 0\.\d+",
        r"smallest rotation +layer",
        r"ended last",
    ):
        assert re.search(part, shown), (part, shown)
    view, _, report = shown.rpartition("live: 12 trials (")
    assert "trials" in view
    assert "best: trial" in report
    lines = [line for line in report.splitlines() if not line.startswith(("its", "in P", "files"))]
    assert max(map(len, lines)) <= 80
    assert "Traceback" not in shown


def test_ctrl_c_stops_and_says_how_to_go_on(on_terminal, at_once, tmp_path):
    terminal = on_terminal(
        "run --trainable digits-mlp --space sgd --name long --trials 500 --epochs 200 "
        "--concurrent 1"
    )
    terminal.read_until(r"[1-9]\d* paused")
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert "To go on: quarterturn resume long" in terminal.shown
    assert "Traceback" not in terminal.shown
    report = at_once("report", "long", cwd=tmp_path)
    assert report.code == 0
    assert " failed" not in report.out


def test_a_study_is_watched_until_ctrl_c_which_leaves_it_alone(on_terminal, tmp_path):
    home = make_study(tmp_path / "studies")
    before = home.journal.read_bytes()
    terminal = on_terminal("watch example --interval 0.1")
    terminal.read_until(r"1 complete, 1 pruned, 1 failed, 1 waiting")
    terminal.type("\x03")
    assert terminal.wait() == 0
    assert "no longer watching example; the study continues" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert home.journal.read_bytes() == before


def test_watching_a_finished_study_ends_by_itself(on_terminal, first):
    folder, _ = first
    terminal = on_terminal(f"watch first --folder {folder}/studies")
    assert terminal.wait() == 0
    # Others have gone on with it.
    ended = len(load_study("first", folder=folder / "studies").trials)
    assert f"first is finished: {ended} trials have ended" in terminal.shown


def test_off_a_terminal_watching_prints_one_look(at_once, tmp_path):
    make_study(tmp_path / "studies")
    said = at_once("watch", "example", cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    assert "best: trial 0 with val_accuracy 0.4" in said.out
    assert at_once("watch", "nowhere", cwd=tmp_path).code == 2
