"""A job from a laptop to a real head and back: submitted, watched, stopped, continued, read."""

from __future__ import annotations

import json
import signal
import subprocess

import pandas as pd
import pytest
import requests
from conftest import BIN
from jobs import write_job

GATE = ("--include", "gate")


@pytest.fixture
def mine(tmp_path):
    """The job's files in the folder that the command runs in."""
    write_job(tmp_path)
    return tmp_path


@pytest.fixture
def gated(tmp_path, head):
    """The same, but trials wait while the file is there that is returned."""
    gate = head.root / f"gate-{tmp_path.name}"
    gate.touch()
    write_job(tmp_path, gate)
    yield gate
    gate.unlink(missing_ok=True)


def at(head):
    return ("--address", head.address)


def test_from_submit_to_the_report(laptop, mine, head):
    submitted = laptop("submit", "mine.py", "--name", "whole", "--follow", "--log", "tensorboard")
    assert submitted.code == 0, submitted
    assert submitted.out.startswith(f"submitted whole@1 to {head.address}\n")
    assert "3/3 trial " in submitted.out
    assert submitted.out.endswith("whole@1 succeeded\n")

    status = laptop("status", "whole").out
    assert "succeeded" in status
    assert "3/3 trial" in status

    report = json.loads(laptop("report", "whole", *at(head), "--json").out)
    assert [trial["state"] for trial in report["trials"]] == ["complete"] * 3
    # The study is where it was said to be, on the cluster and not here.
    there = head.root / "cluster" / "studies" / "whole"
    assert (there / "study.log").is_file()
    assert len(list(there.glob("tensorboard/trial-0000?/events.out.tfevents.*"))) == 3
    assert not (mine / "studies").exists()
    # Reading leaves nothing in the list of jobs.
    assert laptop("list").out.count("whole") == 2


@pytest.mark.cluster
def test_a_submitted_study_is_exported_and_continued_under_its_own_settings(laptop, mine, head):
    assert laptop("submit", "mine.py", "--name", "first", "--follow").code == 0
    assert "first@1" in laptop("list").out
    assert "3/3 trial " in laptop("logs", "first@1").out
    exported = laptop("export", "first", *at(head))
    assert exported.code == 0, exported
    assert len(pd.read_parquet(mine / "first.parquet")["trial"].unique()) == 3

    more = laptop("submit", "mine.py", "--name", "first", "--trials", "4", "-f")
    assert "study first: 3/4 trials" in more.out
    assert "first@2 succeeded" in more.out
    other = laptop("submit", "mine.py", "--name", "first", "--epochs", "5")
    assert other.code == 2
    assert "first@3 failed: a study keeps its epochs per trial" in other.err


@pytest.mark.cluster
def test_a_running_study_is_not_submitted_again_but_stopped_and_continued(laptop, gated, head):
    assert laptop("submit", "mine.py", "--name", "twice", *GATE).code == 0
    again = laptop("submit", "mine.py", "--name", "twice", *GATE)
    assert again.code == 2
    assert "'twice' is being run by twice@1; wait for it, `quarterturn stop twice@1`" in again.err
    resumed = laptop("resume", "twice", *at(head))
    assert resumed.code == 2
    assert "'twice' is being run by twice@1" in resumed.err

    assert "twice@1 stopped; nothing is lost" in laptop("stop", "twice").out
    assert "has already ended: stopped" in laptop("stop", "twice").out
    gated.unlink()
    # What its net imports late is found, though its files were not sent again.
    assert laptop("resume", "twice", *at(head), "--trials", "4").code == 0
    assert laptop("logs", "twice", "-f").out.endswith("twice@2 succeeded\n")
    report = json.loads(laptop("report", "twice", *at(head), "--json").out)
    assert [trial["state"] for trial in report["trials"]] == ["complete"] * 4


@pytest.mark.cluster
def test_ctrl_c_leaves_the_job_running_and_says_so(laptop, gated, head, tmp_path):
    following = subprocess.Popen(
        [BIN / "quarterturn", "submit", "mine.py", "--name", "left", "--follow", *GATE],
        cwd=tmp_path,
        env=head.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in following.stdout:
        if line.startswith("study left:"):
            break
    following.send_signal(signal.SIGINT)
    _, said = following.communicate(timeout=60)
    assert following.returncode == 130
    assert f"left@1 goes on. To follow it again: quarterturn logs left@1 -f --address {head}" in (
        said.replace(head.address, str(head))
    )
    assert "running" in laptop("status", "left").out
    gated.unlink()
    assert laptop("logs", "left", "-f").out.endswith("left@1 succeeded\n")


@pytest.mark.cluster
def test_what_only_the_cluster_can_refuse_is_said_at_once(laptop, mine):
    said = laptop("submit", "mine.py", "--name", "large", "--gpus-per-trial", "3", "--follow")
    assert said.code == 2
    assert "large@1 failed: --gpus-per-trial must be at most" in said.err
    assert "the 0 GPUs that one node has" in said.err
    assert "why" in laptop("status", "large").out


@pytest.mark.cluster
def test_a_password_is_seen_nowhere(laptop, mine, head):
    secret = mine / "storage.url"
    secret.write_text("postgresql+psycopg://me:tell-tale@127.0.0.1:1/studies")
    said = laptop("submit", "mine.py", "--name", "kept", "--storage", f"@{secret}", "--follow")
    assert said.code == 2
    assert "me:***@127.0.0.1:1" in said.out
    jobs = requests.get(
        f"{head.address}/api/jobs/",
        headers={"Authorization": f"Bearer {head.token.read_text()}"},
        timeout=10,
    ).text
    assert "kept@1" in jobs
    assert "tell-tale" not in jobs + said.out + said.err + laptop("logs", "kept").out


@pytest.mark.cluster
def test_a_script_submits_its_own_job(laptop, mine, head):
    (mine / "script.py").write_text(
        "from mine import job\nimport tuner\n"
        'if __name__ == "__main__":\n'
        f'    sent = tuner.submit(job.with_changes(name="scripted"), address="{head.address}")\n'
        "    print(sent.id)\n"
    )
    done = subprocess.run(
        [BIN / "python", "script.py"],
        cwd=mine,
        env=head.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "scripted@1\n", done.stderr
    assert laptop("logs", "scripted", "-f").out.endswith("scripted@1 succeeded\n")


@pytest.mark.cluster
def test_a_built_in_job_is_submitted_by_name(laptop):
    names = ("--trainable", "digits-mlp", "--space", "sgd", "--name", "named")
    said = laptop("submit", *names, "--trials", "1", "--epochs", "1", "--follow")
    assert said.code == 0, said
    assert said.out.endswith("named@1 succeeded\n")


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}])
@pytest.mark.parametrize(
    ("verb", "path"),
    [("get", "/api/jobs/"), ("post", "/api/jobs/"), ("get", "/nodes?view=summary")],
)
def test_without_the_token_the_head_refuses(head, header, verb, path):
    answer = requests.request(
        verb, f"{head.address}{path}", headers=header, json={"entrypoint": "id"}, timeout=10
    )
    assert answer.status_code == (403 if header else 401)


@pytest.mark.cluster
def test_a_connection_that_breaks_is_made_again(head, mine, laptop, monkeypatch):
    from tuner.cluster import logs as following
    from tuner.cluster.job_client import JobServer

    assert laptop("submit", "mine.py", "--name", "broken").code == 0
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token))
    monkeypatch.setattr(following, "_RECONNECTS_AFTER_S", 0.1)
    server = JobServer(head.address)
    whole, breaks = server.tail, iter([True, True, False])

    async def tail(job_id):
        broken = next(breaks)
        async for text in whole(job_id):
            yield text[: len(text) // 2] if broken else text
            if broken:
                raise ConnectionError

    monkeypatch.setattr(server, "tail", tail)
    written: list[str] = []
    ended = following.follow(server, "broken@1", written.append)
    assert ended.state == "succeeded"
    assert "".join(written) == server.logs("broken@1")
