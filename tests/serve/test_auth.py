"""Who is let in: whoever has the token, and nobody else, to anything."""

from __future__ import annotations

import pytest

from tests.serve.serving import TOKEN, server
from tuner.errors import InvalidInput
from tuner.serve.auth import COOKIE_S, TOKEN_VARIABLE, Access, find_token

PATHS = [
    "/",
    "/events",
    "/studies/first",
    "/studies/first/events",
    "/studies/first/records.json?since=",
    "/studies/first/story.json",
    "/studies/nowhere",
    "/sign-in",
    "/anything",
]
NOBODY = {"Authorization": ""}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        NOBODY,
        {"Authorization": "Bearer wrong-token-of-some-length"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}é"},
        {"Authorization": f"Basic {TOKEN}"},
        {**NOBODY, "Cookie": f"quarterturn-8270={TOKEN}"},
        {**NOBODY, "Cookie": "{cookie}=99999999999.0000"},
        {**NOBODY, "Cookie": "{cookie}=9999999999999"},
    ],
    ids=["nothing", "wrong", "cut", "longer", "basic", "token-as-cookie", "unsigned", "no-sign"],
)
def test_without_the_token_nothing_is_answered(served, path, headers):
    cookie = f"quarterturn-{served.port}"
    given = {name: value.format(cookie=cookie) for name, value in headers.items()}
    for method in ("GET", "HEAD", "POST") if path != "/sign-in" else ("GET",):
        said = served.ask(path, method, **given)
        assert said.status == 401
        assert "first" not in said.body
        assert said.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", PATHS[:1] + PATHS[2:3] + PATHS[4:6])
def test_with_the_token_everything_is(served, path):
    said = served.ask(path)
    assert said.status == 200
    assert "trial" in said.body


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_do_not_get(served):
    wrong = served.ask("/sign-in", "POST", "token=wrong", **NOBODY)
    assert (wrong.status, wrong.headers.get("set-cookie")) == (401, None)
    said = served.ask("/sign-in", "POST", f"token={TOKEN}", **NOBODY)
    assert (said.status, said.headers["location"]) == (303, "/")
    cookie, *attributes = said.headers["set-cookie"].split("; ")
    assert cookie.startswith(f"quarterturn-{served.port}=")
    assert {"HttpOnly", "SameSite=strict", f"Max-Age={COOKIE_S}", "Path=/"} == set(attributes)
    assert TOKEN not in cookie
    assert served.ask("/studies/first", **NOBODY, Cookie=cookie).status == 200
    changed = f"{cookie[:-1]}{'0' if cookie[-1] != '0' else '1'}"
    assert served.ask("/studies/first", **NOBODY, Cookie=changed).status == 401


def test_behind_https_the_cookie_is_for_https_alone(served):
    said = served.ask("/sign-in", "POST", f"token={TOKEN}", **NOBODY, X_Forwarded_Proto="https")
    assert "Secure" in said.headers["set-cookie"].split("; ")


def test_a_cookie_ends():
    now = 1e9
    kept = Access(TOKEN, None, "cookie", lambda: now)
    cookie = kept.session()
    assert kept.admits("", cookie)
    now += COOKIE_S + 1
    assert not kept.admits("", cookie)


def test_a_form_that_is_no_token_is_not_read(served):
    assert served.ask("/sign-in", "POST", "token=" + "x" * 100_000, **NOBODY).status == 413


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", [*PATHS[:6]])
def test_nothing_can_be_changed(served, method, path):
    assert served.ask(path, method).status == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:9", 200),  # through a tunnel from another port
        ("127.0.0.1:8270", 200),
        ("[::1]:8270", 200),
        ("evil.example", 421),
        ("evil.example:8270", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
def test_a_name_that_was_made_to_lead_here_is_not_answered(served, host, status):
    assert served.ask("/", Host=host).status == status


def test_every_answer_says_what_it_may_not_be_used_for(served):
    for path, headers in (("/", {}), ("/", NOBODY), ("/studies/first", {}), ("/nowhere", {})):
        said = served.ask(path, Accept="text/html", **headers)
        assert said.headers["x-content-type-options"] == "nosniff"
        assert said.headers["referrer-policy"] == "no-referrer"
        assert said.headers["cross-origin-resource-policy"] == "same-origin"
        assert said.headers["cache-control"].startswith("private")
        policy = said.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert policy.endswith("frame-ancestors 'none'")
        assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")
        assert "server" not in said.headers


@pytest.mark.parametrize(
    "path",
    [
        "/studies/first/job.pkl",
        "/studies/first/study.log",
        "/studies/..%2Fsecret",
        "/studies/%2E%2E",
        "/studies/first%2F..%2Ffirst",
        "/studies/../first",
        "/studies//first",
        "/study.log",
    ],
)
def test_no_file_is_served(served, studies, path):
    (studies.parent / "secret").mkdir(exist_ok=True)
    (studies.parent / "secret" / "study.log").write_bytes(
        (studies / "first" / "study.log").read_bytes()
    )
    said = served.ask(path)
    assert (said.status, "lr" in said.body) == (404, False)


def test_an_absolute_path_is_no_name(served, studies):
    path = str(studies / "first").replace("/", "%2F")
    assert served.ask(f"/studies/{path}").status == 404


def test_without_a_token_this_machine_is_let_in_but_no_other_name(studies):
    with server(studies, token=None) as open_:
        assert open_.ask("/", **NOBODY).status == 200
        assert open_.ask("/sign-in", "POST", "token=x", **NOBODY).status == 401
        assert open_.ask("/", **NOBODY, Host="evil.example").status == 421


class TestFindToken:
    @pytest.fixture(autouse=True)
    def _home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv(TOKEN_VARIABLE, raising=False)

    def test_it_is_made_once_and_is_its_owners_alone(self, tmp_path):
        token = find_token(None)
        assert len(token.text) >= 43
        assert token.own
        assert find_token(None) == token
        file = tmp_path / ".quarterturn" / "serve_token"
        assert file.read_text().strip() == token.text
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert list(file.parent.iterdir()) == [file]

    def test_a_file_comes_before_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv(TOKEN_VARIABLE, "from-the-environment")
        assert find_token(None)[::2] == ("from-the-environment", False)
        file = tmp_path / "token"
        file.touch(mode=0o600)
        file.write_text("from-the-file-of-the-user\n")
        assert find_token(file)[::2] == ("from-the-file-of-the-user", False)

    @pytest.mark.parametrize(
        ("text", "mode", "said"),
        [
            ("a" * 40, 0o644, "has mode 0644; chmod 600"),
            ("short", 0o600, "at least 16 characters"),
            ("", 0o600, "at least 16 characters"),
            ("with spaces in the middle", 0o600, "at least 16 characters"),
            (None, 0, "No such file"),
        ],
    )
    def test_a_bad_token_is_refused_without_being_printed(self, tmp_path, text, mode, said):
        file = tmp_path / "token"
        if text is not None:
            file.write_text(text)
            file.chmod(mode)
        with pytest.raises(InvalidInput, match=said) as refused:
            find_token(file)
        assert not text or text not in str(refused.value)
