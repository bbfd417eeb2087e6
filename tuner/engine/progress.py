"""What a person sees while a job runs: one live view, or a line per finished trial."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.engine.callbacks import RunCallback
from tuner.job import TuningJob
from tuner.rotation import EpochReport
from tuner.study.result import State, StudyResult, TrialResult, epochs_to_come

# Where nothing is redrawn, a line this often says that the job is alive.
_LINE_EVERY_S = 30.0

_COLOURS: dict[State, str] = {"complete": "green", "pruned": "yellow", "failed": "red"}


class Progress(RunCallback):
    """Shows a job's progress on a terminal; elsewhere it prints a line per finished trial.

    Args:
        job: the job that runs.
        console: where to; standard output by default.
    """

    def __init__(self, job: TuningJob, console: Console | None = None) -> None:
        self._job = job
        self._console = console or Console(highlight=False, emoji=False)
        self._begun = time.monotonic()
        self._states: Counter[State] = Counter()
        self._running: dict[int, _Running] = {}
        self._paused: dict[int, _Running] = {}
        self._before = 0  # trials that had ended when this run began
        self._best: tuple[float, int] | None = None
        self._reached: list[float] = []  # epochs of those that have ended
        self._trained_before = 0.0  # epochs of all when this run began
        self._saved_epochs = 0.0
        self._saved_s = 0.0
        self._last = ""
        self._line_at = time.monotonic()
        self._live = Live(
            get_renderable=self._view, console=self._console, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
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

    def begun(self, so_far: StudyResult) -> None:
        for trial in so_far.trials:
            if trial.state == "running":
                self._paused[trial.number] = _Running.from_before(trial)
            else:
                self._count(trial.number, trial.state, trial.value, trial.epochs, trial.seconds)
        self._before = sum(self._states.values())
        self._trained_before = self._trained
        if not self._console.is_terminal:
            self._console.print(
                escape(f"study {self._job.name}: {self._before}/{self._job.num_trials} trials"),
                soft_wrap=True,
            )

    def noted(self, line: str) -> None:
        self._console.print(escape(line), soft_wrap=True)

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        self._running[number] = self._paused.pop(number, _Running(params))

    def reported(self, number: int, report: EpochReport) -> None:
        self._running[number].update(report)
        if not self._console.is_terminal and time.monotonic() - self._line_at > _LINE_EVERY_S:
            self._print_line(f"trials ended; {self._now()}")

    def paused(self, number: int, epochs: float) -> None:
        self._paused[number] = self._running.pop(number)

    def finished(self, number: int, state: State, value: float, epochs: float, reason: str) -> None:
        # One whose parameters could not be drawn ends without a start.
        trial = (self._running if number in self._running else self._paused).pop(
            number, _Running({})
        )
        self._count(number, state, value, epochs, trial.seconds)
        spent = f"{round(epochs, 2):g}/{self._job.max_epochs} epochs, {trial.seconds:.1f} s"
        why = f": {reason}" if reason else ""
        line = f"trial {number} {state}, {self._job.metric} {_number(value)}, {spent}{why}"
        self._last = line
        if not self._console.is_terminal:
            self._print_line(line)

    def _now(self) -> str:
        """What goes on, in words: how many trials run and wait, and which is ahead."""
        live = {**self._running, **self._paused}
        sign = 1 if self._job.mode == "max" else -1
        known = {
            number: sign * trial.value
            for number, trial in live.items()
            if not math.isnan(trial.value)
        }
        words = f"{len(self._running)} running, {len(self._paused)} paused"
        if not known:
            return words
        ahead = max(known, key=known.__getitem__)
        value, epoch = live[ahead].value, live[ahead].epoch
        return (
            f"{words}; ahead of them trial {ahead}, {self._job.metric} {_number(value)}, "
            f"{round(epoch, 2):g}/{self._job.max_epochs} epochs"
        )

    def _print_line(self, line: str) -> None:
        self._line_at = time.monotonic()
        done = sum(self._states.values())
        self._console.print(escape(f"{done}/{self._job.num_trials} {line}"), soft_wrap=True)

    def _count(
        self, number: int, state: State, value: float, epochs: float, seconds: float
    ) -> None:
        self._states[state] += 1
        self._reached.append(epochs)
        if state == "pruned":
            left = self._job.max_epochs - epochs
            self._saved_epochs += left
            self._saved_s += left * (seconds / epochs if epochs else 0.0)
        if state == "complete" and self._leads(value):
            self._best = (value, number)

    def _leads(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self._best is None:
            return True
        return value > self._best[0] if self._job.mode == "max" else value < self._best[0]

    def _view(self) -> RenderableType:
        done = sum(self._states.values())
        elapsed = time.monotonic() - self._begun
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(self._job.name, style="bold"),
            ProgressBar(total=self._job.num_trials, completed=done, width=24),
            f"{done}/{self._job.num_trials} trials",
            f"elapsed {_duration(elapsed)}",
            f"ETA {self._eta(elapsed)}",
        )
        counts = ", ".join(
            [f"{len(self._running)} running", f"{len(self._paused)} paused"]
            + [f"[{colour}]{self._states[state]} {state}[/]" for state, colour in _COLOURS.items()]
        )
        best = f"{_number(self._best[0])} (trial {self._best[1]})" if self._best else "-"
        whole = math.fsum(self._reached) + self._saved_epochs
        share = self._saved_epochs / whole if whole else 0.0
        lines: list[RenderableType] = [
            head,
            f"{counts}   best {escape(self._job.metric)} {best}",
            f"pruning saved {round(self._saved_epochs, 2):g} of {round(whole, 2):g} epochs "
            f"({share:.0%}), about {_duration(self._saved_s)}",
            self._trials(),
        ]
        if self._last:
            lines.append(Text(self._last, style="dim", overflow="ellipsis", no_wrap=True))
        return Group(*lines)

    @property
    def _trained(self) -> float:
        """The epochs of all trials."""
        live = (*self._running.values(), *self._paused.values())
        return math.fsum([*self._reached, *(trial.epoch for trial in live)])

    def _eta(self, elapsed: float) -> str:
        """How long it takes still, once a trial has ended here, at the rate of epochs so far."""
        trained = self._trained - self._trained_before
        if sum(self._states.values()) == self._before or not trained:
            return "-"
        made = len(self._reached) + len(self._running) + len(self._paused)
        to_come = epochs_to_come(
            ended=self._reached,
            running=[trial.epoch for trial in self._running.values()],
            waiting=[trial.epoch for trial in self._paused.values()],
            new=max(0, self._job.num_trials - made),
            max_epochs=self._job.max_epochs,
        )
        return _duration(to_come * elapsed / trained)

    def _trials(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
        for column in ("trial", "epoch", self._job.metric, "rotation min / mean"):
            table.add_column(escape(column), no_wrap=True, min_width=len(column))
        table.add_column("parameters", no_wrap=True, overflow="ellipsis", ratio=1)
        for number, trial in sorted(self._running.items()):
            table.add_row(
                str(number),
                f"{round(trial.epoch, 2):g}/{self._job.max_epochs}",
                _number(trial.value),
                f"{trial.rotation_min:.3f} / {trial.rotation_mean:.3f}".replace("nan", "-"),
                escape(", ".join(f"{k}={_number(v)}" for k, v in trial.params.items())),
            )
        return table


class _Running:
    """What the view shows of one trial that has not ended."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.epoch = 0.0
        self.seconds = 0.0
        self.value = self.rotation_min = self.rotation_mean = math.nan

    @classmethod
    def from_before(cls, trial: TrialResult) -> Self:
        """Return the view of a trial that goes on where an earlier process left it."""
        shown = cls(trial.setting)
        shown.epoch, shown.seconds, shown.value = trial.epochs, trial.seconds, trial.value
        return shown

    def update(self, report: EpochReport) -> None:
        self.epoch = report.epoch
        self.seconds += 0.0 if math.isnan(report.epoch_s) else report.epoch_s
        self.value = self.value if report.metric is None else report.metric
        self.rotation_min = report.numbers.get("rotation_min", self.rotation_min)
        self.rotation_mean = report.numbers.get("rotation_mean", self.rotation_mean)


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
