"""What the trials of a study are judged by, and at which epochs."""

import math

import pytest

from tests.rotation.made_up_states import config_of
from tuner.errors import InvalidInput
from tuner.rotation import HalvingState, PruningConfig

NAN = math.nan


@pytest.mark.parametrize(
    ("max_epochs", "warmup_epochs", "rungs"),
    [
        (20, 0.25, (0.25, 1, 2, 4)),
        (100, 0.25, (0.25, 1, 2, 4, 8, 16, 32)),
        (12, 0.25, (0.25, 1, 2, 4)),
        (11, 0.25, (0.25, 1, 2)),
        (3, 0.25, (0.25, 1)),
        (2, 0.25, (0.25, 1)),
        (1, 0.25, (0.25,)),
        (20, 0.5, (0.5, 1, 2, 4)),
        (20, 1, (1, 2, 4)),
        (20, 1.5, (1.5, 3, 6)),
        (20, 3, (3, 6)),
        (20, 19, (19,)),
        (20, 20, ()),
        (20, 30, ()),
        (1, 1, ()),
    ],
)
def test_rungs_double_from_the_first_epoch_to_a_third_of_the_run(max_epochs, warmup_epochs, rungs):
    config = config_of(warmup_epochs=warmup_epochs)
    assert config.rungs(max_epochs) == rungs
    assert [rung.epoch for rung in HalvingState(config, max_epochs).rungs] == [*rungs, max_epochs]


@pytest.mark.parametrize(
    ("warmup_epochs", "shares"),
    [
        (0.25, {0.25: 0.6, 1: 0.4, 2: 0.2, 4: 0.1}),
        (1, {1: 0.4, 2: 0.2, 4: 0.1}),
        (3, {3: 0.4, 6: 0.2}),
    ],
)
def test_half_as_many_go_on_from_twice_as_many_epochs(warmup_epochs, shares):
    config = config_of(warmup_epochs=warmup_epochs, early_keep=0.6, keep=0.4)
    assert {rung: config.share(rung) for rung in shares} == pytest.approx(shares)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"mode": "best"}, "mode must be 'min' or 'max', got 'best'; use 'max'"),
        ({"warmup_epochs": 0}, "warmup_epochs must be > 0, got 0; use 0.25"),
        ({"warmup_epochs": -1}, "warmup_epochs must be > 0, got -1; use 0.25"),
        ({"warmup_epochs": NAN}, "warmup_epochs must be > 0, got nan; use 0.25"),
        ({"keep": 0}, r"keep must be in \(0, 1\], got 0; leave it out for"),
        ({"keep": 1.5}, r"keep must be in \(0, 1\], got 1.5; leave it out for"),
        ({"early_keep": 0}, r"early_keep must be in \(0, 1\], got 0; leave it out for"),
        ({"early_keep": NAN}, r"early_keep must be in \(0, 1\], got nan; leave it out for"),
        ({"audit": -0.1}, r"audit must be in \[0, 1\), got -0.1; use 0"),
        ({"audit": 1}, r"audit must be in \[0, 1\), got 1; use 0"),
        ({"seed": -1}, "seed must be >= 0, got -1; use 0"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_rule_and_a_remedy(given_, message):
    with pytest.raises(InvalidInput, match=f"^{message}"):
        config_of(**given_)


def test_by_default_a_quarter_goes_on_from_the_first_epoch():
    shares = {rung: PruningConfig().share(rung) for rung in PruningConfig().rungs(20)}
    assert shares == pytest.approx({0.25: 0.35, 1: 0.25, 2: 0.125, 4: 0.0625})
