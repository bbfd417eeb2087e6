"""What a person reads when a run has ended: the ranked trials, the best, and where things are."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from tuner.report.table import print_report
from tuner.study.result import StudyResult

_TOP = 20


def print_outcome(result: StudyResult, console: Console, folder: Path) -> None:
    """Print the report's first rows, the best trial and its checkpoint, and the study's folder."""
    print_report(result, console, top=_TOP)
    lines = []
    if len(result.trials) > _TOP:
        lines.append(f"{len(result.trials) - _TOP} more: quarterturn report {result.name}")
    if any(trial.state == "complete" for trial in result.trials):
        best = result.best
        lines.append(f"best: trial {best.number} with {result.metric} {best.value:.4g}")
        if best.checkpoint:
            lines.append(f"its checkpoint: {best.checkpoint}")
            weights = f"tuner.load_study({result.name!r}).best.weights()"
            lines.append(f"in Python: model.load_state_dict({weights})")
    lines.append(f"files: {folder.absolute()}")
    for line in lines:
        console.print(Text(line), soft_wrap=True)
