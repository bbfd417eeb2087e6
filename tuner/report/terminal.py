"""The live view of a study on the terminal, for the run itself and for `quarterturn watch`.

`LiveView` reads the study and draws it. `RunProgress` shows a study that this process runs. If the
output is not a terminal, it prints a line for each finished trial. `watch` shows a study that
another process runs.
"""

from __future__ import annotations

import io
import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import optuna
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.errors import InvalidInput
from tuner.report import formatting
from tuner.report.formatting import one_line, short_reason
from tuner.report.study_follower import EndedTrial, StudyFollower, StudySnapshot, TrialStatus
from tuner.rotation import EpochReport
from tuner.storage.database import DatabaseUnavailable, answering
from tuner.study.load import opened
from tuner.study.result import State, StudyResult, TrialResult

_COLOURS: dict[TrialStatus, str] = {
    "complete": "green",
    "pruned": "yellow",
    "failed": "red",
    "running": "cyan",
    "paused": "blue",
    "waiting": "magenta",
}
_INDENT = 6  # of an ended trial's line, beside its number
# A screen narrower than this has no column for parameters.
_WIDE = 90
# Wider than any line, so that nothing is cut in a file.
_PAPER = 10_000
# A trial reports several times in its first epoch, so a longer silence is shown.
_QUIET_S = 60.0
# A run prints a line at least this often, to show that it is alive.
_LINE_EVERY_S = 30.0
_REFRESHES_PER_SECOND = 2


class LiveView:
    """Reads a study and draws its state, to fit the screen.

    Args:
        follower: reads the study.
        console: the screen.

    Attributes:
        snapshot: the last state that was read; None before the first.
    """

    def __init__(self, follower: StudyFollower, console: Console) -> None:
        self.snapshot: StudySnapshot | None = None
        self._follower = follower
        self._console = console

    def draw(self) -> RenderableType:
        """Return the study's state now, or the last known one while its database is down."""
        lines: list[RenderableType] = []
        try:
            with answering():
                self.snapshot = self._follower.poll(rows=self._console.height)
        except DatabaseUnavailable as error:
            lines.append(Text(f"{one_line(str(error))}; trying again", style="red"))
        if self.snapshot:
            height = self._console.height - len(lines)
            lines.append(view(self.snapshot, self._console.width, height))
        return Group(*lines)


class RunProgress:
    """Shows a study while this process runs it.

    The methods are those of the engine's `RunCallback`. A terminal shows a `LiveView`. Any other
    output gets a line for each finished trial.

    Args:
        console: the output; standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, emoji=False)
        self._follower: StudyFollower | None = None
        self._view: LiveView | None = None
        self._line_at = time.monotonic()
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def opened(self, study: optuna.Study, folder: Path | None) -> None:
        """Begin to show a study."""
        self._follower = StudyFollower(study, folder)
        self._view = LiveView(self._follower, self._console)

    def begun(self, so_far: StudyResult) -> None:
        """Print the number of ended trials, if the output is not a terminal."""
        if not self._console.is_terminal:
            study = self._poll()
            self._line_at = time.monotonic()
            done = f"{study.ended}/{study.num_trials} trials"
            self._print(f"study {study.name}: {done}, {formatting.goal(study)}")

    def noted(self, line: str) -> None:
        """Print a line for the person who runs the study."""
        self._print(line)

    def reported(self, number: int, report: EpochReport) -> None:
        """Print the state of the running trials, if nothing was printed for a while."""
        if not self._console.is_terminal and time.monotonic() - self._line_at > _LINE_EVERY_S:
            study = self._poll(rows=_PAPER)
            self._print_line(study, f"trials ended; {_running_words(study)}")

    def finished(self, number: int, state: State, value: float, epochs: float, reason: str) -> None:
        """Print a line for a trial that has ended, if the output is not a terminal."""
        if self._console.is_terminal:
            return
        study = self._poll()
        seconds = next((trial.seconds for trial in study.recent if trial.number == number), 0.0)
        spent = f"{formatting.epochs_of(epochs, study.max_epochs)} epochs, {seconds:.1f} s"
        why = f": {short_reason(reason)}" if reason else ""
        metric = f"{study.metric} {formatting.number(value)}"
        self._print_line(study, f"trial {number} {state}, {metric}, {spent}{why}")

    def _draw(self) -> RenderableType:
        return self._view.draw() if self._view else Text()

    def _poll(self, rows: int = 0) -> StudySnapshot:
        assert self._follower, "a study is opened before its trials run"
        return self._follower.poll(rows)

    def _print_line(self, study: StudySnapshot, line: str) -> None:
        self._line_at = time.monotonic()
        self._print(f"{study.ended}/{study.num_trials} {line}")

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def watch(name_or_url: str, folder: Path | str, console: Console, interval_s: float = 1.0) -> None:
    """Show a study until all its trials have ended, or until Ctrl-C.

    This only reads the study's storage; it takes no lock and writes nothing. An output that is not
    a terminal gets one snapshot.

    Args:
        name_or_url: the study's name or URL, as for `load_study`.
        folder: the folder of studies, for a name.
        console: the output.
        interval_s: seconds between two snapshots, > 0.

    Raises:
        InvalidInput: the study does not exist, or is removed while it is shown.
    """
    with opened(name_or_url, folder) as (study, path):
        follower = StudyFollower(study, path)
        if not console.is_terminal:
            _print_plain(follower.poll(), console)
            return
        shown = LiveView(follower, console)
        try:
            with (
                interrupts() as interrupted,
                Live(console=console, auto_refresh=False, vertical_overflow="crop") as live,
            ):
                live.update(shown.draw(), refresh=True)
                while not ((shown.snapshot and shown.snapshot.finished) or interrupted(interval_s)):
                    live.update(shown.draw(), refresh=True)
        except FileNotFoundError as error:
            raise InvalidInput(
                f"watch needs the files of the study, {study.study_name!r} has been removed; "
                "nothing is left to watch"
            ) from error
        name = one_line(study.study_name)
        if shown.snapshot and shown.snapshot.finished:
            console.print(Text(f"{name} is finished: {shown.snapshot.ended} trials have ended"))
        else:
            console.print(Text(f"no longer watching {name}; the study continues"))


@contextmanager
def interrupts() -> Iterator[Callable[[float], bool]]:
    """Yield a function that waits, and returns whether Ctrl-C was pressed.

    The argument of the function is in seconds. A KeyboardInterrupt can get lost in a callback that
    catches it; this function cannot miss it. Ctrl-C reaches only the main thread, so in any other
    thread the function only waits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield threading.Event().wait
        return
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    wakes = signal.set_wakeup_fd(waker)
    try:
        yield lambda seconds: bool(select.select([woken], [], [], seconds)[0])
    finally:
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGINT, before)
        os.close(woken)
        os.close(waker)


def view(study: StudySnapshot, width: int, height: int) -> RenderableType:
    """Return the state of a study, drawn for a screen of that size."""
    head: list[RenderableType] = [
        _title(study),
        _counts(study),
        Text(formatting.saved(study), no_wrap=True, overflow="ellipsis"),
        Text(_best(study), no_wrap=True, overflow="ellipsis"),
    ]
    # Each of the two lists has a heading and a blank line; one line is left for the cursor.
    free = max(0, height - len(head) - 5)
    rows = min(len(study.live), max(1, free // 2))
    parts: list[RenderableType] = [*head]
    if study.live:
        parts += ["", _running(study, study.live[:rows], wide=width >= _WIDE)]
        free -= rows + (len(study.live) > rows)
        if (more := study.live_count - rows) > 0:
            parts.append(Text(f"and {more} more running or paused", style="dim"))
    if study.recent:
        parts += ["", Text("ended last", style="dim")]
        for trial in study.recent:
            line = _ended(trial, study)
            free -= math.ceil(line.cell_len / max(1, width - _INDENT))
            if free < 0:
                break
            row = Table.grid(padding=(0, 1, 0, 0))
            row.add_row(f"{trial.number:>{_INDENT - 1}}", line)
            parts.append(row)
    return Group(*parts)


def _title(study: StudySnapshot) -> Table:
    head = Table.grid(padding=(0, 2))
    total = study.ended + study.left
    head.add_row(
        Text(one_line(study.name), style="bold", no_wrap=True, overflow="ellipsis"),
        ProgressBar(total=1.0, completed=study.progress, width=16),
        Text(f"{study.ended}/{total} trials", no_wrap=True),
        Text(formatting.pace(study), no_wrap=True),
    )
    return head


def _counts(study: StudySnapshot) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for state, colour in _COLOURS.items():
        if count := study.counts[state]:
            line.append(", " if line else "").append(f"{count} {state}", style=colour)
    if study.elapsed_s:
        line.append(f"   elapsed {formatting.duration(study.elapsed_s)}", style="dim")
    quiet = study.quiet_s
    if quiet is not None and quiet > _QUIET_S and not study.finished:
        line.append(f"   nothing new for {formatting.duration(quiet)}", style="red")
    return line


def _best(study: StudySnapshot) -> str:
    metric = one_line(study.metric)
    if study.best is not None:
        value = formatting.number(study.best.value)
        return f"best: trial {study.best.number} with {metric} {value}"
    leading = _leading(study)
    if leading is None:
        return "best: no trial is complete yet"
    return (
        f"best: no trial is complete; the best so far is trial {leading.number} with {metric} "
        f"{formatting.number(leading.value)} at epoch {round(leading.epochs, 2):g}"
    )


def _leading(study: StudySnapshot) -> TrialResult | None:
    """Return the running or paused trial with the best metric so far."""
    known = [trial for trial in study.live if not math.isnan(trial.value)]
    best = max if study.mode == "max" else min
    return best(known, key=lambda trial: trial.value) if known else None


def _running_words(study: StudySnapshot) -> str:
    """Return the number of running and paused trials, and the best of them."""
    words = f"{study.counts['running']} running, {study.counts['paused']} paused"
    leading = _leading(study)
    if leading is None:
        return words
    return (
        f"{words}; the best so far is trial {leading.number}, {study.metric} "
        f"{formatting.number(leading.value)}, "
        f"{formatting.epochs_of(leading.epochs, study.max_epochs)} epochs"
    )


def _running(study: StudySnapshot, trials: Sequence[TrialResult], *, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=wide, padding=(0, 2, 0, 0))
    for heading in ("trial", "epoch", one_line(study.metric), "smallest rotation"):
        table.add_column(Text(heading), no_wrap=True, overflow="ellipsis")
    table.add_column("layer", no_wrap=True, overflow="ellipsis")
    if wide:
        table.add_column("parameters", no_wrap=True, overflow="ellipsis", ratio=1)
    for trial in trials:
        layer = formatting.lowest(trial)
        rotation = (
            f"{trial.rotation[layer]:.3f} {formatting.rotation_curve(trial, layer)}"
            if layer
            else "-"
        )
        table.add_row(
            str(trial.number),
            formatting.epochs_of(trial.epochs, study.max_epochs),
            Text(f"{formatting.number(trial.value):<8} {formatting.metric_curve(trial)}"),
            Text(rotation),
            Text(one_line(layer)),
            *([Text(formatting.params(trial))] if wide else []),
        )
    return table


def _ended(trial: EndedTrial, study: StudySnapshot) -> Text:
    line = Text(trial.state, style=_COLOURS[trial.state])
    line.append(f" {formatting.ended(trial, study)}")
    if trial.reason:
        line.append(f": {short_reason(trial.reason)}", style="dim")
    return line


def _print_plain(study: StudySnapshot, console: Console) -> None:
    """Print a snapshot without cutting any line."""
    text = io.StringIO()
    paper = Console(file=text, width=_PAPER, height=_PAPER, _environ={}, highlight=False)
    paper.print(view(study, _WIDE - 1, _PAPER))
    for line in text.getvalue().splitlines():
        console.print(Text(line.rstrip()), soft_wrap=True)
