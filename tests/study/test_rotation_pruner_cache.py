"""What RotationPruner keeps of a study is what the study holds, however its reports come."""

from __future__ import annotations

import pickle
from contextlib import closing
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tests.study.pruned_studies import (
    EPOCHS,
    LAYERS,
    objective,
    of_state,
    optimized,
    pruner_of,
    standing,
)
from tuner.rotation import HalvingState
from tuner.storage.journal import WriteBehindJournal
from tuner.study.pruners import RotationPruner
from tuner.study.schema import curve_of, report_rotation


def assert_same(state: HalvingState, other: HalvingState) -> None:
    assert (state.config, state.max_epochs) == (other.config, other.max_epochs)
    for mine, theirs in zip(state.rungs, other.rungs, strict=True):
        assert mine.epoch == theirs.epoch
        for column in ("numbers", "features", "scores"):
            np.testing.assert_array_equal(getattr(mine, column), getattr(theirs, column))
    np.testing.assert_array_equal(state.weights.mean, other.weights.mean)
    assert state.weights.trials == other.weights.trials


def at_once(study: optuna.Study, pruner: RotationPruner) -> HalvingState:
    """Return the state built from all trials of a study in one go, the failed left out."""
    config = pruner.state(study).config
    counted = [trial for trial in study.trials if trial.state != TrialState.FAIL]
    curves = {trial.number: curve_of(trial, EPOCHS) for trial in counted}
    return HalvingState(config, EPOCHS).with_curves(curves)


class TestWhatItKnowsOfAStudy:
    def test_the_state_it_builds_as_reports_come_is_the_one_built_at_once(self):
        pruner = pruner_of()

        def checked(trial: optuna.Trial) -> float:
            try:
                return objective(trial)
            finally:
                assert_same(pruner.state(trial.study), at_once(trial.study, pruner))

        study = optimized(pruner, objective=checked, trials=25)
        state = pruner.state(study)
        assert_same(state, at_once(study, pruner))
        assert_same(state, pruner_of().state(study))
        assert state.started == 25

    def test_with_nothing_new_it_is_the_very_same(self):
        pruner = pruner_of()
        study = optimized(pruner)
        assert pruner.state(study) is pruner.state(study)

    def test_a_report_whose_metric_comes_later_is_read_again(self):
        pruner = pruner_of()
        study = optuna.create_study(direction="maximize", pruner=pruner)
        trial = study.ask()
        report_rotation(trial, 1, dict.fromkeys(LAYERS, 0.1), train_loss=1.0)
        assert pruner.state(study).started == 0
        trial.report(0.5, 1)
        assert_same(pruner.state(study), at_once(study, pruner))
        assert pruner.state(study).started == 1

    def test_trials_that_fail_are_left_out_though_they_were_counted_while_they_ran(self):
        def failing(trial: optuna.Trial) -> float:
            value = objective(trial)
            if trial.number % 3 == 2:
                raise ArithmeticError
            return value

        pruner = pruner_of(audit=0.999999)
        with_failures = optimized(pruner, objective=failing, trials=12, catch=ArithmeticError)
        assert len(of_state(with_failures, TrialState.FAIL)) == 4
        state = pruner.state(with_failures)
        assert state.started == 8
        assert_same(state, at_once(with_failures, pruner))

    def test_trials_of_another_process_are_seen_as_they_come(self, tmp_path: Path):
        def opened(pruner: RotationPruner) -> optuna.Study:
            backend = JournalFileBackend(str(tmp_path / "shared.log"))
            return optuna.create_study(
                storage=JournalStorage(backend),
                study_name="shared",
                direction="maximize",
                load_if_exists=True,
                pruner=pruner,
                sampler=optuna.samplers.RandomSampler(),
            )

        pruners = [pruner_of(), pruner_of()]
        here, there = (opened(pruner) for pruner in pruners)
        for _ in range(4):
            here.optimize(objective, n_trials=2)
            mine, theirs = here.ask(), there.ask()
            for trial in (theirs, mine):  # both run on, side by side
                report_rotation(trial, 1, dict.fromkeys(LAYERS, 0.1), train_loss=1.0)
                trial.report(0.5, 1)
                trial.should_prune()
            there.optimize(objective, n_trials=1)
            for study, pruner in zip((here, there), pruners, strict=True):
                assert_same(pruner.state(study), at_once(study, pruner))
            there.tell(theirs, state=TrialState.FAIL)
            here.tell(mine, state=TrialState.PRUNED)
            for study, pruner in zip((here, there), pruners, strict=True):
                assert_same(pruner.state(study), at_once(study, pruner))
        assert_same(pruners[0].state(here), pruners[1].state(there))
        assert pruners[0].state(here).started == 16

    def test_a_resumed_study_goes_on_as_it_would_have(self, tmp_path: Path):
        whole = optimized(pruner_of(), trials=20)
        params = iter([trial.params for trial in whole.trials])
        for trials in (7, 13):
            with closing(WriteBehindJournal(tmp_path / "study.log")) as journal:
                pruner = pruner_of()
                study = optuna.create_study(
                    storage=JournalStorage(journal),
                    study_name="s",
                    direction="maximize",
                    load_if_exists=True,
                    pruner=pruner,
                )
                for _ in range(trials):
                    study.enqueue_trial(next(params))
                study.optimize(objective, n_trials=trials)
                ended = [(trial.state, trial.user_attrs.get("reason")) for trial in study.trials]
                assert_same(pruner.state(study), at_once(study, pruner))
        assert ended == [(trial.state, trial.user_attrs.get("reason")) for trial in whole.trials]

    def test_trials_in_several_threads_lose_no_report(self):
        pruner = pruner_of(keep=0.9)
        study = optimized(pruner, trials=40, n_jobs=4)
        assert_same(pruner.state(study), at_once(study, pruner))
        assert pruner.state(study).started == 40

    def test_a_pruner_that_served_one_study_judges_another_afresh(self):
        used = pruner_of()
        optimized(used, trials=9)
        studies = []
        for pruner in (used, pruner_of()):
            study, trial = standing(0.5, 0.5, [(0.6, 0.9), (0.4, 0.1), (0.7, 0.2)])
            studies.append(pruner.verdict(study, trial))
        assert studies[0] == studies[1]

    def test_one_that_has_served_a_study_pickles_without_what_it_knows(self):
        used = pruner_of(keep=0.7, seed=3)
        study = optimized(used, trials=9)
        copied = pickle.loads(pickle.dumps(used))
        assert (copied.criteria, copied.max_epochs) == (used.criteria, used.max_epochs)
        assert_same(copied.state(study), used.state(study))
        assert len(pickle.dumps(used)) < 2000
