"""What goes to a cluster with a job file: what it imports from its own folder, and what is named.

A module ``helper.py`` beside the job file that it imports, at the top or within a function, goes
with it, and so do the modules that this one imports; of a package the whole folder goes. Hidden
files, bytecode and everything else in the folder stay.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from tuner.errors import InvalidInput

MAX_MB = 100.0
_OWN = ("tuner", "trainables", "search_spaces")  # these go as packages of their own


def own_packages() -> list[Path]:
    """Return the folders of this project's packages, which every job needs."""
    root = Path(__file__).parents[2]
    return [root / name for name in _OWN]


def files_of(file: Path, include: Iterable[str] = ()) -> list[Path]:
    """Return the files that a job file needs, relative to its folder, itself first.

    Args:
        file: the job file, which runs.
        include: files and folders under its folder that are to go with it, such as data.

    Raises:
        InvalidInput: something to include is not there, or outside the folder.
    """
    folder = file.absolute().parent
    found: dict[Path, None] = {}
    waiting = [folder / file.name]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        if path.suffix == ".py":
            waiting += _imported_by(path, folder)
    for name in include:
        found.update(dict.fromkeys(_included(name, folder)))
    return [path.relative_to(folder) for path in found]


def stage(files: Iterable[Path], folder: Path, into: Path) -> None:
    """Copy files, relative to `folder`, to where they are uploaded from.

    Raises:
        InvalidInput: they are too large together.
    """
    sizes = {file: (folder / file).stat().st_size / 1e6 for file in files}
    total = sum(sizes.values())
    if total > MAX_MB:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        shown = ", ".join(f"{file} ({sizes[file]:.0f} MB)" for file in largest)
        raise InvalidInput(
            f"what goes with a job file must be at most {MAX_MB:g} MB, it is {total:.0f} MB: "
            f"{shown}, ...; put data on a shared folder and name it with --data"
        )
    for file in sizes:
        copy = into / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, copy)


def _imported_by(path: Path, folder: Path) -> Iterator[Path]:
    """Yield the files in a folder that a module in it may import, wherever it does."""
    for name in _first_names(path):
        if name in _OWN:
            continue
        if (module := folder / f"{name}.py").is_file():
            yield module
        elif (package := folder / name).is_dir():
            files = list(_inside(package))
            # A folder of data may have the name of an installed package.
            yield from files if any(file.suffix == ".py" for file in files) else ()


def _first_names(path: Path) -> Iterator[str]:
    """Yield the first part of every absolute name that a module imports."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return  # a package may hold files for another Python, which nobody imports here
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _included(name: str, folder: Path) -> list[Path]:
    path = (folder / name).resolve()
    if not path.exists() or not path.is_relative_to(folder.resolve()):
        raise InvalidInput(
            f"--include must name a file or folder beside the job file, got {name!r}; "
            f"it is looked for in {folder}"
        )
    inside = [path] if path.is_file() else list(_inside(path))
    return [folder / file.relative_to(folder.resolve()) for file in inside]


def _inside(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        skipped = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if path.is_file() and not skipped and path.suffix != ".pyc":
            yield path
