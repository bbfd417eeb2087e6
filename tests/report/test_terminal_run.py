"""The view of a study while it runs: its lines off a terminal, and the time left that it shows."""

from __future__ import annotations

import io
import re
from datetime import datetime

import optuna
import pytest
from rich.console import Console

from tests.engine.curve_trials import report_at, space
from tuner.api import ShownProgress
from tuner.engine.trial_manager import TrialManager
from tuner.report.study_follower import StudyFollower
from tuner.report.terminal import LiveView
from tuner.rotation import Action
from tuner.storage.lease import PAUSED
from tuner.study.load import NUM_TRIALS, read_result
from tuner.study.pruners import MAX_EPOCHS, METRIC, make_pruner

TRIALS, EPOCHS = 48, 12
EPOCH_S = 3600.0  # so that what is shown in whole seconds is exact
QUARTERS = [epoch / 4 for epoch in range(1, 4 * EPOCHS + 1)]


class Recording(ShownProgress):
    """Also records which trials the engine says are paused."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.now_paused: set[int] = set()

    def started(self, number, params):
        self.now_paused.discard(number)

    def paused(self, number, epochs):
        self.now_paused.add(number)

    def finished(self, number, *how):
        self.now_paused.discard(number)
        super().finished(number, *how)


class Run:
    """A study that is run one trial at a time, by a clock of its own, and its live view."""

    def __init__(self, monkeypatch):
        self.now = self.began = datetime(2026, 1, 1).timestamp()
        clock = type("Clock", (datetime,), {"now": lambda: datetime.fromtimestamp(self.now)})
        monkeypatch.setattr("optuna.storages._in_memory.datetime", clock)
        self.shown: list[str] = []
        self.epochs: dict[int, float] = {}
        self.ever_paused: set[int] = set()
        study = optuna.create_study(
            study_name="study",
            direction="maximize",
            pruner=make_pruner("rotation", None, EPOCHS, 0),
        )
        for key, value in {METRIC: "score", NUM_TRIALS: TRIALS, MAX_EPOCHS: EPOCHS}.items():
            study.set_user_attr(key, value)
        self.text = io.StringIO()
        self.progress = Recording(Console(file=self.text, width=40, highlight=False))
        self.console = Console(file=io.StringIO(), width=120, height=8)
        self.view = LiveView(StudyFollower(study, None, now=lambda: self.now), self.console)
        self.manager = TrialManager(
            study,
            space,
            metric="score",
            num_trials=TRIALS,
            max_epochs=EPOCHS,
            observer=self.progress,
            may_pause=True,
        )
        self.progress.opened(study, None)
        self.progress.begun(read_result(study, None))

    @property
    def marked(self) -> set[int]:
        """The trials of which the study says that they are paused."""
        live = [trial for trial in self.manager.study.trials if not trial.state.is_finished()]
        return {trial.number for trial in live if trial.system_attrs.get(PAUSED)}

    def run_one(self) -> bool:
        """Run a trial until it ends or pauses; return whether there was one."""
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
            result["epoch_s"] = EPOCH_S / 4
            self.now += EPOCH_S / 4
            self.epochs[number] = epoch
            decision = self.manager.report(number, result)
            with self.console.capture() as shown:
                self.console.print(self.view.draw())
            self.shown.append(shown.get())
            if decision.action is not Action.CONTINUE:
                self.manager.finish(number, result)
                return True
        raise AssertionError("a whole trial stops at its end")


@pytest.fixture
def run(monkeypatch):
    return Run(monkeypatch)


@pytest.fixture(scope="module")
def ended():
    """A run whose trials have all ended."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        run = Run(monkeypatch)
        while run.run_one():
            run.view.draw()
            assert run.marked == run.progress.now_paused
            assert run.view.snapshot.counts["paused"] == len(run.marked)
            run.ever_paused |= run.marked
        yield run


def seconds(shown: str, what: str) -> float | None:
    found = re.search(rf"{what} (?:(\d+):)?(\d+):(\d\d)\b", shown)
    return found and int(found[1] or 0) * 3600 + int(found[2]) * 60 + int(found[3])


def test_the_time_left_is_that_of_trials_that_will_run_and_not_of_paused_ones(ended):
    trials = ended.manager.study.trials
    assert len(trials) == TRIALS
    assert sum(trial.state.name == "PRUNED" for trial in trials) > TRIALS / 2
    assert seconds(ended.shown[0], "about") is None
    whole = ended.now - ended.began
    for share in (0.25, 0.5, 0.75):
        shown = ended.shown[round(share * len(ended.shown))]
        left = whole - seconds(shown, "elapsed")
        assert left / 3 < seconds(shown, "about") < 3 * left, share
    assert seconds(ended.shown[-1], "about") < 0.2 * whole


def test_the_study_and_the_view_say_which_trials_are_paused_as_long_as_they_are(ended):
    on = {number for number in ended.ever_paused if ended.epochs[number] == EPOCHS}
    assert on, "some that paused went on to their end"
    trials = ended.manager.study.trials
    assert not any(trials[number].system_attrs[PAUSED] for number in on)


def test_off_a_terminal_there_is_a_line_for_each_trial_that_ended(ended):
    first, *lines = ended.text.getvalue().splitlines()
    assert first == f"study study: 0/{TRIALS} trials, maximising score"
    lines = [each for each in lines if "trials ended" not in each]
    assert len(lines) == TRIALS
    line = re.compile(
        rf"(\d+)/{TRIALS} trial (\d+) (complete|pruned), score -?[\d.e-]+, "
        rf"([\d.]+)/{EPOCHS} epochs, ([\d.]+) s(: .+)?"
    )
    found = [line.fullmatch(each) for each in lines]
    assert all(found), lines
    assert [int(each[1]) for each in found] == list(range(1, TRIALS + 1))
    for each in found:
        assert float(each[5]) == pytest.approx(float(each[4]) * EPOCH_S)
        assert bool(each[6]) == (each[3] == "pruned")


def test_a_line_says_that_the_run_is_alive_when_no_trial_has_ended_for_a_while(run, monkeypatch):
    monkeypatch.setattr("tuner.report.terminal._LINE_EVERY_S", 0.0)
    run.run_one()
    alive = [line for line in run.text.getvalue().splitlines() if "trials ended" in line]
    assert alive[0] == f"0/{TRIALS} trials ended; 1 running, 0 paused"
    while not (leading := [line for line in alive if "best so far" in line]):
        run.run_one()
        alive = run.text.getvalue().splitlines()
    assert re.fullmatch(
        rf"0/{TRIALS} trials ended; 1 running, \d+ paused; "
        rf"the best so far is trial \d+, score -?[\d.]+, [\d.]+/{EPOCHS} epochs",
        leading[0],
    ), leading[0]
