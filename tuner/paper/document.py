"""What findings came to, as a document: a heading, a table and a plot for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tuner.errors import InvalidInput
from tuner.paper.run import Shown

_DPI = 110


def print_shown(shown: Sequence[Shown], console: Console) -> None:
    """Print the claim, the table and the verdict of each finding."""
    for each in shown:
        table = Table(
            title=each.finding.title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
        )
        for number, column in enumerate(each.judgement.table.columns):
            table.add_column(str(column), no_wrap=not number)
        for row in each.judgement.table.itertuples(index=False):
            table.add_row(*map(str, row))
        console.print(f"The paper: {each.finding.claim}.")
        console.print(table)
        console.print(f"{_verdict(each)}\n")


def write_document(shown: Sequence[Shown], folder: Path) -> Path:
    """Write `paper.md` and a plot for each finding into a folder; return the document's path.

    Raises:
        InvalidInput: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        parts = [_INTRODUCTION.format(scale=shown[0].scale, seeds=shown[0].seeds)]
        for each in shown:
            picture = f"paper-{each.finding.name}.png"
            each.finding.draw(each.runs).savefig(folder / picture, dpi=_DPI)
            parts.append(_section(each, picture))
        document = folder / "paper.md"
        document.write_text("\n".join(parts))
    except OSError as error:
        raise InvalidInput(
            f"the output folder must be writable, got {str(folder)!r} ({error.strerror or error}); "
            "choose another with --out"
        ) from error
    return document


_INTRODUCTION = """# The paper's findings, run again

arXiv:1806.01603 at scale `{scale}`, seeds a setting: {seeds}. Written by `quarterturn paper`; the
tasks are described in tasks.md. "Turned" is the mean final cosine distance of the hidden layers; ±
is the standard error over seeds; the rate shown is the best on the validation split. The paper's
figures are of the full-size tasks: at scale `small`, on other data, only the pattern compares.
"""


def _section(each: Shown, picture: str) -> str:
    table = each.judgement.table
    lines = [
        f"## {each.finding.title}",
        "",
        f"The paper: {each.finding.claim}.",
        "",
        _verdict(each),
        "",
        "| " + " | ".join(map(str, table.columns)) + " |",
        "|---" * len(table.columns) + "|",
        *("| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)),
        "",
        f"![{each.finding.title}]({picture})",
        "",
    ]
    return "\n".join(lines)


def _verdict(each: Shown) -> str:
    judgement = each.judgement
    words = judgement.words[0].upper() + judgement.words[1:]
    return f"Here, {len(each.runs)} runs: {judgement.held}. {words}."
