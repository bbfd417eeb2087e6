"""The report on screens narrow and wide, and in a file: nothing lost, nothing taken for markup."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.study.example_studies import study_result, trial_result
from tuner.errors import InvalidInput
from tuner.report import print_outcome, print_report
from tuner.study.result import StudyResult

REASON = "peers: 9th of 9 at epoch 3; the best 3 go on. Compared by val_accuracy and rotation."
SHORT = "9th of 9 at epoch 3; the best 3 go on"
TRIALS = (
    trial_result(0, "complete", 0.512345, params={"learning_rate": 0.123456, "layers": 3}),
    trial_result(1, "pruned", 0.25, epochs=3, reason=REASON),
    trial_result(2, "running", epochs=0, seconds=0),
    trial_result(3, "failed", 0.1, reason="ValueError: it broke"),
)


def shown(result: StudyResult, width: int | None, terminal: bool = True, **how) -> str:
    """Return what is printed to a screen of that width, or to a file."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=terminal,
        color_system=None if terminal else "auto",
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    print_report(result, console, **how)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words(text: str) -> str:
    """Return the text with every run of blanks and line breaks as one blank."""
    return " ".join(text.split())


FILE_WIDTHS = pytest.mark.parametrize("width", [None, 80, 10_000])


class TestInAFile:
    @FILE_WIDTHS
    def test_there_is_one_line_per_trial_with_the_short_reason(self, width):
        lines = [line.strip() for line in shown(study_result(*TRIALS), width, False).splitlines()]
        lines = [line for line in lines if line.strip("─ ")]
        assert lines[0].startswith("example: 4 trials (1 complete, 1 pruned, 1 failed, 1 running)")
        assert lines[0].endswith("epochs (60%)")
        assert lines[1].startswith(
            "it is not known yet whether rotation ranks the trials of this study (weight 0.20"
        )
        assert words(lines[2]) == (
            "rank trial state val_accuracy rotation min (layer) mean epochs seconds "
            "parameters reason"
        )
        assert [words(line) for line in lines[3:7]] == [
            "1 0 complete 0.5123 0.050 (first) 0.075 5/10 1.5 learning_rate=0.1235 layers=3",
            "2 2 running - - - 0/10 0.0 lr=0.3",
            f"3 1 pruned 0.25 0.030 (first) 0.045 3/10 1.5 lr=0.2 {SHORT}",
            "4 3 failed 0.1 0.050 (first) 0.075 5/10 1.5 lr=0.4 ValueError: it broke",
        ]

    @FILE_WIDTHS
    def test_there_are_no_colours_and_no_blanks_at_the_end(self, width):
        text = shown(study_result(*TRIALS), width, False)
        assert "\x1b" not in text
        assert "…" not in text
        assert not [line for line in text.splitlines() if line != line.rstrip()]

    def test_below_it_are_the_best_trial_and_the_command_for_one_trial(self):
        lines = shown(study_result(*TRIALS), None, False, name="a b", folder="my studies")
        assert lines.splitlines()[-2:] == [
            "everything about a trial: quarterturn report 'a b' --folder 'my studies' --trial N",
            "best: trial 0 with val_accuracy 0.5123 (larger is better)",
        ]

    def test_a_reason_of_several_lines_is_still_one(self):
        trials = (trial_result(0, "failed", 0.5, reason="one\n  two\nthree"),)
        (row,) = [
            line
            for line in shown(study_result(*trials), 10_000, False).splitlines()
            if "failed " in line and "example:" not in line
        ]
        assert "one two three" in words(row)
        assert "three" not in shown(study_result(*trials), 10_000, False).replace(row, "")


class TestOnANarrowScreen:
    def test_every_line_of_the_table_fits(self):
        text = shown(study_result(*TRIALS), 80)
        table, _, _ = text.partition("everything about a trial")
        assert max(len(line) for line in table.splitlines()) <= 80
        assert "…" not in text
        assert SHORT in text
        assert "ValueError: it broke" in text
        assert "learning_rate=0.1235 layers=3" in words(text)

    def test_parameters_and_reason_follow_the_figures_under_the_rank(self):
        lines = [words(line) for line in shown(study_result(*TRIALS), 80).splitlines()]
        assert "3 1 pruned 0.25 0.030 0.045 3/10 1.5" in lines
        assert lines.index("4 3 failed 0.1 0.050 0.075 5/10 1.5") < lines.index("3 lr=0.2")
        assert lines[lines.index("4 lr=0.4") + 1] == "ValueError: it broke"


class TestOnAWideScreen:
    def test_everything_is_in_one_table(self):
        lines = [words(line) for line in shown(study_result(*TRIALS), 200).splitlines()]
        assert (
            "1 0 complete 0.5123 0.050 (first) 0.075 5/10 1.5 learning_rate=0.1235 layers=3"
        ) in lines
        assert "4 3 failed 0.1 0.050 (first) 0.075 5/10 1.5 lr=0.4 ValueError: it broke" in lines

    def test_the_whole_reason_is_not_in_the_table(self):
        text = shown(study_result(*TRIALS), 200)
        assert SHORT in text
        assert "Compared by" not in text

    def test_states_are_coloured(self):
        console = Console(
            file=io.StringIO(), width=200, force_terminal=True, color_system="standard", _environ={}
        )
        print_report(study_result(*TRIALS), console)
        assert isinstance(console.file, io.StringIO)
        assert "\x1b[32mcomplete" in console.file.getvalue()
        assert "\x1b[31mfailed" in console.file.getvalue()


EVERYWHERE = pytest.mark.parametrize(
    ("width", "terminal"), [(80, True), (200, True), (10_000, False)], ids=str
)


@EVERYWHERE
@pytest.mark.parametrize("hostile", ["[red]x[/]", "[/]", "[/nope]", "[bold]", "a[val]", ":smile:"])
def test_what_looks_like_markup_is_printed_as_it_is(width, terminal, hostile):
    trial = trial_result(
        0, "failed", 0.5, params={f"p{hostile}": f"v{hostile}"}, reason=f"r{hostile}"
    )
    curve = type(trial.curve)(layers=(f"l{hostile}",), max_epochs=10)
    curve = curve.append(1, {f"l{hostile}": 0.5})
    trial = trial_result(
        0, "failed", 0.5, params=trial.params, reason=trial.reason, curve=curve, epochs=1
    )
    text = shown(study_result(trial, name=f"n{hostile}", metric=f"m{hostile}"), width, terminal)
    assert f"n{hostile}: 1 trials" in text
    assert f"m{hostile}" in text
    assert f"p{hostile}=v{hostile}" in text
    assert f"r{hostile}" in text
    assert (f"(l{hostile})" in text) == (width > 150)


@EVERYWHERE
def test_an_empty_study_is_its_headline_alone(width, terminal):
    assert words(shown(study_result(), width, terminal)).startswith("example: 0 trials (none yet)")
    assert len(shown(study_result(), width, terminal).splitlines()) == 1


@EVERYWHERE
def test_it_is_sorted_and_cut_as_asked(width, terminal):
    text = shown(study_result(*TRIALS), width, terminal, sort="lr", top=1)
    assert "pruned " in text
    assert "complete " not in text.partition("\n")[2]


def test_an_unknown_column_is_refused():
    with pytest.raises(InvalidInput, match="unknown column to sort by 'speed'"):
        shown(study_result(*TRIALS), 80, sort="speed")


class TestOutcome:
    def outcome(self, result: StudyResult, folder: Path, width: int = 80) -> str:
        console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        print_outcome(result, console, folder)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    def test_it_ends_with_the_best_trial_its_checkpoint_and_where_things_are(self, tmp_path):
        checkpoint = str(tmp_path / "trials" / "trial_0" / "checkpoint")
        best = trial_result(7, "complete", 0.75, checkpoint=checkpoint)
        text = self.outcome(study_result(best, *TRIALS), tmp_path)
        # Not wrapped, so that it can be copied.
        assert text.splitlines()[-4:] == [
            "best: trial 7 with val_accuracy 0.75 (larger is better)",
            f"its checkpoint: {checkpoint}",
            "in Python: import tuner; weights = tuner.load_study('example').best.weights()",
            f"files: {tmp_path}",
        ]

    def test_its_commands_name_the_folder_that_is_not_the_default(self, tmp_path):
        checkpoint = str(tmp_path / "checkpoint")
        result = study_result(trial_result(7, "complete", 0.75, checkpoint=checkpoint))
        console = Console(file=io.StringIO(), width=80, color_system=None)
        print_outcome(result, console, tmp_path, studies="my studies")
        assert isinstance(console.file, io.StringIO)
        call = "tuner.load_study('example', folder='my studies').best.weights()"
        assert f"in Python: import tuner; weights = {call}" in console.file.getvalue()

    def test_without_a_complete_trial_there_is_no_best_one(self, tmp_path):
        text = self.outcome(study_result(*TRIALS[1:]), tmp_path)
        assert "best:" not in text
        assert text.splitlines()[-1] == f"files: {tmp_path}"

    def test_without_a_checkpoint_none_is_named(self, tmp_path):
        text = self.outcome(study_result(*TRIALS), tmp_path)
        assert text.splitlines()[-2:] == [
            "best: trial 0 with val_accuracy 0.5123 (larger is better)",
            f"files: {tmp_path}",
        ]

    @pytest.mark.parametrize(("number", "more"), [(20, ""), (21, "1 more"), (50, "30 more")])
    def test_it_shows_twenty_trials_and_says_how_to_see_the_rest(self, number, more, tmp_path):
        trials = [trial_result(i, "complete", i / 100) for i in range(number)]
        lines = self.outcome(study_result(*trials), tmp_path, 200).splitlines()
        assert sum(" complete " in line for line in lines) == 20
        said = [line for line in lines if "more:" in line]
        assert said == ([f"{more}: quarterturn report example"] if more else [])

    def test_a_relative_folder_is_shown_whole(self):
        text = self.outcome(study_result(), Path("studies/example"))
        assert text.splitlines()[-1] == f"files: {Path.cwd()}/studies/example"
