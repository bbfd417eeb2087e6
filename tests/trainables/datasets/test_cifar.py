"""CIFAR's files: read back exactly, in either version, and a line for each thing wrong."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torchvision
from image_files import publish, write_cifar

from trainables import C10Cnn1
from trainables.datasets.cifar import CIFAR10, CIFAR100, read_cifar
from trainables.datasets.images import DATA_VARIABLE
from tuner.errors import InvalidInput

VARIANTS = pytest.mark.parametrize("variant", [CIFAR10, CIFAR100], ids=["10", "100"])


@VARIANTS
@pytest.mark.parametrize("binary", [False, True], ids=["python", "binary"])
@pytest.mark.parametrize("inside", [False, True], ids=["its parent", "the folder itself"])
def test_every_image_and_label_is_read_back_in_file_order(
    variant, binary, inside, tmp_path, monkeypatch
):
    written = write_cifar(variant, tmp_path, binary=binary)
    if not binary:
        publish(variant, tmp_path, monkeypatch)
    name = variant.binary_folder if binary else variant.folder
    folder = tmp_path / name if inside else tmp_path
    (images, labels), (test_images, test_labels) = read_cifar(variant, str(folder))
    assert (images == np.concatenate([written[file][0] for file in variant.train])).all()
    assert (labels == np.concatenate([written[file][1] for file in variant.train])).all()
    assert (test_images == written[variant.test][0]).all()
    assert (test_labels == written[variant.test][1]).all()
    assert (images.dtype, labels.dtype, images.shape[1:]) == (np.uint8, np.int64, (3, 32, 32))
    assert images.flags.writeable
    assert images.flags.c_contiguous


def test_the_folder_of_the_python_version_may_have_any_name(tmp_path, monkeypatch):
    written = write_cifar(CIFAR100, tmp_path)
    publish(CIFAR100, tmp_path, monkeypatch)
    (tmp_path / CIFAR100.folder).rename(tmp_path / "mine")
    (images, _), _ = read_cifar(CIFAR100, str(tmp_path / "mine"))
    assert (images == written["train"][0]).all()


class Harmful:
    """Would run a command when unpickled."""

    def __reduce__(self):
        # Not `print` itself, which Ray replaces by its own in a process where it has been started.
        return exec, ("print('harm done')",)


def harmful(path: Path) -> None:
    path.write_bytes(pickle.dumps({b"data": Harmful()}))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def change_a_pixel(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def html(path: Path) -> None:
    path.write_text("<html>Not found</html>")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (Path.unlink, "needs {file}, which is not in"),
        (folder, "needs {file}, which is not in"),
        (harmful, "{file} is not the published file: its MD5 checksum is different"),
        (truncate, "{file} is not the published file: its MD5 checksum is different"),
        (change_a_pixel, "{file} is not the published file: its MD5 checksum is different"),
        (empty, "{file} is not the published file: its MD5 checksum is different"),
        (html, "{file} is not the published file: its MD5 checksum is different"),
    ],
)
def test_a_bad_file_is_one_line_from_the_first_step(
    file, damage, says, tmp_path, monkeypatch, capfd
):
    if (file, damage) == ("batches.meta", change_a_pixel):
        pytest.skip("it holds no pixels")
    write_cifar(CIFAR10, tmp_path)
    publish(CIFAR10, tmp_path, monkeypatch)
    damage(tmp_path / CIFAR10.folder / file)
    with pytest.raises(InvalidInput) as raised:
        C10Cnn1(config={"data_dir": str(tmp_path)}).step()
    message = str(raised.value)
    assert says.format(file=file) in message
    assert str(tmp_path) in message
    assert "give the folder that holds cifar-10-batches-py with --data DIR" in message
    assert "\n" not in message
    assert "harm done" not in capfd.readouterr().out


def test_files_with_other_checksums_than_the_published_are_refused(tmp_path):
    write_cifar(CIFAR100, tmp_path)
    with pytest.raises(InvalidInput, match=r"train is not the published file"):
        read_cifar(CIFAR100, str(tmp_path))


def label_too_large(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1] = 100
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (Path.unlink, "needs train.bin, which is not in"),
        (truncate, "train.bin holds 61475 bytes, not rows of 3074"),
        (empty, "train.bin holds 0 bytes, not rows of 3074"),
        (label_too_large, "train.bin has the label 100, not 0-99"),
    ],
)
def test_a_bad_binary_file_is_one_line(damage, says, tmp_path):
    write_cifar(CIFAR100, tmp_path, binary=True)
    damage(tmp_path / CIFAR100.binary_folder / "train.bin")
    with pytest.raises(InvalidInput) as raised:
        read_cifar(CIFAR100, str(tmp_path))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_files_is_one_line(tmp_path, exists):
    folder = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(InvalidInput, match=r"needs train, which is not in .*--data DIR"):
        read_cifar(CIFAR100, str(folder))


@VARIANTS
def test_a_download_is_kept_whole_and_done_once(variant, tmp_path, monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    roots = []

    def download(dataset):
        roots.append(dataset.root)
        write_cifar(variant, Path(dataset.root))
        publish(variant, Path(dataset.root), monkeypatch)
        Path(dataset.root, "archive.tar.gz").write_bytes(b"left behind")

    source = getattr(torchvision.datasets, variant.torchvision_name)
    monkeypatch.setattr(source, "download", download)
    for _ in range(2):
        assert len(read_cifar(variant, None)[0][0]) > 0
    assert len(roots) == 1
    cache = tmp_path / ".cache" / "quarterturn"
    assert [path.name for path in cache.iterdir()] == [variant.folder]
    shutil.rmtree(cache)

    def fail(dataset):
        raise RuntimeError("File not found\nor corrupted")

    monkeypatch.setattr(source, "download", fail)
    with pytest.raises(InvalidInput, match=r"cannot be downloaded .* \(File not found\); give"):
        read_cifar(variant, None)
