"""A study is judged by its own rotation target, wherever it is read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import optuna
import pytest
from rich.console import Console

from tests.report.advice_studies import LAYERS, LR, rates, starting, steady, study, trial
from tests.study.pruned_studies import EPOCHS, optimized, pruner_of
from tuner.replay.compare import replay
from tuner.replay.recording import read_recording, write_recording
from tuner.report import print_report, to_html, to_json
from tuner.report.advice import advice
from tuner.report.charts import all_charts
from tuner.report.evidence import rotation_worth
from tuner.rotation import RotationTarget
from tuner.study.load import load_study, read_result
from tuner.study.result import StudyResult

SIX = RotationTarget(0.6)
# The first hidden layer need turn but little; nothing is asked of the second.
BY_PATTERN = RotationTarget(0.6, patterns={"hidden1.*": 0.1, "hidden2.*": None})


def turning(low: float, high: float, target: RotationTarget | None = None) -> StudyResult:
    """Return a study whose layers turn the further the higher the rate, and whose metric follows.

    The hidden layers end at `low` at the lowest rate and at `high` at the highest.
    """
    lrs = rates(12, 0.01, 0.1)
    ends = [low + (high - low) * at / 11 for at in range(12)]
    trials = [
        trial(number, {"lr": lr}, 0.3 + end / 2, steady(end))
        for number, (lr, end) in enumerate(zip(lrs, ends, strict=True))
    ]
    result = study(trials, {"lr": LR})
    return result if target is None else replace(result, rotation_target=target)


def printed(result: StudyResult) -> str:
    console = Console(width=200, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as said:
        print_report(result, console)
    return said.get()


def data_of(result: StudyResult, kind: str) -> list[dict[str, Any]]:
    """Return the rows that a chart is drawn of."""
    (rows,) = all_charts(result)[kind].page_spec()["datasets"].values()
    return list(rows)


def bars_drawn(result: StudyResult) -> dict[str, float]:
    """Return where the dotted line of each layer is in the chart of rotation."""
    return {row["layer"]: row["bar"] for row in data_of(result, "rotation") if "bar" in row}


def verdicts(result: StudyResult) -> dict[str, set[str]]:
    """Return how the layers of all trials turned, by layer, as the map of layers has it."""
    found: dict[str, set[str]] = {}
    for cell in data_of(result, "layers"):
        found.setdefault(cell["layer"], set()).add(cell["verdict"])
    return found


class TestReport:
    def test_the_json_holds_the_target(self):
        shown = json.loads(to_json(turning(0.2, 0.6, BY_PATTERN)))["rotation_target"]
        assert shown["distance"] == 0.6
        assert shown["patterns"] == [["hidden1.*", 0.1], ["hidden2.*", None]]
        assert RotationTarget.from_dict(shown) == BY_PATTERN

    def test_the_table_names_a_target_that_is_not_the_default(self):
        said = printed(turning(0.2, 0.6, BY_PATTERN))
        assert (
            "target: hidden layers should reach 0.6, and 0.5 is enough; the first layer and the "
            "last have no target, each layer named hidden1.* should reach 0.1, each layer named "
            "hidden2.* has no target\n"
        ) in said
        assert "target:" not in printed(turning(0.2, 0.6))

    def test_the_page_says_the_target_and_draws_it(self):
        page = to_html(turning(0.2, 0.6, SIX))
        assert "Hidden layers should reach 0.6, and 0.5 is enough; the first layer" in page
        assert '"target":0.6' in page
        assert "The dotted line is the target, 0.6 in hidden layers." in page
        page = to_html(turning(0.2, 0.6))
        assert "Hidden layers should reach a quarter turn, and 0.9 is enough; " in page
        assert '"target":1' in page


class TestCharts:
    def test_the_dotted_line_is_what_each_layer_should_reach(self):
        hidden = LAYERS[1:-1]
        assert bars_drawn(turning(0.2, 0.6)) == dict.fromkeys(hidden, 1.0)
        assert bars_drawn(turning(0.2, 0.6, SIX)) == dict.fromkeys(hidden, 0.6)
        by_pattern = {"hidden1.weight": 0.1, "hidden3.weight": 0.6}
        assert bars_drawn(turning(0.2, 0.6, BY_PATTERN)) == by_pattern

    def test_the_findings_name_the_target(self):
        result = turning(0.2, 0.6, SIX)
        drawn = all_charts(result)
        assert drawn["rotation"].title.endswith("hidden layers ended at 0.60; the target is 0.6")
        assert "Enough is 0.5 or more in hidden layers; " in drawn["layers"].caption
        drawn = all_charts(turning(0.2, 0.6))
        assert drawn["rotation"].title.endswith("ended at 0.60; 1 is a quarter turn")
        assert "Enough is 0.9 or more in hidden layers; " in drawn["layers"].caption

    def test_the_map_of_layers_judges_by_the_target(self):
        enough, little, free = {"enough"}, {"too little"}, {"no target"}
        ends = {"stem.weight": free, "head.weight": free}
        hidden = LAYERS[1:-1]
        assert verdicts(turning(0.55, 0.7)) == {**dict.fromkeys(hidden, little), **ends}
        assert verdicts(turning(0.55, 0.7, SIX)) == {**dict.fromkeys(hidden, enough), **ends}
        assert verdicts(turning(0.2, 0.4, BY_PATTERN)) == {
            "hidden1.weight": enough,
            "hidden2.weight": free,
            "hidden3.weight": little,
            **ends,
        }

    def test_the_chart_of_the_metric_leaves_out_layers_with_a_bar_of_their_own(self):
        slow = [steady(0.9, 0.1, 0.1, 0.5, 0.9)] * 12
        trials = [trial(at, {"lr": 0.01}, 0.5, turn) for at, turn in enumerate(slow)]
        result = replace(study(trials, {"lr": LR}), rotation_target=BY_PATTERN)
        assert {row["turned"] for row in data_of(result, "metric")} == {0.5}


class TestAdvice:
    title = "turn the layers further"

    def test_layers_that_reach_the_target_need_not_turn_further(self):
        assert starting(advice(turning(0.2, 0.6)), self.title)
        assert not starting(advice(turning(0.2, 0.6, SIX)), self.title)

    def test_layers_that_fall_short_are_to_reach_the_target_and_not_more(self):
        (piece,) = starting(advice(turning(0.1, 0.4, SIX)), self.title)
        (further,) = starting(advice(turning(0.1, 0.4)), self.title)
        assert "no trial has reached 0.50" in piece.evidence
        assert "no trial has reached 0.90" in further.evidence
        assert 0.1 < piece.params["lr"] < further.params["lr"]

    def test_a_layer_behind_is_held_against_its_own_bar(self):
        def behind(target: RotationTarget) -> list[Any]:
            trials = []
            for number in range(12):
                slow = 0.05 + 0.01 * number
                ends = (0.55, slow, 0.55, 0.55, 0.55)
                params = {"lr": 0.01 * (number + 1)}
                trials.append(trial(number, params, 0.5 + slow, steady(*ends)))
            found = advice(replace(study(trials, {"lr": LR}), rotation_target=target))
            return starting(found, "hidden1.weight turns too little")

        assert behind(SIX)
        assert not behind(RotationTarget(0.6, patterns={"hidden1.*": 0.1}))


class TestEvidence:
    def test_rotation_is_weighed_as_the_target_counts_the_layers(self):
        """One layer turns further in better trials, the others in worse ones."""

        def of(target: RotationTarget) -> float:
            trials = []
            for number in range(40):
                share = (number + 1) / 41
                ends = (0.5, share, *[1 - share] * 2, 0.5)
                trials.append(trial(number, {"lr": 0.01}, share, steady(*ends)))
            result = replace(study(trials, {"lr": LR}), rotation_target=target)
            worth = rotation_worth(result)
            assert worth is not None
            return worth.weight

        only_first = RotationTarget(patterns={"hidden2.*": None, "hidden3.*": None})
        only_others = RotationTarget(patterns={"hidden1.*": None})
        assert of(only_first) > of(only_others)

    def test_trials_are_compared_from_the_warmup_on(self):
        result = turning(0.2, 0.6)
        weights = {
            rotation_worth(replace(result, warmup_epochs=warmup)).weight for warmup in (1.0, 9.0)
        }
        assert len(weights) == 2


class TestStudies:
    def test_plain_optuna_stores_what_its_pruner_judges_by(self, tmp_path):
        url = f"sqlite:///{tmp_path}/plain.db"
        optimized(pruner_of(target=BY_PATTERN), storage=url, trials=3)
        result = load_study(url)
        assert (result.rotation_target, result.warmup_epochs) == (BY_PATTERN, 1)
        assert "hidden layers should reach 0.6" in printed(result)

    def test_a_pruner_without_a_target_of_its_own_judges_by_the_studys(self, tmp_path):
        url = f"sqlite:///{tmp_path}/plain.db"
        optimized(pruner_of(target=SIX), storage=url, trials=2)
        pruner = pruner_of()
        again = optimized(pruner, storage=url, trials=2)
        assert pruner.state(again).config.target == SIX
        assert load_study(url).rotation_target == SIX

    def test_the_last_target_given_in_plain_optuna_is_the_studys(self, tmp_path):
        url = f"sqlite:///{tmp_path}/plain.db"
        for target in (RotationTarget(0.5), SIX):
            optimized(pruner_of(target=target, warmup_epochs=2), storage=url, trials=2)
        assert (load_study(url).rotation_target, load_study(url).warmup_epochs) == (SIX, 2)

    def test_a_study_of_an_older_version_has_the_default_target(self):
        old = optuna.create_study(direction="maximize")
        old.set_user_attr("metric", "val_accuracy")
        old.set_user_attr("max_epochs", EPOCHS)
        old.add_trial(optuna.trial.create_trial(value=0.5))
        result = read_result(old, None)
        assert (result.rotation_target, result.warmup_epochs) == (RotationTarget(), 0.25)
        assert json.loads(to_json(result))["rotation_target"]["distance"] == 1

    @pytest.mark.parametrize(
        "attrs",
        [
            {"rotation_target": 0.6, "warmup_epochs": "long"},
            {"rotation_target": {"distance": "far"}, "warmup_epochs": True},
            {"rotation_target": None, "warmup_epochs": -1},
        ],
    )
    def test_attributes_that_mean_something_else_are_not_read(self, attrs):
        elsewhere = optuna.create_study()
        for key, value in attrs.items():
            elsewhere.set_user_attr(key, value)
        result = read_result(elsewhere, None)
        assert (result.rotation_target, result.warmup_epochs) == (RotationTarget(), 0.25)


def test_a_recording_is_replayed_by_the_target_of_its_study(tmp_path):
    """Rotation alone ranks the trials, by the layer that the target counts."""
    trials = []
    for number in range(24):
        share = (number + 1) / 25
        ends = (0.5, share, *[1 - share] * 2, 0.5)
        trials.append(trial(number, {"lr": 0.01}, share, steady(*ends)))

    def best_kept(target: RotationTarget) -> float:
        result = replace(study(trials, {"lr": LR}), rotation_target=target, warmup_epochs=1.0)
        write_recording(result, tmp_path / "some.parquet")
        recording = read_recording(tmp_path / "some.parquet")
        shown = replay(recording, ["rotation-only"], trials=24, repeats=4)
        return shown.schedulers["rotation-only"].best_kept

    assert best_kept(RotationTarget(patterns={"hidden2.*": None, "hidden3.*": None})) == 1
    assert best_kept(RotationTarget(patterns={"hidden1.*": None})) < 1
