"""What is said of the rates of rotation that were found."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from tests.rate_finder.made_up_probes import FALLING, RISING, made_up, made_up_lrs
from tuner.rate_finder.estimate import FoundRates
from tuner.rate_finder.report import print_rates, rates_json


def printed(found: FoundRates) -> str:
    text = io.StringIO()
    print_rates(found, Console(file=text, width=80, highlight=False))
    return text.getvalue()


def test_what_to_write_next_names_the_rate_and_the_range():
    told = printed(FoundRates(made_up(), config={"optimizer": "layca-adam", "batch_size": 64}))
    assert told.startswith("batch_size 64, optimizer layca-adam; 10 epochs of 40 steps\n")
    assert '\nnext: "optimizer": "layca-adam", "lr": 0.0' in told
    assert '\nor search: "optimizer": "layca-adam", "lr": trial.suggest_float("lr", 0.0' in told
    assert "\nlagging layers: no hidden layer at 0.0" in told
    assert "\ncost: 80 steps, 2 epochs in all, 1.5 s\n" in told


def test_a_layer_that_lags_is_named_with_what_it_would_need():
    told = printed(FoundRates(made_up(ways=(1.0, 0.3, 1.0, 1.0, 1.0))))
    (line,) = (line for line in told.splitlines() if line.startswith("lagging layers at "))
    assert "with the rate that each needs: one (0." in line
    assert line.endswith(" times the rate)")


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ((RISING,) * 4, "rotation cannot be targeted: the train loss fell at none of these rates"),
        (
            (FALLING, FALLING, RISING, RISING),
            "rotation of 0.95 cannot be targeted: held at its rate, the train loss does not fall; "
            "the highest rate at which it did is 0.03, for 0.",
        ),
    ],
)
def test_where_it_learns_nothing_at_the_rate_it_says_so_and_names_no_rate_to_write(losses, said):
    told = printed(FoundRates(made_up(losses)))
    assert told.splitlines()[-1].startswith(said)
    assert "next:" not in told


def test_of_a_usual_optimizer_the_rates_are_learning_rates():
    found = FoundRates(made_up_lrs(), distance=0.6, config={"optimizer": "adamw"})
    told = printed(found)
    assert told.splitlines()[2].split()[:2] == ["learning", "rate"]
    assert f"\nlearning rate for 0.6: {found.rate:.3g} (90 % within " in told
    assert f'\nnext: "optimizer": "adamw", "lr": {found.rate:.3g}\n' in told


@pytest.mark.parametrize(
    ("distance", "said"),
    [
        (0.9999999, "no learning rate is known to turn them so far, 0.75 comes to "),
        (1e-7, "no learning rate is known to turn them less, 0.001 comes to "),
    ],
)
def test_a_distance_out_of_reach_is_said_to_be(distance, said):
    last = printed(FoundRates(made_up_lrs(), distance=distance)).splitlines()[-1]
    assert said in last
    assert last.endswith(" with --distance")


@pytest.mark.parametrize(
    ("probed", "proposed"), [(made_up(), 1), (made_up_lrs(), 0)], ids=["Layca", "another"]
)
def test_too_few_steps_to_tell_are_said_to_be_and_no_learning_rate_is_proposed(probed, proposed):
    short = [replace(probe, steps=(1, 2, 3, 4)) for probe in probed.probes]
    told = printed(FoundRates(replace(probed, probes=tuple(short)), distance=0.6))
    assert told.count("too few steps to tell") == 4
    assert "4 steps are too few to know whether it learns there: try --set batch_size=32" in told
    assert told.count("\nnext: ") == proposed


def test_json_has_null_where_a_probe_broke_down():
    losses = (FALLING, FALLING, FALLING, (math.nan,) * 4)
    told = json.loads(rates_json(FoundRates(made_up(losses))))
    assert [probe["learns"] for probe in told["probes"]] == [True, True, True, False]
    assert told["probes"][3]["end_loss"] is None
    assert told["targetable"] is True
