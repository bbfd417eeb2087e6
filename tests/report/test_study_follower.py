"""What is seen of a study that another process runs: what is new, and nothing disturbed."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from tests.study.example_studies import make_study, report
from tuner.errors import InvalidInput
from tuner.report.formatting import curve
from tuner.report.study_follower import StudyFollower
from tuner.report.terminal import view, watch
from tuner.storage.lease import PAUSED
from tuner.study.folder import StudyFolder, open_for_writing
from tuner.study.load import opened

optuna.logging.set_verbosity(optuna.logging.ERROR)
SQUARES = "▁▂▃▄▅▆▇█"


@pytest.fixture(params=["journal", "database"])
def home(request, tmp_path) -> StudyFolder:
    """A study with a complete, a pruned, a failed and an interrupted trial."""
    url = f"sqlite:///{tmp_path}/study.db" if request.param == "database" else None
    return make_study(tmp_path / "studies", url=url)


@pytest.fixture
def following(home) -> Iterator[StudyFollower]:
    with opened("example", home.path.parent) as (study, path):
        yield StudyFollower(study, path)


def shown(seen, width: int = 80, height: int = 40) -> str:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, _environ={}
    )
    console.print(view(seen, width, height))
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())


class TestFollowing:
    def test_the_first_look_sees_everything(self, following):
        seen = following.poll()
        assert (seen.name, seen.metric, seen.mode, seen.max_epochs) == (
            "example",
            "val_accuracy",
            "max",
            4,
        )
        assert seen.counts == {
            "complete": 1,
            "pruned": 1,
            "failed": 1,
            "waiting": 1,
            "running": 0,
            "paused": 0,
        }
        assert (seen.best.number, seen.best.value) == (0, 0.4)
        assert (seen.epochs, seen.saved) == (6, 2)
        assert (seen.ended, seen.left, seen.finished) == (3, 1, False)
        assert [trial.number for trial in seen.recent] == [2, 1, 0]
        assert seen.recent[1].reason == "because it was pruned"

    def test_progress_grows_while_trials_are_paused(self, home, following):
        progress = []
        for _ in range(5):
            with home.locked(), open_for_writing(home, None) as storage:
                study = optuna.load_study(study_name="example", storage=storage)
                study.set_user_attr("num_trials", 40)
                trial = study.ask()
                report(trial, 3, 0.3)
                storage.set_trial_system_attr(trial._trial_id, PAUSED, True)
            progress.append(following.poll().progress)
        assert following.poll().ended == 3
        assert progress[0] > 0
        assert sorted(set(progress)) == progress
        assert progress[-1] < 1

    def test_later_looks_see_what_is_written_meanwhile(self, home, following):
        following.poll()
        with home.locked(), open_for_writing(home, None) as storage:
            study = optuna.load_study(study_name="example", storage=storage)
            interrupted, new = study.ask(), study.ask()
            new.suggest_float("lr", 0.1, 1.0)
            report(new, 1, 0.3)
            storage_flush(storage)
            seen = following.poll()
            assert seen.counts["running"] == 2
            # The one that has reported since the last look comes first.
            assert [trial.number for trial in seen.live] == [4, 3]
            assert seen.live[0].value == 0.3
            report(interrupted, 3, 0.9)
            storage_flush(storage)
            assert [trial.number for trial in following.poll().live] == [3, 4]
            assert [trial.number for trial in following.poll(rows=1).live] == [3]
            study.tell(interrupted, 0.9)
            study.tell(new, 0.3)
        seen = following.poll()
        assert seen.best.number == 3
        assert seen.finished
        assert seen.counts["complete"] == 3
        assert [trial.number for trial in seen.recent[:2]] == [4, 3]
        assert seen.live == ()

    def test_looking_writes_nothing(self, home, following):
        file = home.journal if home.journal.exists() else home.path.parent.parent / "study.db"
        before = file.read_bytes()
        following.poll()
        following.poll()
        assert file.read_bytes() == before

    def test_the_rate_is_that_of_the_last_trials(self, following):
        ends = [trial.datetime_complete for trial in following._study.trials[:3]]
        span = (ends[2] - ends[0]).total_seconds()
        assert following.poll().per_hour == pytest.approx(2 / span * 3600)


MINUTE = timedelta(minutes=1)


def make_whole_trials(folder: Path, begun: Sequence[datetime], paused: int) -> None:
    """Make a study of 10 with whole trials of 4 epochs in 4 minutes, begun then, and others that
    wait after one epoch."""
    home = StudyFolder(folder / "made")
    home.path.mkdir()
    with home.locked(), open_for_writing(home, None) as storage:
        study = optuna.create_study(storage=storage, study_name="made", direction="maximize")
        study.set_user_attr("num_trials", 10)
        study.set_user_attr("max_epochs", 4)
        for start in begun:
            whole = optuna.trial.create_trial(
                value=0.5,
                intermediate_values=dict.fromkeys(range(1, 5), 0.5),
                user_attrs={f"rotation:{epoch}": {"epoch_s": 60.0} for epoch in range(1, 5)},
            )
            whole.datetime_start, whole.datetime_complete = start, start + 4 * MINUTE
            study.add_trial(whole)
        for _ in range(paused):
            waits = study.ask()
            report(waits, 1, 0.25)
            waits.storage.set_trial_system_attr(waits._trial_id, PAUSED, True)


class TestForetelling:
    def test_trials_that_wait_are_not_taken_for_trials_to_come(self, tmp_path):
        now = datetime.now()
        make_whole_trials(tmp_path, [now - 8 * MINUTE, now - 4 * MINUTE], paused=8)
        with opened("made", tmp_path) as (study, path):
            seen = StudyFollower(study, path, now=now.timestamp).poll()
        assert (seen.counts["paused"], seen.counts["running"], seen.left) == (8, 0, 8)
        # 16 epochs in 8 minutes, 8 of them of those that wait: 3 more for the one that goes on.
        assert seen.eta_s == pytest.approx(3 * 8 * 60 / 16, rel=0.01)
        assert "8 left, about 1:30" in shown(seen)
        assert "8 paused" in shown(seen)

    def test_a_night_in_which_nobody_ran_it_does_not_count(self, tmp_path):
        now = datetime.now()
        begun = [now - 8 * MINUTE - timedelta(hours=9), now - 4 * MINUTE]
        make_whole_trials(tmp_path, begun, paused=0)
        with opened("made", tmp_path) as (study, path):
            seen = StudyFollower(study, path, now=now.timestamp).poll()
        # 8 whole trials at 8 epochs in 8 minutes, and the 8 minutes of a pause that may be seen.
        assert seen.eta_s == pytest.approx(8 * 4 * 16 * 60 / 8, rel=0.01)


def storage_flush(storage) -> None:
    getattr(storage, "_backend", storage).flush()


def test_how_long_nothing_was_written_is_counted_from_the_last_news(tmp_path):
    home = make_study(tmp_path)
    began = home.journal.stat().st_mtime
    now = began + 200
    with opened("example", tmp_path) as (study, path):
        following = StudyFollower(study, path, now=lambda: now)
        assert following.poll().quiet_s == pytest.approx(200)
        assert "nothing new for 3:20" in shown(following.poll())
        with home.locked(), open_for_writing(home, None) as storage:
            report(optuna.load_study(study_name="example", storage=storage).ask(), 3, 0.9)
        assert following.poll().quiet_s == 0
        now += 30
        assert following.poll().quiet_s == 30
        assert "nothing new" not in shown(following.poll())


class TestView:
    @pytest.mark.parametrize("width", [40, 80, 160])
    @pytest.mark.parametrize("height", [8, 24, 40])
    def test_it_fits_the_screen(self, tmp_path, width, height):
        home = StudyFolder(tmp_path / "many")
        home.path.mkdir()
        with home.locked(), open_for_writing(home, None) as storage:
            study = optuna.create_study(storage=storage, study_name="many", direction="maximize")
            study.set_user_attr("num_trials", 100)
            study.set_user_attr("max_epochs", 4)
            trials = [study.ask() for _ in range(60)]
            for trial in trials:
                trial.suggest_float("a_parameter_with_a_very_long_name", 0.1, 1.0)
                report(trial, 1, 0.123456789)
            for trial in trials[:30]:
                trial.set_user_attr("reason", "a long reason, " * 20)
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        with opened("many", tmp_path) as (study, path):
            text = shown(StudyFollower(study, path).poll(), width, height)
        lines = text.splitlines()
        assert max(map(len, lines)) <= width
        assert len(lines) <= max(height, 10)
        assert "30 running" in text

    def test_hostile_texts_are_shown_as_they_are_and_move_nothing(self, tmp_path):
        home = make_study(tmp_path, name="[red]x[bold]")
        evil = "\x1b[2J[bold]reason[/bold]\r\nsecond \u202eline\x07"
        with home.locked(), open_for_writing(home, None) as storage:
            study = optuna.load_study(study_name=home.name, storage=storage)
            study.set_user_attr("metric", "\x1b[31mm[b]")
            trial = study.ask()
            trial.set_user_attr("reason", evil)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        with opened(home.name, tmp_path) as (study, path):
            text = shown(StudyFollower(study, path).poll(), 160)
        assert "[red]x[bold]" in text
        assert "[2J[bold]reason[/bold] second line" in text
        assert "[31mm[b]" in text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", text)

    @pytest.mark.parametrize(
        ("values", "bars"),
        [
            ([], ""),
            ([0.0, 1.0], "▁█"),
            ([math.nan, 0.0, math.nan, 1.0], "▁█"),
            ([0.5, 2.0, -1.0], "▅█▁"),
            ([at / 63 for at in range(64)], SQUARES),
        ],
    )
    def test_a_small_curve_is_read_from_low_to_high(self, values, bars):
        assert curve(values, 0, 1) == bars

    def test_a_curve_that_does_not_vary_is_flat(self):
        assert curve([0.3, 0.3], 0.3, 0.3) == "▁▁"


def test_off_a_terminal_one_look_is_printed_whole(tmp_path):
    make_study(tmp_path)
    file = io.StringIO()
    watch("example", tmp_path, Console(file=file, width=20, _environ={}))
    lines = file.getvalue().splitlines()
    assert lines[0].split() == ["example", "━" * 15, "3/4", "trials", *lines[0].split()[4:]]
    assert re.fullmatch(r"1 complete, 1 pruned, 1 failed, 1 waiting   elapsed \d:\d\d", lines[1])
    assert lines[2] == "pruning saved 2 of 8 epochs (25%)"
    assert lines[3] == "best: trial 0 with val_accuracy 0.4"
    assert "    1 pruned 0.21, 2/4 epochs: because it was pruned" in lines


def test_a_study_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="nowhere"):
        watch("nowhere", tmp_path, Console(file=io.StringIO()))
