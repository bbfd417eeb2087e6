"""CIFAR's files: read back exactly, in either version, and a line for each thing wrong."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torchvision
from image_files import generated, python2_pickle, write_cifar

from trainables import C10Cnn1
from trainables.datasets.cifar import CIFAR10, CIFAR100, PickleError, load_plain, read_cifar
from trainables.datasets.images import DATA_VARIABLE
from tuner.errors import InvalidInput

KINDS = pytest.mark.parametrize("kind", [CIFAR10, CIFAR100], ids=["10", "100"])


@KINDS
@pytest.mark.parametrize("binary", [False, True], ids=["python", "binary"])
@pytest.mark.parametrize("inside", [False, True], ids=["its parent", "the folder itself"])
def test_every_image_and_label_is_read_back_in_file_order(kind, binary, inside, tmp_path):
    written = write_cifar(kind, tmp_path, binary=binary)
    folder = tmp_path / (kind.binary_folder if binary else kind.folder) if inside else tmp_path
    (images, labels), (test_images, test_labels) = read_cifar(kind, str(folder))
    assert (images == np.concatenate([written[file][0] for file in kind.train])).all()
    assert (labels == np.concatenate([written[file][1] for file in kind.train])).all()
    assert (test_images == written[kind.test][0]).all()
    assert (test_labels == written[kind.test][1]).all()
    assert (images.dtype, labels.dtype, images.shape[1:]) == (np.uint8, np.int64, (3, 32, 32))
    assert images.flags.writeable


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_python_3_pickles_is_read_too(tmp_path, protocol):
    written = write_cifar(CIFAR100, tmp_path)
    for file, (images, labels) in written.items():
        held = {b"data": images.reshape(len(images), -1), b"fine_labels": labels}
        (tmp_path / CIFAR100.folder / file).write_bytes(pickle.dumps(held, protocol))
    assert (read_cifar(CIFAR100, str(tmp_path))[0][0] == written["train"][0]).all()


class Harmful:
    """Would run a command when unpickled in the ordinary way."""

    def __reduce__(self):
        # Not `print` itself, which Ray replaces by its own in a process where it has been started.
        return exec, ("print('harm done')",)


def harmful(path: Path) -> None:
    path.write_bytes(pickle.dumps({b"data": Harmful()}))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def html(path: Path) -> None:
    path.write_text("<html>Not found</html>")


def holding(**held):
    images, labels = generated(20, 10)
    rows = images.reshape(20, -1)
    whole = {"data": rows, "labels": labels.tolist(), **held}
    content = {key.encode(): value for key, value in whole.items() if value is not None}

    def damage(path: Path) -> None:
        path.write_bytes(python2_pickle(content))

    return damage


def a_list(path: Path) -> None:
    path.write_bytes(pickle.dumps([1, 2]))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (Path.unlink, "needs data_batch_3, which is not in"),
        (harmful, "data_batch_3 cannot be unpickled (it asks for builtins.exec)"),
        (truncate, "data_batch_3 cannot be unpickled"),
        (half, "data_batch_3 cannot be unpickled"),
        (empty, "data_batch_3 cannot be unpickled"),
        (html, "data_batch_3 cannot be unpickled"),
        (a_list, "data_batch_3 has no 'data' and 'labels'"),
        (holding(labels=None), "data_batch_3 has no 'data' and 'labels'"),
        (holding(data=b"bytes"), "data_batch_3 has no rows of 3072 bytes"),
        (holding(data=np.zeros((20, 784), np.uint8)), "data_batch_3 has no rows of 3072 bytes"),
        (holding(data=np.zeros((20, 3072))), "it holds an array of something else than whole"),
        (holding(labels=[1, 2]), "data_batch_3 has 2 labels for 20 images"),
        (holding(labels=[0.5] * 20), "data_batch_3 has no whole numbers under 'labels'"),
        (holding(labels=[10] * 20), "data_batch_3 has the label 10, not 0-9"),
        (holding(labels=[-1] * 20), "data_batch_3 has the label -1, not 0-9"),
    ],
)
def test_a_bad_file_is_one_line_from_the_first_step(damage, says, tmp_path, capfd):
    write_cifar(CIFAR10, tmp_path)
    damage(tmp_path / CIFAR10.folder / "data_batch_3")
    with pytest.raises(InvalidInput) as raised:
        C10Cnn1(config={"data_dir": str(tmp_path)}).step()
    message = str(raised.value)
    assert says in message
    assert str(tmp_path) in message
    assert "give the folder that holds cifar-10-batches-py with --data DIR" in message
    assert "\n" not in message
    assert "harm done" not in capfd.readouterr().out


def test_a_cut_binary_file_is_one_line(tmp_path):
    write_cifar(CIFAR100, tmp_path, binary=True)
    truncate(tmp_path / CIFAR100.binary_folder / "train.bin")
    with pytest.raises(InvalidInput, match=r"train.bin holds 61475 bytes, not rows of 3074"):
        read_cifar(CIFAR100, str(tmp_path))


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_files_is_one_line(tmp_path, exists):
    folder = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(InvalidInput, match=r"needs train, which is not in .*--data DIR"):
        read_cifar(CIFAR100, str(folder))


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = python2_pickle({b"data": np.arange(40), b"labels": [1] * 9, b"names": [b"a.png"]})
    path = tmp_path / "file"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(PickleError, match="cannot be unpickled"):
            load_plain(path)
    path.write_bytes(whole)
    assert load_plain(path)[b"data"].tolist() == list(range(40))


@pytest.mark.parametrize("array", [np.arange(6.0), np.array([b"a"]), np.array([[]], object)])
def test_arrays_of_anything_but_whole_numbers_are_refused(array, tmp_path):
    (tmp_path / "file").write_bytes(pickle.dumps({b"data": array}, protocol=2))
    with pytest.raises(PickleError, match="something else than whole numbers"):
        load_plain(tmp_path / "file")


@pytest.mark.parametrize("kind", ["u1", "<i8", ">i4", "<u2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_whole_numbers_come_back_as_they_were(kind, order, tmp_path):
    array = np.asarray(np.arange(6).reshape(2, 3), dtype=kind, order=order)
    (tmp_path / "file").write_bytes(python2_pickle({b"data": array}))
    found = load_plain(tmp_path / "file")[b"data"]
    assert (found.tolist(), found.dtype) == (array.tolist(), array.dtype)


@KINDS
def test_a_download_is_kept_whole_and_done_once(kind, tmp_path, monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    roots = []

    def download(root, download):
        roots.append(root)
        write_cifar(kind, Path(root))
        Path(root, "archive.tar.gz").write_bytes(b"left behind")

    monkeypatch.setattr(torchvision.datasets, kind.name.replace("-", ""), download)
    for _ in range(2):
        assert len(read_cifar(kind, None)[0][0]) > 0
    assert len(roots) == 1
    cache = tmp_path / ".cache" / "quarterturn"
    assert [path.name for path in cache.iterdir()] == [kind.folder]
    shutil.rmtree(cache)

    def fail(root, download):
        raise RuntimeError("File not found\nor corrupted")

    monkeypatch.setattr(torchvision.datasets, kind.name.replace("-", ""), fail)
    with pytest.raises(InvalidInput, match=r"cannot be downloaded .* \(File not found\); give"):
        read_cifar(kind, None)
