"""Config entries that a trial was enqueued with are shown wherever its parameters are."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest
from rich.console import Console

from tests.study.example_studies import study_result, trial_result
from tuner.report import print_report, to_html
from tuner.report.advice import Advice
from tuner.report.advice.render import advice_json, print_advice
from tuner.report.formatting import params
from tuner.report.html.page import records, winner
from tuner.report.summary import rows, to_json

RATES = {"layer_rates": {"last": 2.5}}
RESULT = study_result(
    trial_result(0, "complete", 0.5), trial_result(1, "complete", 0.6, config=RATES)
)
WORDS = "layer_rates={'last': 2.5}"


def on_paper() -> Console:
    return Console(file=io.StringIO(), width=200, color_system=None)


def test_in_the_table_and_while_it_runs():
    console = on_paper()
    print_report(RESULT, console)
    assert isinstance(console.file, io.StringIO)
    facts = [line for line in console.file.getvalue().splitlines() if WORDS in line]
    assert len(facts) == 1
    assert "lr=0.2" in facts[0]
    assert params(RESULT.trials[1]) == f"lr=0.2 {WORDS}"


def test_in_the_json_document():
    shown = {trial["trial"]: trial["params"] for trial in json.loads(to_json(RESULT))["trials"]}
    assert shown == {0: {"lr": 0.1}, 1: {"lr": 0.2, **RATES}}


def test_on_the_page():
    written = records(RESULT)
    column = written["params"][written["names"].index("layer_rates")]
    assert column == [["{'last': 2.5}"], []]
    facts = winner(RESULT, "example", None)
    assert facts is not None
    assert facts.params == {"lr": "0.2", "layer_rates": "{'last': 2.5}"}
    assert "best.setting  # its configuration" in facts.lines
    assert RESULT.best.setting == {"lr": 0.2, **RATES}
    assert "layer_rates" in to_html(RESULT)


def test_in_a_table_that_can_be_sorted_and_written(tmp_path):
    table = rows(RESULT, sort="layer_rates")
    assert list(table["trial"]) == [1, 0]
    table.to_parquet(tmp_path / "table.parquet")
    again = pd.read_parquet(tmp_path / "table.parquet")
    assert again["params/layer_rates"].iloc[0] == "{'last': 2.5}"


@pytest.mark.parametrize("config", [RATES, {}])
def test_in_the_advice_that_enqueues_it(config):
    piece = Advice("raise it", "why", "how", {"lr": 0.2}, config)
    console = on_paper()
    print_advice([piece], console)
    assert isinstance(console.file, io.StringIO)
    tried = " ".join(["try: lr=0.2", *([WORDS] if config else [])])
    assert console.file.getvalue().splitlines()[-1].strip() == tried
    (written,) = json.loads(advice_json([piece]))
    assert (written["params"], written["config"]) == ({"lr": 0.2}, config)
