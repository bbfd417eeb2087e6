"""What is put into the page: words, safe JSON, and curves thinned to what fits."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from tests.report.tuned_studies import EVIL, night
from tests.study.example_studies import study_result, trial_result
from tuner.report import to_html
from tuner.report.html.page import (
    MOST_NUMBERS,
    pruning,
    records,
    resume_command,
    rule_of,
    thinning,
    winner,
    worth,
)
from tuner.report.html.templating import as_json, number, plain
from tuner.rotation import RotationCurve


@pytest.mark.parametrize("text", [EVIL, "<!--", "\u2028", "&lt;", "\ud800", "'\"\\"])
def test_no_text_can_end_the_script_that_it_is_in(text):
    written = as_json({text: [text]})
    assert not set("<>&\u2028") & set(written)
    assert json.loads(written) == {text: [text]}


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.123456789, 0.123457), (2.0, 2), (math.nan, None), (-math.inf, None), (1e300, 1e300)],
)
def test_numbers_are_written_short_and_unknown_ones_as_null(value, written):
    assert number(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, None), (True, True), (math.inf, "inf"), ((1, 2), "(1, 2)"), ("x", "x"), (3, 3)],
)
def test_a_parameter_is_written_as_what_it_is_or_in_words(value, written):
    assert plain(value) == written
    assert type(plain(value)) is type(written)


def test_curves_of_a_huge_study_are_thinned_but_keep_their_end():
    curve = RotationCurve(layers=("a", "b"), max_epochs=500)
    for epoch in range(1, 501):
        curve = curve.append(epoch, {"a": 0.1, "b": 0.2}, metric=0.5, train_loss=1.0)
    trials = [trial_result(i, "complete", 0.5, curve=curve) for i in range(400)]
    result = study_result(*trials, max_epochs=500)
    reports, kept = thinning(result.ranked)
    assert (100 < reports < 500, kept) == (True, 400)
    count = 0
    for written in records(result)["curves"]:
        assert (written["epochs"][0], written["epochs"][-1]) == (1, 500)
        assert len(written["distances"][1]) == len(written["metric"]) == len(written["epochs"])
        count += 5 * len(written["epochs"])
    assert count <= MOST_NUMBERS


def test_where_thinning_is_not_enough_the_best_keep_their_curves(monkeypatch):
    monkeypatch.setattr("tuner.report.html.page.MOST_NUMBERS", 100)
    result = study_result(*(trial_result(i, "complete", i / 10) for i in range(10)))
    written = records(result)
    assert (written["reports"], written["kept"]) == (4, 5)
    assert [curve is not None for curve in written["curves"]] == [True] * 5 + [False] * 5


def test_the_winner_comes_with_what_loads_it():
    trial = trial_result(7, "complete", 0.5, checkpoint="/x", test={"test_accuracy": 0.25})
    facts = winner(study_result(trial), "it's", "elsewhere")
    assert facts.lines.splitlines()[2:] == [
        "best = tuner.load_study(\"it's\", folder='elsewhere').best  # trial 7",
        "best.params  # its configuration",
        "model.load_state_dict(best.weights())  # into the same network",
    ]
    compile(facts.lines, "page", "exec")
    assert facts.test == {"test_accuracy": "0.25"}


def test_a_winner_without_a_checkpoint_promises_no_weights():
    facts = winner(study_result(trial_result(7, "complete", 0.5)), "a", None)
    assert "weights" not in facts.lines


def test_no_trial_wins_before_one_is_complete():
    assert winner(study_result(trial_result(0, "pruned", 0.5)), "a", None) is None


@pytest.mark.parametrize(
    ("state", "wanted", "command"),
    [
        ("complete", 1, "quarterturn resume 'a b' --folder 'c d' --trials 2"),
        ("running", 1, "quarterturn resume 'a b' --folder 'c d'"),
        ("complete", 0, None),
    ],
)
def test_the_command_that_goes_on(state, wanted, command):
    result = study_result(trial_result(0, state, 0.5), num_trials=wanted)
    assert resume_command(result, "a b", "c d") == command


def test_pruning_is_shown_in_epochs_rules_and_what_audits_showed():
    trials = (
        trial_result(0, "complete", 0.5, epochs=10),
        trial_result(1, "pruned", 0.3, epochs=2, reason="peers: place 3"),
        trial_result(2, "pruned", 0.3, epochs=3, reason="peers: place 4"),
        trial_result(3, "complete", 0.4, epochs=10, audit="peers: place 5"),
        trial_result(4, "failed", 0.4, epochs=1, reason="RuntimeError: x"),
    )
    facts = pruning(study_result(*trials))
    assert (facts.trained, facts.whole, facts.ratio, facts.share) == ("25", "40", "1.6", 0.625)
    assert facts.rules == (("peers", 2),)
    assert facts.audited.startswith("Control trials: 1 trained to the end although it would be")


@pytest.mark.parametrize(
    ("reason", "rule"),
    [
        ("peers: 3rd of 9: x", "peers"),
        ("target out of reach: a; peers: b", "peers"),
        ("no colon", "other"),
        ("", "other"),
    ],
)
def test_a_reason_begins_with_its_rule(reason, rule):
    assert rule_of(reason) == rule


def test_the_worth_of_rotation_is_shown_in_words():
    assert worth(night(200)).says == "Rotation ranks the trials of this study"
    assert "too few comparisons" in worth(study_result(trial_result(0, "complete", 1.0))).meaning
    assert worth(study_result()) is None


def test_what_is_advised_comes_with_the_command_that_has_it_tried():
    page = to_html(night(200), folder="my studies")
    assert "the best lr is at the upper end of its range: widen it" in page
    assert "quarterturn advise night --folder &#39;my studies&#39; --enqueue 1" in page
    # Where the study's folder is not at hand nothing can be enqueued.
    assert "--enqueue" not in to_html(night(200), name="DATABASE#night")
    nothing = to_html(study_result(trial_result(0, "complete", 0.5)))
    assert "What to try next" not in nothing


def test_whether_advice_helped_is_shown_before_the_next():
    trials = [trial_result(i, "complete", i / 10, epochs=10) for i in range(3)]
    page = to_html(study_result(*trials[:2], replace(trials[2], advice="lr up")))
    assert "Trials that test advice: 1 of 1 have ended; the best, trial 2" in page
    assert "the advice helped" in page
