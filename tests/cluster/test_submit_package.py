"""What goes to a cluster with a job file, and what stays."""

from __future__ import annotations

import pytest

from tuner.cluster import submit as package
from tuner.cluster.submit import files_of, own_packages, stage
from tuner.errors import InvalidInput


@pytest.fixture
def folder(tmp_path):
    """A folder as a person has it: a job file, modules, packages, data, secrets."""
    contents = {
        "job.py": "import helper\nfrom nets.deep import Net\nimport torch, json\n\n"
        "def build():\n    from late import note\n",
        "helper.py": "import second",
        "second.py": "import helper",
        "late.py": "",
        "unused.py": "",
        "nets/__init__.py": "",
        "nets/deep.py": "from . import parts\nimport third",
        "nets/parts.py": "",
        "nets/sizes.json": "{}",
        "nets/.hidden": "",
        "nets/__pycache__/deep.cpython-311.pyc": "",
        "third.py": "this is no Python",
        "torch/readme.txt": "a folder of data",
        "data/one.csv": "1",
        "data/two.csv": "2",
        ".env": "SECRET=1",
    }
    for name, text in contents.items():
        file = tmp_path / "work" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "work"


NEEDED = {
    *("job.py", "helper.py", "second.py", "late.py", "third.py"),
    *("nets/__init__.py", "nets/deep.py", "nets/parts.py", "nets/sizes.json"),
}


def names(files):
    return {file.as_posix() for file in files}


def test_what_a_job_file_imports_wherever_it_does_goes_with_it(folder):
    assert names(files_of(folder / "job.py")) == NEEDED


def test_the_folder_one_stands_in_makes_no_difference(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert names(files_of(package.Path("job.py"))) == NEEDED


@pytest.mark.parametrize(
    ("include", "more"),
    [
        (["data/one.csv"], {"data/one.csv"}),
        (["data"], {"data/one.csv", "data/two.csv"}),
        (["./data/../data"], {"data/one.csv", "data/two.csv"}),
        ([".env"], {".env"}),
    ],
)
def test_what_is_named_goes_too(folder, include, more):
    assert names(files_of(folder / "job.py", include)) == NEEDED | more


@pytest.mark.parametrize("name", ["nothing", "..", "../../etc/passwd", "/etc/passwd"])
def test_nothing_outside_the_folder_can_be_named(folder, name):
    with pytest.raises(InvalidInput, match="--include must name a file or folder beside"):
        files_of(folder / "job.py", [name])


def test_the_own_packages_are_not_taken_for_modules_of_the_user(folder):
    (folder / "tuner").mkdir()
    (folder / "tuner" / "mine.py").touch()
    (folder / "helper.py").write_text("import tuner.mine")
    assert not any(name.startswith("tuner/") for name in names(files_of(folder / "job.py")))


def test_the_own_packages_are_those_that_are_running():
    assert [path.name for path in own_packages()] == ["tuner", "trainables", "search_spaces"]
    assert all((path / "__init__.py").is_file() for path in own_packages())


def test_staged_files_are_where_they_were(folder, tmp_path):
    stage(files_of(folder / "job.py"), folder, tmp_path / "staged")
    staged = {
        file.relative_to(tmp_path / "staged").as_posix()
        for file in (tmp_path / "staged").rglob("*")
        if file.is_file()
    }
    assert staged == NEEDED


def test_too_much_is_refused_with_the_largest_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(package, "MAX_MB", 1.0)
    (folder / "data" / "one.csv").write_bytes(b"0" * 3_000_000)
    files = files_of(folder / "job.py", ["data"])
    with pytest.raises(
        InvalidInput, match=r"at most 1 MB together, got 3 MB: data/one.csv \(3 MB\)"
    ):
        stage(files, folder, tmp_path / "staged")
