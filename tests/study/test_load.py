"""A study is found by its name or its URL, and a mistake is one line."""

from __future__ import annotations

import pickle

import optuna
import pytest

from tests.study.example_studies import make_study
from tuner.errors import InvalidInput
from tuner.study.folder import StudyFolder
from tuner.study.load import load_study
from tuner.study.result import StudyResult


class TestLoading:
    def check(self, result: StudyResult) -> None:
        assert (result.name, result.metric, result.mode) == ("example", "val_accuracy", "max")
        assert (result.max_epochs, result.num_trials, result.finished) == (4, 4, False)
        states = {trial.number: trial.state for trial in result.trials}
        assert states == {0: "complete", 1: "pruned", 2: "failed", 3: "running"}
        assert [trial.number for trial in result.ranked] == [0, 3, 1, 2]
        assert [trial.value for trial in result.trials] == pytest.approx([0.4, 0.21, 0.22, 0.23])
        assert [trial.epochs for trial in result.trials] == [4, 2, 2, 2]
        assert [trial.seconds for trial in result.trials] == [2, 1, 1, 1]
        reasons = [trial.reason for trial in result.trials]
        assert reasons == ["", "because it was pruned", "because it was fail", ""]
        assert result.trials[0].rotation == {"first": 0.4, "last": 0.8}
        assert result.trials[0].params.keys() == {"lr", "optimizer"}

    def test_by_name(self, tmp_path):
        home = make_study(tmp_path)
        result = load_study("example", folder=tmp_path)
        self.check(result)
        checkpoint = str(home.path / "trials" / "trial_0" / "checkpoint_000003")
        assert [trial.checkpoint for trial in result.trials] == [checkpoint, None, None, None]

    def test_by_name_from_a_database(self, tmp_path):
        make_study(tmp_path / "studies", url=f"sqlite:///{tmp_path}/study.db")
        self.check(load_study("example", folder=tmp_path / "studies"))

    @pytest.mark.parametrize("suffix", ["", "#example"])
    def test_by_url_with_or_without_the_name_of_its_only_study(self, tmp_path, suffix):
        url = f"sqlite:///{tmp_path}/study.db"
        make_study(tmp_path / "studies", url=url)
        result = load_study(url + suffix)
        self.check(result)
        assert result.trials[0].checkpoint is None

    def test_one_of_several_by_url_and_name(self, tmp_path):
        url = f"sqlite:///{tmp_path}/study.db"
        make_study(tmp_path / "studies", url=url)
        make_study(tmp_path / "studies", name="other", url=url)
        self.check(load_study(f"{url}#example"))
        for suffix, got in (("", "'none'"), ("#exmaple", "'exmaple'")):
            with pytest.raises(InvalidInput, match=f"got {got}; use URL#NAME .*: example, other"):
                load_study(url + suffix)

    def test_a_database_without_studies_is_one_line(self, tmp_path):
        (tmp_path / "empty.db").touch()
        with pytest.raises(InvalidInput, match="use URL#NAME with one of: none there"):
            load_study(f"sqlite:///{tmp_path}/empty.db")

    def test_an_unknown_name_lists_the_nearest_first_and_says_where(self, tmp_path):
        make_study(tmp_path, name="abc")
        make_study(tmp_path, name="fashion")
        (tmp_path / "no_study").mkdir()
        with pytest.raises(InvalidInput, match="unknown study 'fasion'; known: fashion, abc ") as e:
            load_study("fasion", folder=tmp_path)
        assert str(e.value).endswith(f"(in {tmp_path}; elsewhere: --folder)")

    def test_a_folder_that_was_renamed_is_loaded_by_its_new_name(self, tmp_path):
        make_study(tmp_path).path.rename(tmp_path / "renamed")
        self.check(load_study("renamed", folder=tmp_path))

    def test_a_renamed_folder_never_gives_another_study_of_its_database(self, tmp_path):
        url = f"sqlite:///{tmp_path}/study.db"
        make_study(tmp_path, name="another", url=url)
        make_study(tmp_path, url=url).path.rename(tmp_path / "renamed")
        with pytest.raises(InvalidInput, match="another, example") as caught:
            load_study("renamed", folder=tmp_path)
        assert "\n" not in str(caught.value)

    def test_a_trailing_slash_does_no_harm(self, tmp_path):
        make_study(tmp_path)
        self.check(load_study("example/", folder=tmp_path))

    def test_a_study_killed_before_it_held_anything_is_one_line(self, tmp_path):
        home = StudyFolder(tmp_path / "early")
        home.path.mkdir()
        home.journal.touch()
        with pytest.raises(InvalidInput, match="'early'") as caught:
            load_study("early", folder=tmp_path)
        assert "\n" not in str(caught.value)

    def test_a_study_made_with_plain_optuna_can_be_read(self, tmp_path):
        url = f"sqlite:///{tmp_path}/study.db"

        def objective(trial: optuna.Trial) -> float:
            x = trial.suggest_float("x", 0, 1)
            for step in (1, 2, 3):
                trial.report(x * step, step)
            return x

        optuna.create_study(storage=url, study_name="plain").optimize(objective, n_trials=3)
        result = load_study(url)
        assert (result.metric, result.mode, result.space) == ("value", "min", "")
        assert {trial.epochs for trial in result.trials} == {3}
        assert result.best.value == min(trial.params["x"] for trial in result.trials)

    def test_a_study_of_several_objectives_is_refused_by_one_line(self, tmp_path):
        url = f"sqlite:///{tmp_path}/study.db"
        optuna.create_study(storage=url, study_name="two", directions=["minimize", "maximize"])
        with pytest.raises(InvalidInput, match=r"'two'.* one ") as caught:
            load_study(url)
        assert "\n" not in str(caught.value)

    def test_a_result_can_be_sent_to_another_process(self, tmp_path):
        make_study(tmp_path)
        result = load_study("example", folder=tmp_path)
        assert result.best.number == 0  # and what was computed once goes along
        self.check(pickle.loads(pickle.dumps(result)))
