"""The map of each package in its docstring, and the paths that the documents name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent.relative_to(ROOT) for path in (ROOT / "tuner").rglob("__init__.py"))
ENTRY = re.compile(r"^- ((?:[\w.]+(?:\.py|/)(?:, )?)+): ", re.MULTILINE)
PATH = re.compile(
    r"(?<![\w/.])((?:tuner|trainables|search_spaces|tests|benchmarks|docs|deploy|examples)"
    r"/[\w./-]*\w|[\w-]+\.(?:md|yaml|toml|txt)(?!\w))"
)
# The log tells of the past.
DOCS = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name != "log.md")
# A user's files, and files that a command writes.
OTHERS = {"paper.md", "url.txt"}


def members(package: Path) -> set[str]:
    """Return the modules and folders of a package, less those without content of their own."""
    found = (ROOT / package).iterdir()
    return {
        f"{path.name}/" if path.is_dir() else path.name
        for path in found
        if not path.name.startswith("_") and (path.is_dir() or path.suffix == ".py")
    }


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_the_docstring_of_a_package_says_what_each_of_its_modules_is(package):
    text = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()))
    assert text, package
    named = [name for entry in ENTRY.findall(text) for name in entry.split(", ")]
    assert len(named) == len(set(named))
    assert set(named) == members(package)
    assert "Begin with " in text


@pytest.mark.parametrize(
    "document",
    [
        *("README.md", "CONTRIBUTING.md", "deploy/README.md", "benchmarks/curves/README.md"),
        *(f"docs/{name}" for name in DOCS),
    ],
)
def test_every_path_that_a_document_names_is_there(document):
    file = ROOT / document
    for path in sorted(set(PATH.findall(file.read_text())) - OTHERS):
        assert (ROOT / path).exists() or (file.parent / path).exists(), path


def test_the_readme_tree_names_every_package():
    tree = re.search(r"```\ntuner/\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    named = {line.split()[0] for line in tree.splitlines() if line.startswith("  ")}
    assert named == members(Path("tuner"))
