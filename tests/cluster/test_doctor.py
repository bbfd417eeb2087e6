"""Each thing that is wrong with a cluster is found, and nothing that is right is called wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tuner.cluster.doctor import Check, check_cluster, check_here, describe_machine


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """No token of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    return tmp_path


def machine(**other: Any) -> dict[str, Any]:
    """A machine with nothing wrong."""
    return {
        "host": "gpu1",
        "address": "10.0.0.1",
        "python": "3.11.9",
        "packages": {"ray": "2.60.0", "optuna": "5.0.0", "torch": "2.11.0"},
        "cpus": 16,
        "gpus": ["NVIDIA H200"],
        "why_no_gpu": None,
        "ray_gpus": 1,
        "folder": "/shared/studies",
        "cannot_write": None,
        "sees_marker": True,
        "free_gb": 100.0,
        "data": "/shared/data",
        "sees_data": True,
        **other,
    }


def wrong(checks: list[Check]) -> list[str]:
    return [f"{check.said}; {check.remedy}" for check in checks if check.state == "wrong"]


def test_nothing_is_wrong_with_a_cluster_that_is_right():
    assert wrong(check_cluster(machine(), [machine(), machine(host="gpu2")], False)) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"python": "3.10.1"}, "Python is 3.10.1; install 3.11 or 3.12"),
        ({"python": "3.12.1"}, "Python is 3.12, on the head 3.11; install the same on every node"),
        (
            {"packages": {"ray": "2.61.0", "optuna": "5.0.0", "torch": "2.11.0"}},
            "ray is 2.61.0, on the head 2.60.0; install the same",
        ),
        (
            {"packages": {"ray": "2.60.0", "optuna": None, "torch": "2.11.0"}},
            "no optuna; pip install quarterturn there",
        ),
        ({"gpus": []}, "Ray counts 1 GPUs, torch sees 0; start Ray there"),
        (
            {"cannot_write": "Permission denied"},
            "/shared/studies cannot be written (Permission den",
        ),
        ({"free_gb": 1.2}, "/shared/studies has 1.2 GB left; free space"),
        ({"sees_data": False}, "/shared/data is not there; mount or copy"),
        ({"sees_marker": False}, "/shared/studies on gpu2 is not the head's; choose a --folder"),
        ({"error": "it has not answered within 120 s"}, "it has not answered within 120 s; look"),
    ],
)
def test_what_is_wrong_with_a_node_is_said_with_its_remedy(other, said):
    lines = wrong(check_cluster(machine(), [machine(), machine(host="gpu2", **other)], False))
    assert any(line.startswith(said) for line in lines), lines


def test_an_open_job_server_is_said():
    (line,) = wrong(check_cluster(machine(), [machine()], True))
    assert line.startswith("its job server needs no token: everyone who can reach it can run code")


def test_a_laptop_that_only_submits_needs_no_gpu_and_no_folder():
    laptop = machine(gpus=[], cannot_write="Permission denied", ray_gpus=0)
    assert wrong(check_here(laptop)) == [
        "/shared/studies cannot be written (Permission denied); "
        "correct its permissions, or choose another --folder"
    ]
    submits = check_here(laptop, runs_trials=False)
    assert wrong(submits) == []
    assert not [check for check in submits if "GPU" in check.said]


@pytest.mark.parametrize(("mode", "state"), [(0o600, "ok"), (0o644, "wrong")])
def test_a_token_that_others_can_read_is_said(tmp_path, monkeypatch, mode, state):
    token = tmp_path / "token"
    token.write_text("tell-tale")
    token.chmod(mode)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    last = check_here(machine())[-1]
    assert last.state == state
    assert "tell-tale" not in f"{last}"


def test_a_machine_is_described_without_leaving_a_trace(tmp_path):
    found = describe_machine(str(tmp_path / "new" / "studies"), str(tmp_path / "data"))
    assert found["cannot_write"] is None
    assert found["sees_data"] is False
    assert found["packages"]["ray"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.cluster
def test_a_real_head_is_examined_from_a_laptop(laptop, head, tmp_path):
    folder = head.root / "cluster" / "looked-at"
    said = laptop("doctor", "--folder", str(folder), "--data", str(tmp_path))
    assert said.code == 0, said
    assert "its job server refuses requests without a token" in said.out
    assert f"{folder} can be written" in said.out
    assert f"{tmp_path} is there" in said.out
    assert not folder.exists()
    missing = laptop("doctor", "--data", "/nowhere")
    assert missing.code == 1
    assert "/nowhere is not there; mount or copy the data there" in missing.out
