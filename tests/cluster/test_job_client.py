"""What a person reads when a job server is not there, is another one, or turns them away."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tuner.cluster import job_client as job_server
from tuner.cluster.job_client import JobServer, find_token
from tuner.errors import InvalidInput

VERSION = {"version": "5", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home without a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def answering() -> Iterator:
    """Return a function that starts a web server with one answer to everything."""
    servers = []

    def start(status: int, body: object) -> str:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                text = body if isinstance(body, str) else json.dumps(body)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())
                self.server.seen = self.headers

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        start.server = server
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, "not here", "something else answers at .*; `ray start --head` prints it"),
        (200, "<html>a router</html>", "something else answers at "),
        (401, "Unauthorized", "needs a token, none was found; copy the head's"),
        (200, {**VERSION, "ray_version": "2.40.0"}, "must run Ray 2.60 or newer, .* runs 2.40.0"),
        (503, "starting", "503"),
    ],
)
def test_an_answer_that_is_none_is_one_line(answering, status, body, said):
    address = answering(status, body)
    with pytest.raises(InvalidInput, match=said) as refused:
        JobServer(address)
    assert "\n" not in str(refused.value)
    assert address in str(refused.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://head:10001", "must be that of a job server, http://HOST:8265, got 'ray://head:10"),
        ("auto", "must answer, got http://auto "),
        ("http://", "must be that of a job server"),
        ("http://me:tell-tale@head:8265", "must be that of a job server, .* got 'head:8265'"),
        ("head.invalid:8265", "must answer, got http://head.invalid:8265 "),
    ],
)
def test_an_address_that_is_none_is_one_line(address, said):
    with pytest.raises(InvalidInput, match=said) as refused:
        JobServer(address)
    assert "tell-tale" not in str(refused.value)


def test_a_port_where_nothing_listens_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(InvalidInput, match=r"Connection refused\); check the address"):
        JobServer(f"127.0.0.1:{port}")


@pytest.mark.parametrize(("backlog", "limits"), [(1, (5.0, 0.3)), (0, (0.4, 5.0))])
def test_the_time_that_an_answer_was_waited_for_is_said(backlog, limits, monkeypatch):
    monkeypatch.setattr(job_server, "_CONNECTS_WITHIN_S", limits[0])
    monkeypatch.setattr(job_server, "_ANSWERS_WITHIN_S", limits[1])
    with ExitStack() as open_, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(backlog)
        if backlog == 0:  # whom it takes in without being asked; others wait to connect
            open_.enter_context(socket.create_connection(silent.getsockname()))
        address = "127.0.0.1:{1}".format(*silent.getsockname())
        with pytest.raises(InvalidInput, match=rf"no answer within {min(limits)} s\); check"):
            JobServer(address)


def test_the_token_is_sent_without_being_asked_for(answering, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    JobServer(answering(200, VERSION))
    assert answering.server.seen["Authorization"] == "Bearer abc"


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_the_address_given_is_used_whatever_the_environment_names(answering, monkeypatch, name):
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    JobServer(answering(200, VERSION))
    assert answering.server.seen


def test_a_refused_token_is_told_from_none_and_not_shown(answering, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "tell-tale")
    with pytest.raises(InvalidInput, match="it refused the one found here") as refused:
        JobServer(answering(403, "Forbidden"))
    assert "tell-tale" not in str(refused.value)


def test_tokens_are_looked_for_where_ray_does_in_its_order(home, monkeypatch):
    assert find_token() is None
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("from home\n")
    assert find_token() == "from home"
    (home / "named").write_text("named")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "named"))
    assert find_token() == "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert find_token() == "given"


def test_a_named_token_file_that_is_not_there_is_said(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "nowhere"))
    with pytest.raises(InvalidInput, match="RAY_AUTH_TOKEN_PATH must name a file that can be read"):
        find_token()
