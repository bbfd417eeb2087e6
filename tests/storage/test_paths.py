"""A place for checkpoints: joined by name, never holding a secret, refused in one line."""

from __future__ import annotations

import os
import pickle
import time
import uuid

import pytest

from tuner.errors import InvalidInput
from tuner.storage.paths import StoragePath, unusable


@pytest.mark.parametrize(
    ("address", "joined"),
    [
        ("/mnt/shared", "/mnt/shared/study/trials"),
        ("relative", "relative/study/trials"),
        ("s3://bucket", "s3://bucket/study/trials"),
        ("s3://bucket/path/", "s3://bucket/path/study/trials"),
        (
            "s3://bucket/path?endpoint_override=host:9000&scheme=http",
            "s3://bucket/path/study/trials?endpoint_override=host:9000&scheme=http",
        ),
        ("gs://anonymous@bucket/path", "gs://anonymous@bucket/path/study/trials"),
        ("abfs://container@account.dfs.core.windows.net/a", None),
    ],
)
def test_a_name_joins_the_path_and_not_the_query(address, joined):
    inner = StoragePath(address) / "study" / "trials"
    assert str(inner) == (joined or f"{address}/study/trials")
    assert inner.parent == StoragePath(address) / "study"


SECRET = "hunter2"


@pytest.mark.parametrize(
    "address",
    [
        f"s3://KEY:{SECRET}@bucket/path",
        "s3://KEY@bucket/path",
        f"hdfs://user:{SECRET}@host/path",
        f"s3://bucket/path?secret_key={SECRET}",
        f"s3://bucket/path?scheme=http&SESSION_TOKEN={SECRET}",
        f"abfs://container@account/path?sas_token={SECRET}",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(address):
    with pytest.raises(InvalidInput, match="must not hold credentials") as caught:
        StoragePath(address)
    assert SECRET not in str(caught.value)
    assert "KEY@" not in str(caught.value)


@pytest.mark.parametrize("address", ["s3://", "s3:///", "file://"])
def test_a_url_must_name_something(address):
    with pytest.raises(InvalidInput, match="must name a bucket or a folder"):
        StoragePath(address)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("/dev/null/checkpoints", r"Not a directory\); choose another folder or bucket with"),
        ("nfs://host/path", "use a folder, or a URL with s3://, gs://"),
        ("s3://bucket/path?nonsense=1", "Unexpected query parameter .*'nonsense'"),
        ("s3://a b/path", "Cannot parse URI"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line(address, told):
    with pytest.raises(InvalidInput, match=told) as caught:
        StoragePath(address).check_writable()
    line = str(caught.value)
    assert line.startswith("checkpoints must be in a folder or bucket that can be read and written")
    assert "\n" not in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InvalidInput, match="choose another folder or bucket"):
        StoragePath(str(tmp_path / "inner")).check_writable()


def test_a_store_that_never_answers_is_given_up(tmp_path, monkeypatch):
    # Opening a pipe that nobody writes to waits for ever, like a mount whose server is gone.
    monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID(int=1))
    os.mkfifo(tmp_path / f".quarterturn-{uuid.UUID(int=1).hex}")
    begun = time.monotonic()
    with pytest.raises(InvalidInput, match=r"no answer within 0.5 s\); check the network"):
        StoragePath(str(tmp_path)).check_writable(within_s=0.5)
    assert time.monotonic() - begun < 5


def test_a_credential_in_an_error_is_not_shown(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    line = str(
        unusable(StoragePath("s3://bucket"), OSError(f"AWS Error: {SECRET}\nis wrong " + "x" * 999))
    )
    assert SECRET not in line
    assert "*** is wrong" in line
    assert len(line) < 600


def test_what_is_there_can_be_listed_read_and_removed(tmp_path):
    place = StoragePath(str(tmp_path / "new"))
    place.check_writable()
    assert place.is_empty()
    place.write("file", b"1")
    (place / "folder" / "inner").make()
    assert not place.is_empty()
    assert place.folders(["folder", "file", "none", "folder/inner"]) == ["folder", "folder/inner"]
    assert pickle.loads(pickle.dumps(place)).read("file") == b"1"
    for name in ("file", "folder", "folder", "none"):
        place.remove(name)
    assert place.is_empty()
    place.remove()
    assert not (tmp_path / "new").exists()
