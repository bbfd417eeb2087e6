"""`quarterturn report` to files: a page, a picture, the ranked table, and mistakes."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.study.example_studies import make_study
from tuner import load_study


def test_a_real_study_is_written_as_page_picture_and_table(first, at_once, tmp_path):
    folder, _ = first
    studies = str(folder / "studies")
    said = at_once("report", "first", "--folder", studies, "--html", cwd=tmp_path)
    assert (said.code, said.out, said.err) == (0, "wrote first.html\n", "")
    page = (tmp_path / "first.html").read_text()
    best = load_study("first", folder=studies).best
    assert f"Trial {best.number} is the best, with val_accuracy {best.value:.4g}" in page
    assert f"best = tuner.load_study(&#39;first&#39;, folder=&#39;{studies}&#39;).best" in page
    arguments = ("--plot", "rotation", "--out", "turn.svg", "--parquet", "table.parquet")
    said = at_once("report", "first", "--folder", studies, *arguments, cwd=tmp_path)
    assert (said.code, said.out, said.err) == (0, "wrote turn.svg\nwrote table.parquet\n", "")
    assert "cosine distance" in (tmp_path / "turn.svg").read_text()
    table = pd.read_parquet(tmp_path / "table.parquet")
    ranking = load_study("first", folder=studies).ranking()
    assert table.columns.tolist() == ranking.columns.tolist()
    assert table["trial"].tolist() == ranking["trial"].tolist()


def test_the_page_never_tells_the_database(tmp_path, at_once):
    url = f"sqlite:///{tmp_path}/secret.db"
    make_study(tmp_path / "kept", "mine", url)
    said = at_once("report", url, "--html", "page.html", cwd=tmp_path)
    assert (said.code, said.out) == (0, "wrote page.html\n")
    page = (tmp_path / "page.html").read_text()
    assert "secret.db" not in page
    assert "DATABASE#mine" in page


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--html", "page.pdf"), "the page must be a file that ends in .html or .htm, got "),
        (("--html", "no/page.html"), "the folder of the page must exist, got 'no/page.html'"),
        (("--html", "studies.html"), "the page must be writable, got 'studies.html'"),
        (("--plot", "rotation"), "Give --plot KIND and --out FILE together"),
        (("--out", "a.svg"), "Give --plot KIND and --out FILE together"),
        (("--plot", "rotation", "--out", "a.pdf"), "the plot must be a file that ends in .png or"),
        (("--plot", "importance", "--out", "a.svg"), "a plot needs reports with its data"),
        (("--plot", "pie", "--out", "a.svg"), "Invalid value for '--plot': 'pie' is not one of"),
        (("--parquet", "a.csv"), "the table must be a file that ends in .parquet, got 'a.csv'"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, at_once, arguments, why):
    make_study(tmp_path / "studies", "mine")
    (tmp_path / "studies.html").mkdir()
    said = at_once("report", "mine", *arguments, cwd=tmp_path)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"quarterturn: {why}")
    assert said.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["studies", "studies.html"]
