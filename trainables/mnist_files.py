"""Where the files of the whole of MNIST are."""

from __future__ import annotations

from trainables.folders import downloaded, given_folder
from trainables.idx_images import Images, read_idx_images

REMEDY = "give its folder with --data DIR, or use mnist-features-small, which needs no files"


def read_mnist(data_dir: str | None) -> tuple[Images, Images]:
    """Return the training and the test images, shape (n, 28, 28), each with labels of shape (n,).

    `data_dir`, or else the variable QUARTERTURN_DATA, is a torchvision data folder (holding
    `MNIST/raw`) or holds the four idx files itself, gzipped or not; they bear the same names as
    Fashion-MNIST's. Without either it is `~/.cache/quarterturn`, which is downloaded when it is
    missing. Raises `InvalidInput` when a file is missing or damaged.
    """
    folder = given_folder(data_dir)
    if folder is None:
        folder = downloaded("MNIST", "MNIST", _download, REMEDY)
    raw = folder / "MNIST" / "raw"
    return read_idx_images(raw if raw.is_dir() else folder, "MNIST", REMEDY)


def _download(root: str) -> None:
    # Imported here because it takes 2 s and is needed once on a machine.
    from torchvision.datasets import MNIST  # type: ignore[import-untyped]

    MNIST(root, download=True)
