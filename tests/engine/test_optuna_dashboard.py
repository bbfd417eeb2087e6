"""A study opens in optuna-dashboard, whose server is asked what its page asks it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from curve_trials import Curve
from optuna.distributions import FloatDistribution

from tuner import TuningJob, run
from tuner.engine.callbacks import RunCallback

pytestmark = pytest.mark.usefixtures("two_cpus")
DASHBOARD = Path(sys.executable).with_name("optuna-dashboard")
LAYERS = {"first", "hidden", "head"}


@contextmanager
def dashboard(storage: str) -> Iterator[str]:
    """Serve a storage, and give the address of its pages."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [DASHBOARD, storage, "--port", str(port), "--server", "wsgiref", "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/meta", timeout=60).close()
                break
            except urllib.error.URLError:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < until, "it does not answer"
                time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.communicate()


def asked(address: str) -> dict:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_the_dashboard_shows_prunings_curves_reasons_and_rotation(tmp_path, storage):
    database = f"sqlite:///{tmp_path}/studies.db"
    result = run(
        TuningJob(
            name="shown",
            trainable=Curve,
            search_space={
                "height": FloatDistribution(0.3, 1.0),
                "speed": FloatDistribution(0.1, 1.0, log=True),
                "turn": FloatDistribution(0.05, 1.3),
                "saves": True,
            },
            num_trials=8,
            max_epochs=8,
            sampler="random",
            max_concurrent=1,
            storage=database if storage == "sqlite" else None,
            folder=tmp_path / "studies",
        ),
        observer=RunCallback(),
    )
    assert {trial.state for trial in result.trials} == {"complete", "pruned"}

    journal = str(tmp_path / "studies" / "shown" / "study.log")
    with dashboard(database if storage == "sqlite" else journal) as address:
        [study] = asked(f"{address}/api/studies")["study_summaries"]
        assert (study["study_name"], study["directions"]) == ("shown", ["maximize"])
        seen = asked(f"{address}/api/studies/{study['study_id']}")

    assert seen["has_intermediate_values"]
    assert seen["objective_names"] == ["score"]
    assert len(seen["trials"]) == len(result.trials)
    numeric = {attr["key"] for attr in seen["union_user_attrs"] if attr["sortable"]}
    assert {"rotation_min", "rotation_mean"} <= numeric
    for trial, shown in zip(result.trials, seen["trials"], strict=True):
        assert shown["state"] == {"complete": "Complete", "pruned": "Pruned"}[trial.state]
        curve = [(point["step"], point["value"]) for point in shown["intermediate_values"]]
        assert curve == list(zip(trial.curve.epochs, trial.curve.metric, strict=True))
        said = {attr["key"]: attr["value"] for attr in shown["user_attrs"]}
        assert said.get("reason", "") == trial.reason
        turned = json.loads(said["rotation"])
        assert turned.keys() == LAYERS
        assert turned == pytest.approx(trial.rotation, abs=5e-4)
        assert float(said["rotation_min"]) == pytest.approx(min(trial.rotation.values()))
