"""Where the files of Fashion-MNIST are."""

from __future__ import annotations

from pathlib import Path

from trainables.folders import downloaded, given_folder
from trainables.idx_images import Images, read_idx_images

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
REMEDY = "give its folder with --data DIR, or install Debian's package dataset-fashion-mnist"


def read_fashion(data_dir: str | None) -> tuple[Images, Images]:
    """Return the training and the test images, shape (n, 28, 28), each with labels of shape (n,).

    `data_dir` is a torchvision data folder (holding `FashionMNIST/raw`) or holds the four idx
    files itself, gzipped or not. Without it, the folder is the first that is there of the
    variable QUARTERTURN_DATA, Debian's package and `~/.cache/quarterturn`, which is downloaded
    when it is missing. Raises `InvalidInput` when a file is missing or damaged.
    """
    folder = given_folder(data_dir)
    if folder is None and DEBIAN_FOLDER.is_dir():
        folder = DEBIAN_FOLDER
    if folder is None:
        folder = downloaded("Fashion-MNIST", "FashionMNIST", _download, REMEDY)
    raw = folder / "FashionMNIST" / "raw"
    return read_idx_images(raw if raw.is_dir() else folder, "Fashion-MNIST", REMEDY)


def _download(root: str) -> None:
    # Imported here because it takes 2 s and is needed once on a machine.
    from torchvision.datasets import FashionMNIST  # type: ignore[import-untyped]

    FashionMNIST(root, download=True)
