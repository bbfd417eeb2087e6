"""StoragePath: a local folder or a prefix in an object store, with the same methods."""

from __future__ import annotations

import os
import posixpath
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from tuner.errors import InvalidInput

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem  # type: ignore[import-untyped]


# The user attribute of a trial that holds its newest checkpoint, relative to the trials' folder.
CHECKPOINT = "checkpoint"
# The user attribute of a study that holds the path of the trials' folders, if they are not in the
# study's folder.
CHECKPOINTS = "checkpoints"

_MARKER = ".quarterturn"
# Without credentials Google's client retries for minutes.
_ANSWERS_WITHIN_S = 60.0
_LONGEST_REASON = 200
_SECRET_WORDS = ("secret", "password", "token", "key", "sas", "sig")
_SECRETS_IN_ENVIRONMENT = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
_REMEDIES = {
    "Unrecognized filesystem": "use a folder, or a URL with s3://, gs://, abfs:// or hdfs://",
    "not found. To create": "make the bucket first, or name another",
    "no answer": "check the network and the credentials",
    "NETWORK_CONNECTION": "check the network, and AWS_ENDPOINT_URL or endpoint_override= if the "
    "store is not Amazon's",
    "AWS Error": "check the bucket's name, and that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a "
    "profile or a role may read and write there",
    "Azure": "check the container's name, and that AZURE_STORAGE_ACCOUNT_KEY, a login or an "
    "identity may read and write there",
    "google": "check the bucket's name, and that GOOGLE_APPLICATION_CREDENTIALS or a role may read "
    "and write there",
}


@dataclass(frozen=True)
class StoragePath:
    """A folder, given by its path or by a URL that pyarrow reads, such as s3://bucket/path.

    The file system is opened at the first use. A pickle of an opened path contains the file system,
    so that a process on another machine uses the same endpoint. On failure `check_writable` raises
    InvalidInput, and all other methods raise OSError.

    Attributes:
        address: the path or the URL.

    Raises:
        InvalidInput: the URL names no bucket or folder. Or it contains a password or a key, which
            would be stored and shown.

    Example:
        >>> place = StoragePath("s3://bucket/studies") / "digits"
        >>> str(place), str(place.parent), place.is_url
        ('s3://bucket/studies/digits', 's3://bucket/studies', True)
    """

    address: str

    def __post_init__(self) -> None:
        if self.is_url and _holds_secret(self.address):
            raise InvalidInput(
                "the URL of a place for checkpoints must not hold credentials, got one that does; "
                "leave them out and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your "
                "store's own tools read"
            )
        parts = urlsplit(self.address)
        if self.is_url and not (parts.netloc + parts.path).strip("/"):
            raise InvalidInput(
                f"the URL of a place for checkpoints must name a bucket or a folder, got "
                f"{self.address!r}; use e.g. s3://bucket/path"
            )

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> StoragePath:
        if not self.is_url:
            return StoragePath(str(Path(self.address, name)))
        bare, question, query = self.address.partition("?")
        return StoragePath(f"{bare.rstrip('/')}/{name}{question}{query}")

    @property
    def parent(self) -> StoragePath:
        """The folder that contains this one."""
        bare, question, query = (
            self.address.partition("?") if self.is_url else (self.address, "", "")
        )
        return StoragePath(f"{posixpath.dirname(bare.rstrip('/'))}{question}{query}")

    @property
    def is_url(self) -> bool:
        """Whether the address is a URL, not a path."""
        return "://" in self.address

    @cached_property
    def _opened(self) -> tuple[FileSystem, str]:
        from pyarrow.fs import FileSystem, LocalFileSystem

        if not self.is_url:
            return LocalFileSystem(), str(Path(self.address).absolute())
        with _as_os_errors():
            filesystem, path = FileSystem.from_uri(self.address)
        return filesystem, path

    @property
    def filesystem(self) -> FileSystem:
        """The opened file system that contains the folder."""
        return self._opened[0]

    @property
    def path(self) -> str:
        """The path of the folder on its file system."""
        return self._opened[1]

    @property
    def is_local(self) -> bool:
        """Whether the folder is in this machine's file system. Other machines may share it."""
        return bool(self.filesystem.type_name == "local")

    def at(self, name: str) -> str:
        """Return the path, on the file system, of a file or folder in this folder."""
        return posixpath.join(self.path, name)

    def folders(self, names: Sequence[str]) -> list[str]:
        """Return those of the names that are folders in this folder, with one request."""
        from pyarrow.fs import FileType

        with _as_os_errors():
            found = self.filesystem.get_file_info([self.at(name) for name in names])
        return [
            name for name, info in zip(names, found, strict=True) if info.type == FileType.Directory
        ]

    def is_empty(self) -> bool:
        """Whether the folder does not exist, or contains only files of `check_writable`."""
        from pyarrow.fs import FileSelector

        with _as_os_errors():
            inside = self.filesystem.get_file_info(FileSelector(self.path, allow_not_found=True))
        return all(info.base_name.startswith(_MARKER) for info in inside)

    def read(self, name: str) -> bytes:
        """Return the content of a file in this folder."""
        with _as_os_errors(), self.filesystem.open_input_file(self.at(name)) as file:
            content: bytes = file.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file in this folder. The folder must exist.

        Args:
            name: the name of the file.
            content: its bytes.
        """
        with _as_os_errors(), self.filesystem.open_output_stream(self.at(name)) as file:
            file.write(content)

    def remove(self, name: str = "") -> None:
        """Remove a folder or a file in this folder; do nothing if it does not exist.

        Args:
            name: the name of the folder or file; empty for this whole folder.
        """
        from pyarrow.fs import FileType

        path = self.at(name) if name else self.path
        # Some stores still list a folder that is empty now, and then fail to remove it.
        with _as_os_errors(), suppress(FileNotFoundError):
            kind = self.filesystem.get_file_info(path).type
            if kind == FileType.Directory:
                self.filesystem.delete_dir(path)
            elif kind == FileType.File:
                self.filesystem.delete_file(path)

    def make(self) -> None:
        """Make the folder and its parents. A bucket must exist already."""
        with _as_os_errors():
            self.filesystem.create_dir(self.path, recursive=True)

    def check_writable(self, within_s: float = _ANSWERS_WITHIN_S) -> None:
        """Make the folder, then write a file in it, read the file and remove it.

        Args:
            within_s: the time for all of these, in seconds.

        Raises:
            InvalidInput: one of these fails, or they take longer than `within_s`.
        """
        marker = f"{_MARKER}-{uuid.uuid4().hex}"  # other processes may check at the same time
        failures: list[OSError] = [TimeoutError(f"no answer within {within_s:g} s")]

        def attempt() -> None:
            try:
                self.make()
                self.write(marker, b"written")
                self.read(marker)
                self.remove(marker)
                failures.clear()
            except OSError as error:
                failures[0] = error

        trying = threading.Thread(target=attempt, daemon=True)
        trying.start()
        trying.join(within_s)
        for error in failures:
            raise unusable(self, error) from error


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Raise OSError in place of pyarrow's own exceptions."""
    from pyarrow import ArrowException  # type: ignore[import-untyped]

    try:
        yield
    except ArrowException as error:
        raise OSError(str(error)) from error


def unusable(place: StoragePath, error: OSError) -> InvalidInput:
    """Return the error for a folder that cannot be used: one line with the cause and the remedy.

    Args:
        place: the folder.
        error: the error of the file system. Secrets are removed from its text.
    """
    said = _without_secrets(error.strerror or str(error))
    why = said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}..."
    remedy = next(
        (text for sign, text in _REMEDIES.items() if sign.lower() in said.lower()),
        "choose another folder or bucket with --checkpoints",
    )
    return InvalidInput(
        f"checkpoints must be in a folder or bucket that can be read and written, got "
        f"{str(place)!r} ({why}); {remedy}"
    )


def _without_secrets(text: str) -> str:
    line = " ".join(text.split()) or "no reason given"
    for name in _SECRETS_IN_ENVIRONMENT:
        if value := os.environ.get(name):
            line = line.replace(value, "***")
    return line


def _holds_secret(url: str) -> bool:
    parts = urlsplit(url)
    user, _, _ = parts.netloc.rpartition("@")
    if ":" in user or (user and parts.scheme == "s3"):
        return True
    return any(word in name.lower() for name, _ in parse_qsl(parts.query) for word in _SECRET_WORDS)
