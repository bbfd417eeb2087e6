"""Fashion-MNIST's files: where they are looked for, and one line for each thing wrong with them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torchvision

from trainables import FashionCnn
from trainables.datasets import images as fashion_files
from trainables.datasets.images import DATA_VARIABLE, read_fashion
from tuner.errors import InvalidInput

TRAIN_IMAGES = "train-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6])


def wrong_magic(path: Path) -> None:
    path.write_bytes(b"\x00\x00\x0d" + path.read_bytes()[3:])


def html(path: Path) -> None:
    path.write_text("<html>Not found</html>")


def wrong_size(path: Path) -> None:
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 200, 14, 14) + bytes(200 * 14 * 14))


def too_few_labels(path: Path) -> None:
    path.write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 3) + bytes(3))


def label_ten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")


def half_a_zip(path: Path) -> None:
    zipped = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(zipped[: len(zipped) // 2])


def no_zip(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.gz"))


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        (TRAIN_IMAGES, remove, "needs train-images-idx3-ubyte[.gz], which is not in"),
        (TEST_LABELS, remove, "needs t10k-labels-idx1-ubyte[.gz], which is not in"),
        (TRAIN_IMAGES, truncate, "holds 156799 bytes of data, but its header says 156800"),
        (TRAIN_IMAGES, lengthen, "holds 156801 bytes of data, but its header says 156800"),
        (TRAIN_IMAGES, empty, "starts with nothing, not 00000803"),
        (TRAIN_IMAGES, cut_header, "ends after 6 bytes, within its header"),
        (TRAIN_IMAGES, wrong_magic, "starts with 00000d03, not 00000803"),
        (TEST_LABELS, html, "starts with 3c68746d, not 00000801"),
        (TRAIN_IMAGES, wrong_size, "has images of 14x14"),
        (TEST_LABELS, too_few_labels, "has 3 labels for 50 images"),
        (TEST_LABELS, label_ten, "has the label 10, not 0-9"),
        (TRAIN_IMAGES, half_a_zip, "train-images-idx3-ubyte.gz cannot be unzipped"),
        (TEST_LABELS, no_zip, "t10k-labels-idx1-ubyte.gz cannot be unzipped"),
    ],
)
def test_a_bad_file_is_one_line_from_the_first_step(write_fashion, tmp_path, name, damage, says):
    folder = write_fashion(tmp_path)
    damage(folder / name)
    trial = FashionCnn(config={"data_dir": str(folder)})
    with pytest.raises(InvalidInput) as raised:
        trial.step()
    message = str(raised.value)
    assert says in message
    assert str(folder) in message
    assert "--data DIR" in message
    assert "dataset-fashion-mnist" in message
    assert "\n" not in message


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_files_is_one_line(tmp_path, exists):
    folder = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(InvalidInput, match=r"which is not in .*--data DIR"):
        read_fashion(str(folder))


@pytest.mark.parametrize("inside", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("zipped", [True, False])
def test_torchvisions_folder_and_a_bare_one_are_read_zipped_or_not(
    write_fashion, tmp_path, inside, zipped
):
    write_fashion(tmp_path / inside, zipped=zipped)
    (images, labels), (test_images, test_labels) = read_fashion(str(tmp_path))
    assert images.shape == (200, 28, 28)
    assert test_images.shape == (50, 28, 28)
    assert (labels.dtype, test_labels.dtype) == (np.int64, np.int64)


@pytest.mark.skipif(
    not fashion_files.DEBIAN_FOLDER.is_dir(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
def test_debians_package_is_found_and_read_whole(monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    data = FashionCnn(config={}).build_data(None)
    assert [len(split[0]) for split in data] == [54_000, 6_000, 10_000]
    assert data.test[1].bincount().tolist() == [1_000] * 10


def test_the_last_tenth_of_the_training_images_is_for_validation(write_fashion, tmp_path):
    (images, labels), _ = read_fashion(str(write_fashion(tmp_path)))
    data = FashionCnn(config={}).build_data(str(tmp_path))
    assert [len(split[0]) for split in data] == [180, 20, 50]
    assert (data.validation[0][:, 0].numpy() == images[180:]).all()
    assert (data.validation[1].numpy() == labels[180:]).all()


def test_the_given_folder_comes_before_the_variable_and_the_variable_before_debian(
    write_fashion, tmp_path, monkeypatch
):
    given = write_fashion(tmp_path / "given", train=40)
    variable = write_fashion(tmp_path / "variable", train=30)
    debian = write_fashion(tmp_path / "debian", train=20)
    monkeypatch.setattr(fashion_files, "DEBIAN_FOLDER", debian)
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    assert len(read_fashion(None)[0][0]) == 20
    monkeypatch.setenv(DATA_VARIABLE, str(variable))
    assert len(read_fashion(None)[0][0]) == 30
    assert len(read_fashion(str(given))[0][0]) == 40


@pytest.fixture
def nothing_installed(tmp_path, monkeypatch) -> Path:
    """No folder has the data; returns the cache that a download goes to."""
    monkeypatch.setattr(fashion_files, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path / ".cache" / "quarterturn"


@pytest.mark.parametrize("error", [RuntimeError("Error downloading x:\nTried y"), OSError("down")])
def test_a_download_that_fails_is_one_line(nothing_installed, monkeypatch, error):
    def fail(root, download):
        raise error

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fail)
    with pytest.raises(InvalidInput, match="cannot be downloaded into") as raised:
        read_fashion(None)
    assert str(nothing_installed) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_download_is_kept_whole_and_done_once(nothing_installed, monkeypatch, write_fashion):
    roots = []

    def download(root, download):
        roots.append(root)
        write_fashion(Path(root, "FashionMNIST", "raw"))

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", download)
    for _ in range(2):
        assert len(read_fashion(None)[0][0]) == 200
    assert len(roots) == 1
    assert [path.name for path in nothing_installed.iterdir()] == ["FashionMNIST"]
