"""`quarterturn serve` as it is typed: how it begins, what it refuses, and its end."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND
from tests.study.example_studies import make_study

TOKEN = "a-token-for-the-tests-0123456789"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    make_study(folder / "studies", "first")
    return folder


def test_it_says_where_to_open_and_ends_with_ctrl_c_while_someone_listens(folder, environment):
    running = subprocess.Popen(
        [COMMAND, "serve", "--port", "0"],
        cwd=folder,
        env={**environment, "QUARTERTURN_SERVE_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    begun = [running.stdout.readline() for _ in range(3)]
    port = int(re.search(r"http://localhost:(\d+)/", begun[0])[1])
    assert begun[1:] == [
        "sign in with the token in QUARTERTURN_SERVE_TOKEN\n",
        "Ctrl-C ends it\n",
    ]
    listening = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    listening.request("GET", "/studies/first/events", headers={"Authorization": f"Bearer {TOKEN}"})
    events = listening.getresponse()
    assert events.readline() == b"retry: 3000\n"
    refused = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    refused.request("GET", f"/?token={TOKEN}")
    assert refused.getresponse().status == 401
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=60)
    assert (running.returncode, said) == (0, "ended; no study was changed\n")
    refused.close()
    events.close()
    listening.close()


def test_a_port_that_is_taken_is_one_line(folder, at_once):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = at_once("serve", "--port", port, "--no-token", cwd=folder)
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(rf".*127.0.0.1:{port} \(.*in use\); choose another.*\n", said.err)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--no-token", "--host", "0.0.0.0"], "without a token only this machine may be served"),
        (["--host", "192.0.2.1"], "the address must be free and local"),
        (["--host", "no.such.name.invalid"], "the address must be free and local"),
        (["--folder", "elsewhere"], "the folder of the studies must exist"),
        (["--storage", "sqlite:///none.db"], "a database must exist to be read"),
        (["--storage", "sqlite:///x.db", "--folder", "studies"], "Give --folder or --storage"),
        (["--token-file", "none"], "--token-file must name a text file"),
        (["--token-file", "x", "--no-token"], "Give --token-file or --no-token"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(folder, at_once, arguments, line):
    said = at_once("serve", "--port", "0", *arguments, cwd=folder)
    assert (said.code, said.out) == (2, "")
    assert line in said.err
    assert said.err.count("\n") == 1


def test_without_its_packages_it_says_what_to_install(monkeypatch):
    from click.testing import CliRunner

    from tuner.cli.studies import serve
    from tuner.errors import InvalidInput

    for name in ("tuner.serve.server", "uvicorn"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    said = CliRunner().invoke(serve, [])
    assert isinstance(said.exception, InvalidInput)
    assert "pip install 'quarterturn[serve]'" in str(said.exception)
