"""Checkpoints in a real S3 server, for a study that pauses, prunes and is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
import torch
from curve_trials import Interrupting
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSelector, FileType, S3FileSystem
from s3_server import BUCKET, KEY, SECRET, serving
from stored_study import stored_study

from trainables import find
from tuner import InvalidInput, TuningJob, load_study, resume, run
from tuner.engine.callbacks import RunCallback
from tuner.storage.paths import StoragePath

pytestmark = pytest.mark.usefixtures("two_cpus")

SCRIPT = Path(__file__).with_name("stored_study.py")
DENIED = (
    "AWS Error (ACCESS_DENIED|SIGNATURE_DOES_NOT_MATCH) .*; check the bucket.s name, and that "
    "AWS_ACCESS_KEY_ID"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def bucket(server, tmp_path):
    """The URL of a folder of the test's own."""
    return f"s3://{BUCKET}/{tmp_path.name}?endpoint_override={server}&scheme=http"


def test_a_place_in_a_bucket_is_read_and_written_like_a_folder(bucket, tmp_path):
    for place in (
        StoragePath(bucket),
        StoragePath(str(tmp_path / "folder")),
        StoragePath(f"file://{tmp_path}/url"),
    ):
        place.check_writable()
        assert place.is_empty()
        inner = place / "trials"
        assert inner.parent == place
        inner.make()
        inner.write("weights", b"1234")
        (inner / "part").make()
        assert inner.read("weights") == (place / "trials").read("weights") == b"1234"
        assert place.folders(["trials", "none", "trials/part", "trials/weights"]) == [
            "trials",
            "trials/part",
        ]
        with pytest.raises(FileNotFoundError):
            inner.read("none")
        inner.remove("weights")
        inner.remove("weights")
        inner.remove()
        assert place.folders(["trials"]) == []


def test_the_endpoint_may_come_from_the_environment(server, monkeypatch, request):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server}")
    place = StoragePath(f"s3://{BUCKET}/{request.node.name}")
    place.check_writable()
    # A process elsewhere uses the same, whatever its environment.
    import pickle

    there = pickle.loads(pickle.dumps(place))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert there.is_empty()


class Impatient:
    """Tries an endpoint where nobody is once, where Arrow tries for 12 s."""

    @staticmethod
    def from_uri(url):
        parts = urlsplit(url)
        options = {name: value for name, (value,) in parse_qs(parts.query).items()}
        once = AwsStandardS3RetryStrategy(max_attempts=1)
        return S3FileSystem(**options, retry_strategy=once), parts.netloc + parts.path


@pytest.mark.parametrize(
    ("changes", "url", "message"),
    [
        ({}, "s3://absent/x?endpoint_override={server}&scheme=http", "make the bucket first"),
        (
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
            "s3://bucket/x?endpoint_override={server}&scheme=http",
            DENIED,
        ),
        (
            {"AWS_SECRET_ACCESS_KEY": None, "AWS_ACCESS_KEY_ID": None},
            "s3://bucket/x?endpoint_override={server}&scheme=http",
            DENIED,
        ),
        (
            {},
            "s3://bucket/x?endpoint_override=127.0.0.1:9&scheme=http",
            "connect to .*; check the network, and AWS_ENDPOINT_URL",
        ),
        ({}, "nfs://host/x", "use a folder, or a URL with s3://"),
    ],
    ids=["no bucket", "wrong secret", "no credentials", "nobody there", "no such kind"],
)
def test_a_store_that_cannot_be_used_is_refused_before_any_trial(
    server, tmp_path, monkeypatch, changes, url, message
):
    if "127.0.0.1:9" in url:
        monkeypatch.setattr("pyarrow.fs.FileSystem", Impatient)
    for name, value in changes.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    job = TuningJob(
        name="refused",
        trainable=find("digits-mlp"),
        search_space=lambda trial: {"lr": trial.suggest_float("lr", 0.1, 1)},
        checkpoints=url.format(server=server),
        folder=tmp_path / "studies",
    )
    with pytest.raises(InvalidInput, match=message) as caught:
        run(job, observer=RunCallback())
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def interrupt(folder, bucket):
    """Run the study in this process, and press Ctrl-C while trials wait."""
    run(stored_study(folder, bucket), observer=Interrupting(4, 1))


def kill(folder, bucket):
    """Run the study in a process of its own, and kill it while trials wait."""
    process = subprocess.Popen(
        [sys.executable, SCRIPT, folder, bucket],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "RAY_ADDRESS": "local"},
        text=True,
    )
    until = time.monotonic() + 150
    while sum(trial.state == "running" for trial in _so_far(folder)) < 3:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.1)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for child in started:
        if child.is_running():
            child.kill()
    psutil.wait_procs(started, timeout=20)


@pytest.mark.parametrize(
    "end", [interrupt, pytest.param(kill, marks=pytest.mark.soak)], ids=["Ctrl-C", "killed"]
)
def test_a_study_goes_on_from_the_bucket_and_hands_out_its_weights(bucket, tmp_path, end):
    folder = tmp_path / "studies"
    end(folder, bucket)
    before = load_study("stored", folder=folder)
    assert not before.finished
    assert sum(trial.state == "running" for trial in before.trials) > 1
    result = resume("stored", folder=folder, observer=RunCallback())
    assert result.finished
    assert {trial.state for trial in result.trials} == {"complete", "pruned"}
    for trial in before.trials:
        # What had been reported was not reported again.
        assert (
            trial.curve.train_loss
            == result.trials[trial.number].curve.train_loss[: len(trial.curve)]
        )
    trials = StoragePath(bucket) / "stored" / "trials"
    assert result.checkpoints == str(trials)
    best = result.best
    assert best.checkpoint.startswith(f"s3://{BUCKET}/")
    model = find("digits-mlp")().build_model(best.params)
    model.load_state_dict(best.weights())
    assert all(torch.isfinite(weight).all() for weight in model.state_dict().values())
    # Of a trial that went on after a wait, the part it came from and the last are left.
    for parts in _parts_with_files(trials).values():
        assert len(parts) <= 2
    assert any(trial.checkpoint and "-1/" in trial.checkpoint for trial in result.trials)
    assert not (folder / "stored" / "trials").exists()
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept


def _parts_with_files(trials):
    """The folders of each trial's parts; some stores go on showing folders that were emptied."""
    inside = trials.filesystem.get_file_info(FileSelector(trials.path, recursive=True))
    parts = defaultdict(set)
    for info in inside:
        folder = info.path.removeprefix(f"{trials.path}/").partition("/")[0]
        if info.type == FileType.File and folder.startswith("trial-"):
            parts[folder.split("-")[1]].add(folder)
    assert parts
    return parts


def _so_far(folder):
    try:
        return load_study("stored", folder=folder).trials
    except InvalidInput:
        return ()
