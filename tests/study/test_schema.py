"""What a trial writes into the study is what is read back."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial

from tuner.errors import InvalidInput
from tuner.rotation import RotationCurve
from tuner.storage.database import open_database
from tuner.storage.journal import WriteBehindJournal, read_journal
from tuner.storage.write_behind import WriteBehindDatabase
from tuner.study.schema import (
    curve_of,
    read_test,
    report_rotation,
    report_test,
    reports_of,
    seconds_of,
)

NAN = math.nan


@pytest.fixture
def trial() -> optuna.Trial:
    return optuna.create_study().ask()


def frozen(trial: optuna.Trial) -> FrozenTrial:
    return trial.study.trials[trial.number]


def report_all(trial: optuna.Trial) -> None:
    """Report twice within the first epoch, then three whole ones, each lacking something else."""
    report_rotation(trial, 0.25, {"a": 0.1, "b": NAN}, lr_progress=0.05, train_loss=2.5)
    report_rotation(trial, 0.5, {"a": 0.2, "b": 0.1}, lr_progress=0.1, epoch_s=1.5)
    report_rotation(trial, 1, {"a": 0.3, "b": 0.2}, train_loss=math.inf, epoch_s=0.25)
    trial.report(0.5, 1)
    report_rotation(trial, 2, {"a": NAN, "b": NAN}, lr_progress=0.6, train_loss=1.0)
    trial.report(NAN, 2)
    trial.report(0.75, 3)


EXPECTED = RotationCurve(
    layers=("a", "b"),
    max_epochs=4,
    epochs=(0.25, 0.5, 1.0, 2.0, 3.0),
    lr_progress=(0.05, 0.1, NAN, 0.6, NAN),
    distances=((0.1, NAN), (0.2, 0.1), (0.3, 0.2), (NAN, NAN), (NAN, NAN)),
    train_loss=(2.5, NAN, math.inf, 1.0, NAN),
    metric=(NAN, NAN, 0.5, NAN, 0.75),
)


def test_what_is_reported_is_read_back_with_the_unknown_unknown(trial):
    report_all(trial)
    # A NaN equals nothing, so the curves are compared as they are written.
    assert repr(curve_of(frozen(trial), 4)) == repr(EXPECTED)
    assert seconds_of(frozen(trial)) == 1.75


def test_it_survives_the_journal(tmp_path: Path):
    with closing(WriteBehindJournal(tmp_path / "study.log")) as journal:
        report_all(optuna.create_study(storage=JournalStorage(journal), study_name="s").ask())
    stored = optuna.load_study(study_name="s", storage=read_journal(tmp_path / "study.log"))
    assert repr(curve_of(stored.trials[0], 4)) == repr(EXPECTED)


def test_it_survives_a_database(tmp_path: Path):
    database = open_database(f"sqlite:///{tmp_path}/study.db")
    with closing(WriteBehindDatabase(database, "s")) as behind:
        report_all(optuna.create_study(storage=behind, study_name="s").ask())
    stored = optuna.load_study(study_name="s", storage=database)
    assert repr(curve_of(stored.trials[0], 4)) == repr(EXPECTED)


def test_a_trial_without_reports_has_an_empty_curve(trial):
    assert curve_of(frozen(trial), 4) == RotationCurve(layers=(), max_epochs=4)
    assert seconds_of(frozen(trial)) == 0


def test_a_trial_that_reports_only_its_metric_has_a_curve_without_layers(trial):
    for epoch in (1, 2):
        trial.report(0.5 * epoch, epoch)
    curve = curve_of(frozen(trial), 4)
    assert (curve.layers, curve.epochs, curve.metric) == ((), (1.0, 2.0), (0.5, 1.0))
    assert curve.distances == ((), ())


def test_a_model_without_layers_reports_none(trial):
    report_rotation(trial, 1, {}, train_loss=0.5)
    curve = curve_of(frozen(trial), 4)
    assert (curve.layers, curve.distances, curve.train_loss) == ((), ((),), (0.5,))


def test_reports_are_ordered_by_epoch_and_not_by_name(trial):
    for epoch in (10, 9, 0.5, 2):
        report_rotation(trial, epoch, {"a": 0.1})
    assert list(reports_of(frozen(trial))) == [0.5, 2.0, 9.0, 10.0]


def test_a_repeated_report_replaces_the_earlier_one(trial):
    report_rotation(trial, 1, {"a": 0.1}, epoch_s=1.0)
    report_rotation(trial, 1, {"a": 0.2}, epoch_s=2.0)
    assert curve_of(frozen(trial), 4).distances == ((0.2,),)
    assert seconds_of(frozen(trial)) == 2.0


@pytest.mark.parametrize("step", [1 / 3, 12345.125, 1234567, 1e-3, 100])
def test_every_step_keeps_its_place(trial, step):
    report_rotation(trial, step, {"a": 0.1})
    (epoch,) = curve_of(frozen(trial), 2_000_000).epochs
    assert epoch == pytest.approx(step, rel=1e-9)


@pytest.mark.parametrize(
    ("layers", "odd"),
    [(["a"], "'b'"), (["a", "b", "c"], "'c'"), (["b", "a"], "'b'"), ([], "'a'"), (["A", "b"], "")],
    ids=["one less", "one more", "another order", "none", "renamed"],
)
def test_a_trial_must_name_the_same_layers_each_time(trial, layers, odd):
    report_rotation(trial, 1, {"a": 0.1, "b": 0.2})
    with pytest.raises(InvalidInput, match=f"same layers in the same order, got another {odd}"):
        report_rotation(trial, 2, dict.fromkeys(layers, 0.1))
    assert curve_of(frozen(trial), 4).epochs == (1.0,)


@pytest.mark.parametrize("step", [0, -1, -0.5, NAN])
def test_a_step_that_is_not_an_epoch_finished_is_refused(trial, step):
    with pytest.raises(InvalidInput, match=f"step must be > 0, .*got {step:g}; count epochs from"):
        report_rotation(trial, step, {"a": 0.1})
    assert frozen(trial).user_attrs == {}


class TestTestMetrics:
    def test_they_are_read_back_and_no_curve_or_report_holds_them(self, trial):
        report_all(trial)
        report_test(trial, {"test_accuracy": 0.875, "test_loss": NAN, "test_top5": math.inf})
        stored = read_test(frozen(trial))
        assert repr(stored) == "{'test_accuracy': 0.875, 'test_loss': nan, 'test_top5': inf}"
        assert frozen(trial).user_attrs["test"]["test_loss"] is None
        assert repr(curve_of(frozen(trial), 4)) == repr(EXPECTED)
        assert "test" not in repr(reports_of(frozen(trial)))

    def test_the_last_value_of_a_name_wins_and_others_stay(self, trial):
        report_test(trial, {"test_accuracy": 0.25, "test_loss": 2.0})
        report_test(trial, {"test_accuracy": 0.5})
        assert read_test(frozen(trial)) == {"test_accuracy": 0.5, "test_loss": 2.0}

    def test_nothing_is_written_when_nothing_changed(self, trial, monkeypatch):
        report_test(trial, {})
        assert frozen(trial).user_attrs == read_test(frozen(trial)) == {}
        report_test(trial, {"test_loss": NAN, "test_accuracy": 0.25})
        monkeypatch.setattr(trial, "set_user_attr", None)
        report_test(trial, {"test_loss": NAN, "test_accuracy": 0.25})
        report_test(trial, {})

    def test_they_survive_the_journal_and_a_database(self, tmp_path: Path):
        metrics = {"test_accuracy": 0.875, "test_loss": NAN}
        database = open_database(f"sqlite:///{tmp_path}/study.db")
        behind = WriteBehindDatabase(database, "s")
        with closing(WriteBehindJournal(tmp_path / "study.log")) as journal, closing(behind):
            for storage in (JournalStorage(journal), behind):
                report_test(optuna.create_study(storage=storage, study_name="s").ask(), metrics)
        for storage in (read_journal(tmp_path / "study.log"), database):
            stored = optuna.load_study(study_name="s", storage=storage)
            assert repr(read_test(stored.trials[0])) == repr(metrics)

    @pytest.mark.parametrize("foreign", [5, "good", [0.5], None, {"note": "good", "fold": [1]}])
    def test_an_attribute_of_that_name_in_a_study_made_elsewhere_is_none_of_them(
        self, trial, foreign
    ):
        trial.set_user_attr("test", foreign)
        assert read_test(frozen(trial)) == {}
