"""What the live view foretells while a study runs, and who is known to wait meanwhile."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import optuna
import pytest
from curve_trials import report_at, space
from rich.console import Console

from tuner.engine import progress
from tuner.engine.trial_manager import TrialManager
from tuner.rotation import Action
from tuner.storage.lease import PAUSED
from tuner.study.load import read_result
from tuner.study.pruners import make_pruner

TRIALS, EPOCHS = 48, 12
EPOCH_S = 3600.0  # so that what is shown in whole seconds is exact
QUARTERS = [epoch / 4 for epoch in range(1, 4 * EPOCHS + 1)]


class Run:
    """A study that is run one trial at a time, by a clock of its own, and its live view."""

    def __init__(self, job, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.shown: list[str] = []
        self.epochs: dict[int, float] = {}
        study = optuna.create_study(
            direction="maximize", pruner=make_pruner("rotation", None, EPOCHS, 0)
        )
        self.progress = progress.Progress(job, Console(file=io.StringIO(), width=120))
        self.manager = TrialManager(
            study,
            space,
            metric="score",
            num_trials=TRIALS,
            max_epochs=EPOCHS,
            observer=self.progress,
            may_pause=True,
        )
        self.progress.begun(read_result(study, None))

    @property
    def marked(self) -> set[int]:
        """The trials of which the study says that they are paused."""
        live = [trial for trial in self.manager.study.trials if not trial.state.is_finished()]
        return {trial.number for trial in live if trial.system_attrs.get(PAUSED)}

    def run_one(self) -> bool:
        """Run a trial until it ends or waits; return whether there was one."""
        suggestion = self.manager.ask()
        if suggestion is None:
            return False
        number = suggestion.number
        for epoch in QUARTERS:
            if epoch <= self.epochs.get(number, 0.0):
                continue
            result = report_at(epoch, {**suggestion.config, "max_epochs": EPOCHS})
            if not epoch.is_integer():
                del result["epoch"], result["score"]
            self.now += EPOCH_S / 4
            self.epochs[number] = epoch
            decision = self.manager.report(number, result)
            console = Console(file=io.StringIO(), width=120)
            console.print(self.progress._view())
            self.shown.append(console.file.getvalue())
            if decision.action is not Action.CONTINUE:
                self.manager.finish(number, result)
                return True
        raise AssertionError("a whole trial stops at its end")


@pytest.fixture
def run(make_job, monkeypatch):
    return Run(make_job(num_trials=TRIALS, max_epochs=EPOCHS), monkeypatch)


def seconds(shown: str, what: str) -> float | None:
    found = re.search(rf"{what} (?:(\d+):)?(\d+):(\d\d)\b", shown)
    return found and int(found[1] or 0) * 3600 + int(found[2]) * 60 + int(found[3])


def test_the_end_is_foretold_by_what_will_run_and_not_by_who_waits(run):
    while run.run_one():
        pass
    trials = run.manager.study.trials
    assert len(trials) == TRIALS
    assert sum(trial.state.name == "PRUNED" for trial in trials) > TRIALS / 2
    assert "ETA -" in run.shown[0]
    for share in (0.25, 0.5, 0.75):
        shown = run.shown[round(share * len(run.shown))]
        left = run.now - seconds(shown, "elapsed")
        assert left / 3 < seconds(shown, "ETA") < 3 * left, share
    assert seconds(run.shown[-1], "ETA") < 0.2 * run.now


def test_the_study_says_which_trials_wait_as_long_as_they_do(run):
    ever = set()
    while run.run_one():
        assert run.marked == set(run.progress._paused)
        ever |= run.marked
    on = {number for number in ever if run.epochs[number] == EPOCHS}
    assert on, "some that waited went on to their end"
    assert not any(run.manager.study.trials[number].system_attrs[PAUSED] for number in on)
