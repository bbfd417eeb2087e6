"""Tiny ImageNet's folder: read back, kept as one file, and a line for each thing wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_files import colour, write_tiny
from PIL import Image

from trainables.datasets import tiny_imagenet
from trainables.datasets.images import DATA_VARIABLE
from trainables.datasets.tiny_imagenet import read_tiny_imagenet
from tuner.errors import InvalidInput


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch) -> Path:
    """A home folder with an empty cache."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(Path, "home", lambda: folder)
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    return folder


def arrays(found) -> list[np.ndarray]:
    return [array for part in found for array in part]


@pytest.mark.parametrize("inside", [False, True], ids=["its parent", "the folder itself"])
def test_labels_follow_the_sorted_class_names_and_pixels_the_pictures(tmp_path, inside):
    names, folder = write_tiny(tmp_path)
    (images, labels), (val_images, val_labels) = read_tiny_imagenet(
        str(folder if inside else tmp_path)
    )
    assert (images.shape, images.dtype, labels.dtype) == ((12, 3, 64, 64), np.uint8, np.int64)
    # The files list the classes from the last name to the first.
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        number = names.index(sorted(names)[label])
        if place % 4 == 3:
            assert (image == 50 + number).all()
        else:
            shown = np.asarray(colour(number, place % 4)).transpose(2, 0, 1)
            assert np.abs(image.astype(int) - shown).max() <= 2
    assert val_labels.tolist() == [2, 1, 0, 2, 1]
    shown = np.asarray(colour(1, 4)).transpose(2, 0, 1)
    assert np.abs(val_images[4].astype(int) - shown).max() <= 2


def refuse_to_decode(monkeypatch) -> None:
    def refuse(*given):
        raise AssertionError("decoded again")

    monkeypatch.setattr(tiny_imagenet, "_decode", refuse)


def test_the_images_are_decoded_once_and_kept_beside_the_folder(tmp_path, monkeypatch, home):
    write_tiny(tmp_path)
    first = arrays(read_tiny_imagenet(str(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tiny-imagenet-200",
        "tiny-imagenet-200.npz",
    ]
    assert not list(home.iterdir())
    refuse_to_decode(monkeypatch)
    again = arrays(read_tiny_imagenet(str(tmp_path)))
    assert all(map(np.array_equal, first, again))


def test_where_the_folder_cannot_be_written_the_cache_is_at_home(tmp_path, monkeypatch, home):
    write_tiny(tmp_path)
    write_cache = tiny_imagenet._write_cache
    monkeypatch.setattr(
        tiny_imagenet,
        "_write_cache",
        lambda cache, held: cache.parent != tmp_path and write_cache(cache, held),
    )
    first = arrays(read_tiny_imagenet(str(tmp_path)))
    assert not (tmp_path / "tiny-imagenet-200.npz").exists()
    assert len(list((home / ".cache" / "quarterturn").iterdir())) == 1
    refuse_to_decode(monkeypatch)
    assert all(map(np.array_equal, first, arrays(read_tiny_imagenet(str(tmp_path)))))


def test_without_any_place_for_the_cache_it_is_read_all_the_same(tmp_path, monkeypatch):
    write_tiny(tmp_path)

    def full(*given, **named):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert len(read_tiny_imagenet(str(tmp_path))[0][0]) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-imagenet-200"]


@pytest.mark.parametrize("spoil", ["damaged", "of another folder"])
def test_a_cache_that_does_not_fit_is_made_anew(tmp_path, spoil):
    _, folder = write_tiny(tmp_path)
    cache = tmp_path / "tiny-imagenet-200.npz"
    first = arrays(read_tiny_imagenet(str(tmp_path)))
    if spoil == "damaged":
        cache.write_bytes(cache.read_bytes()[:1000])
        assert all(map(np.array_equal, first, arrays(read_tiny_imagenet(str(tmp_path)))))
    else:
        colour(0, 9).save(folder / "train" / "n0900" / "images" / "n0900_9.JPEG")
        assert len(read_tiny_imagenet(str(tmp_path))[0][0]) == 13


def remove_images(path: Path) -> None:
    for image in path.parent.iterdir():
        image.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def other_size(path: Path) -> None:
    Image.new("RGB", (60, 64)).save(path)


def text(path: Path) -> None:
    path.write_text("<html>")


def unknown_class(path: Path) -> None:
    path.write_text("val_0.JPEG\tn12345\t0\t0\t62\t62\n")


IMAGE = "train/n0899/images/n0899_1.JPEG"
NOTES = "val/val_annotations.txt"


@pytest.mark.parametrize(
    ("file", "damage", "says"),
    [
        ("wnids.txt", Path.unlink, "needs wnids.txt, which is not in"),
        ("wnids.txt", lambda path: path.write_text("\n"), "it is empty"),
        (NOTES, Path.unlink, "needs val_annotations.txt, which is not in"),
        (NOTES, unknown_class, "has the class 'n12345' for 'val_0.JPEG'"),
        (NOTES, lambda path: path.write_text("val_0.JPEG\n"), "has the class '' for 'val_0.JPEG'"),
        (IMAGE, remove_images, "needs images of the class n0899, and there are none in"),
        (IMAGE, cut, "n0899_1.JPEG cannot be decoded"),
        (IMAGE, text, "n0899_1.JPEG cannot be decoded"),
        (IMAGE, other_size, "n0899_1.JPEG has 64x60 pixels, not 64x64"),
        ("val/images/val_2.JPEG", Path.unlink, "val_2.JPEG is missing"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, file, damage, says):
    _, folder = write_tiny(tmp_path)
    damage(folder / file)
    with pytest.raises(InvalidInput) as raised:
        read_tiny_imagenet(str(tmp_path))
    message = str(raised.value)
    assert says in message
    assert str(tmp_path) in message
    assert "tiny-imagenet-200.zip and give the folder" in message
    assert "\n" not in message


def test_a_missing_folder_is_one_line_that_says_where_to_get_it():
    with pytest.raises(InvalidInput, match=r"needs wnids.txt, .* unpack https://.*--data DIR"):
        read_tiny_imagenet(None)
