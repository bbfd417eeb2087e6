"""The live view of a study on the terminal."""

from __future__ import annotations

import io
import math
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.errors import InvalidInput
from tuner.report import formatting as told
from tuner.report.formatting import one_line
from tuner.report.study_follower import Ended, Seen, StudyFollower
from tuner.storage.database import DatabaseUnavailable, answering
from tuner.study.load import opened
from tuner.study.result import TrialResult


@contextmanager
def interrupts() -> Iterator[Callable[[float], bool]]:
    """Give a function that waits for so many seconds and returns whether Ctrl-C came.

    KeyboardInterrupt may come inside a callback that swallows it; this cannot get lost. In another
    thread than the main one, which Ctrl-C does not reach, it just waits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield threading.Event().wait
        return
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    wakes = signal.set_wakeup_fd(telling)
    try:
        yield lambda seconds: bool(select.select([told], [], [], seconds)[0])
    finally:
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGINT, before)
        os.close(told)
        os.close(telling)


_COLOURS = {
    "complete": "green",
    "pruned": "yellow",
    "failed": "red",
    "running": "cyan",
    "paused": "blue",
    "waiting": "magenta",
}
_INDENT = 6  # what a verdict is indented by, beside the number of its trial
# On a screen narrower than this parameters are left out.
_WIDE = 110
# In a file nothing is cut; this is wider than any line.
_PAPER = 10_000
# Nothing written for so long is worth a word: a trial reports several times in its first epoch.
_QUIET_S = 60.0


def watch(name_or_url: str, folder: Path | str, console: Console, interval_s: float = 1.0) -> None:
    """Show a study until all its trials have ended, or until Ctrl-C; off a terminal once.

    It reads the study's storage alone, and neither locks nor writes it.

    Args:
        name_or_url: of the study, as for `load_study`.
        folder: where studies are kept, for a name.
        console: where to.
        interval_s: seconds between two looks, > 0.

    Raises:
        InvalidInput: there is no such study.
    """
    with opened(name_or_url, folder) as (study, path):
        following = StudyFollower(study, path)
        if not console.is_terminal:
            _print_plain(following.look(), console)
            return
        try:
            with (
                interrupts() as interrupted,
                Live(console=console, auto_refresh=False, vertical_overflow="crop") as live,
            ):
                seen = _follow(following, live, lambda: interrupted(interval_s))
        except FileNotFoundError as error:
            raise InvalidInput(
                f"a study must stay where it is to be watched, {study.study_name!r} has been "
                "removed; nothing is left to watch"
            ) from error
        name = one_line(study.study_name)
        if seen and seen.finished:
            console.print(Text(f"{name} is finished: {seen.ended} trials have ended"))
        else:
            console.print(Text(f"no longer watching {name}; it goes on"))


def _follow(following: StudyFollower, live: Live, interrupted: Callable[[], bool]) -> Seen | None:
    """Show each look until the last, and return that; what was seen stays on the screen, below a
    line, while the study's database is away."""
    seen = None
    while True:
        lines: list[RenderableType] = []
        try:
            with answering():
                seen = following.look(rows=live.console.height)
        except DatabaseUnavailable as away:
            lines.append(Text(f"{one_line(str(away))}; it is asked again", style="red"))
        if seen:
            lines.append(view(seen, live.console.width, live.console.height - len(lines)))
        live.update(Group(*lines), refresh=True)
        if (seen and seen.finished) or interrupted():
            return seen


def view(seen: Seen, width: int, height: int) -> RenderableType:
    """Return what is shown on a screen of that size."""
    head: list[RenderableType] = [
        _title(seen),
        _counts(seen),
        Text(told.saved(seen), no_wrap=True, overflow="ellipsis"),
        Text(_best(seen), no_wrap=True, overflow="ellipsis"),
    ]
    # A heading and a blank line for each of the two lists; a line is kept for the cursor.
    room = max(0, height - len(head) - 5)
    rows = min(len(seen.live), max(1, room // 2))
    parts: list[RenderableType] = [*head]
    if seen.live:
        parts += ["", _running(seen, seen.live[:rows], wide=width >= _WIDE)]
        room -= rows + (len(seen.live) > rows)
        if (more := seen.live_count - rows) > 0:
            parts.append(Text(f"and {more} more running or paused", style="dim"))
    if seen.recent:
        parts += ["", Text("ended last", style="dim")]
        for trial in seen.recent:
            line = _verdict(trial, seen)
            room -= math.ceil(line.cell_len / max(1, width - _INDENT))
            if room < 0:
                break
            row = Table.grid(padding=(0, 1, 0, 0))
            row.add_row(f"{trial.number:>{_INDENT - 1}}", line)
            parts.append(row)
    return Group(*parts)


def _title(seen: Seen) -> Table:
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(one_line(seen.name), style="bold", no_wrap=True, overflow="ellipsis"),
        ProgressBar(total=max(1, seen.ended + seen.left), completed=seen.ended, width=16),
        Text(f"{seen.ended}/{seen.ended + seen.left} trials", no_wrap=True),
        Text(told.pace(seen), no_wrap=True),
    )
    return head


def _counts(seen: Seen) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for state, colour in _COLOURS.items():
        if count := seen.counts[state]:  # type: ignore[index]
            line.append(", " if line else "").append(f"{count} {state}", style=colour)
    quiet = seen.quiet_s
    if quiet is not None and quiet > _QUIET_S and not seen.finished:
        line.append(f"   nothing new for {told.duration(quiet)}", style="red")
    return line


def _best(seen: Seen) -> str:
    metric = one_line(seen.metric)
    if seen.best is not None:
        return f"best: trial {seen.best.number} with {metric} {told.number(seen.best.value)}"
    known = [trial for trial in seen.live if not math.isnan(trial.value)]
    if not known:
        return "best: no trial is complete yet"
    ahead = (max if seen.mode == "max" else min)(known, key=lambda trial: trial.value)
    return (
        f"best: none is complete; ahead is trial {ahead.number} with {metric} "
        f"{told.number(ahead.value)} at epoch {round(ahead.epochs, 2):g}"
    )


def _running(seen: Seen, trials: Sequence[TrialResult], *, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=wide, padding=(0, 2, 0, 0))
    for heading in ("trial", "epoch", one_line(seen.metric), "smallest rotation"):
        table.add_column(Text(heading), no_wrap=True, overflow="ellipsis")
    table.add_column("layer", no_wrap=True, overflow="ellipsis")
    if wide:
        table.add_column("parameters", no_wrap=True, overflow="ellipsis", ratio=1)
    for trial in trials:
        layer = told.lowest(trial)
        turned = (
            f"{trial.rotation[layer]:.3f} {told.rotation_curve(trial, layer)}" if layer else "-"
        )
        table.add_row(
            str(trial.number),
            f"{round(trial.epochs, 2):g}/{seen.max_epochs}",
            Text(f"{told.number(trial.value):<8} {told.metric_curve(trial)}"),
            Text(turned),
            Text(one_line(layer)),
            *([Text(told.params(trial))] if wide else []),
        )
    return table


def _verdict(trial: Ended, seen: Seen) -> Text:
    line = Text(trial.state, style=_COLOURS[trial.state])
    line.append(f" {told.ended(trial, seen)}")
    if trial.reason:
        line.append(f": {one_line(trial.reason)}", style="dim")
    return line


def _print_plain(seen: Seen, console: Console) -> None:
    """Print one look, a line each, nothing cut."""
    text = io.StringIO()
    paper = Console(file=text, width=_PAPER, height=_PAPER, _environ={}, highlight=False)
    paper.print(view(seen, _WIDE - 1, _PAPER))
    for line in text.getvalue().splitlines():
        console.print(Text(line.rstrip()), soft_wrap=True)
