"""The contract that every included trainable keeps, each with every kind of data it can have."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
from smallest_net import epochs, reports

from trainables import PAPER_TASKS, TRAINABLES, RotationTrainable, find
from trainables.datasets.images import DEBIAN_FOLDER, read_fashion
from trainables.training.randomness import seed_everything

OTHER_CONFIG = {"optimizer": "adamw", "batch_size": 16, "seed": 3, "schedule": "step"}
SHORT = {"train_samples": 128, "batch_size": 32}


class Case(NamedTuple):
    """A trainable, the config that makes its epochs short, and where its data comes from."""

    name: str
    config: dict[str, Any]
    data: str = "embedded"


CASES = [
    Case("digits-mlp", {}),
    Case("mnist-mlp", {"train_samples": 1000}),
    Case("fashion-cnn", SHORT, "generated"),
    Case("fashion-cnn", {"train_samples": 256}, "installed"),
    *(Case(f"{name}-small", SHORT, "generated") for name in PAPER_TASKS),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case.name}-{case.data}")
def case(request, write_fashion, tmp_path_factory) -> Case:
    case: Case = request.param
    if case.data == "embedded":
        return case
    if case.data == "installed" and not DEBIAN_FOLDER.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    source = read_fashion(str(DEBIAN_FOLDER)) if case.data == "installed" else None
    folder = write_fashion(tmp_path_factory.mktemp("fashion"), train=300, test=100, source=source)
    return case._replace(config={**case.config, "data_dir": str(folder)})


@pytest.fixture(scope="module")
def known(case) -> list[dict[str, Any]]:
    """What a trial of the case reports, once it is known."""
    return []


@pytest.fixture
def expected(known, case) -> list[dict[str, Any]]:
    """What a trial of the case reports."""
    known[:] = known or reports(start(case))
    return known


def start(case: Case, **changes: Any) -> RotationTrainable:
    config = {"max_epochs": 2, "batch_size": 64, "schedule": "cosine", "warmup_epochs": 0.5}
    return find(case.name)(config={**config, **case.config, **changes})


def test_every_registered_trainable_is_held_to_the_contract():
    # A full-size task has all but its net and data in common with its small twin, and is too large
    # for so many epochs here; `test_paper_tasks` takes a step of each.
    assert {case.name for case in CASES} == set(TRAINABLES) - set(PAPER_TASKS)


def test_each_epoch_reports_every_key_in_its_range(case):
    trial = start(case, reports_per_epoch=1)
    for epoch in (1, 2):
        report = trial.train()
        hold_in_every_report(report)
        assert report["epoch"] == report["training_iteration"] == epoch
        assert report["progress"] == epoch / 2
        assert (report["lr_progress"] == 1.0) == (epoch == 2)
        assert math.isfinite(report["val_loss"])
        assert 0 <= report["val_accuracy"] <= 1
        assert report["done"] == (epoch == 2)


def test_a_report_within_an_epoch_has_the_clocks_and_the_rotation_and_no_metric(case):
    trial = start(case, reports_per_epoch=(3, 1))
    progress = []
    for iteration in (1, 2):
        report = trial.train()
        hold_in_every_report(report)
        assert report["training_iteration"] == iteration
        assert not report["done"]
        assert not [key for key in report if key.startswith(("val_", "test_"))]
        assert "epoch" not in report
        progress.append(report["progress"])
    assert progress == pytest.approx([1 / 6, 1 / 3], abs=0.1)
    assert trial.train()["epoch"] == 1


def hold_in_every_report(report: dict[str, Any]) -> None:
    layers = [key for key in report if key.startswith("rotation/")]
    assert 0 < report["lr_progress"] <= 1
    assert math.isfinite(report["train_loss"])
    assert len(layers) >= 2
    assert all(0 < report[layer] < 2 for layer in layers)
    assert report["rotation_min"] == min(report[layer] for layer in layers)
    assert report["rotation_min"] <= report["rotation_mean"] < 2
    assert report["epoch_s"] > 0


def test_the_test_split_is_looked_at_only_after_the_last_epoch(expected):
    first, last = expected
    assert not [key for key in first if key.startswith("test_")]
    assert 0 <= last["test_accuracy"] <= 1
    assert first["val_accuracy"] != last["test_accuracy"]


def test_the_same_seed_gives_the_same_reports_and_another_does_not(case, expected):
    assert reports(start(case)) == expected
    assert reports(start(case, seed=1)) != expected


@pytest.mark.parametrize("reports_per_epoch", [1, 2], ids=["at-an-end", "within"])
def test_a_resumed_trial_reports_what_an_unbroken_one_does(case, reports_per_epoch, tmp_path):
    unbroken = start(case, reports_per_epoch=reports_per_epoch)
    assert ("epoch" in unbroken.train()) == (reports_per_epoch == 1)
    saved = unbroken.save(str(tmp_path))
    expected = reports(unbroken, 1)

    # Whatever it was built with must give way to the checkpoint: weights, initialisation, order.
    resumed = start(case, seed=7, reports_per_epoch=reports_per_epoch)
    resumed.restore(saved)
    assert reports(resumed, 1) == expected


def test_a_reused_actor_trains_as_a_fresh_one_does(case, expected):
    config = start(case).config
    used = start(case, **OTHER_CONFIG)
    assert reports(used) != expected
    assert used.reset(config)
    assert reports(used) == expected


def test_the_checkpoint_loads_safely_into_the_plain_model(case, tmp_path):
    trial = start(case)
    reported = epochs(trial)[-1]
    trial.save(str(tmp_path))
    state = torch.load(tmp_path / "model.pt", weights_only=True)

    seed_everything(9)
    model = trial.build_model({})
    model.load_state_dict(state["model"])
    inputs, targets = trial.training_state.data.validation
    with torch.no_grad():
        answers = model.eval()(inputs).argmax(dim=1)
    accuracy = (answers == targets).float().mean().item()
    # The order of the sums differs, so a tie between two classes may fall the other way.
    assert accuracy == pytest.approx(reported["val_accuracy"], abs=1.5 / len(targets))
