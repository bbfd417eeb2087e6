"""How trials end, and what the study then says of them."""

from __future__ import annotations

import math
import re
import sys

import optuna
import pytest
from curve_trials import Curve
from optuna.pruners import ThresholdPruner
from optuna.samplers import GridSampler, RandomSampler
from optuna.trial import TrialState
from ray import cloudpickle, tune

from tuner import TuningJob, load_study, run
from tuner.engine.callbacks import RunCallback

pytestmark = pytest.mark.usefixtures("two_cpus")
# Ray's workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

EPOCHS = 6
# fate -> state, last value (None where there is none), whole epochs, reason
CLASS_ENDINGS = {
    "ends at its last epoch": (TrialState.COMPLETE, 0.6, EPOCHS, ""),
    "never says done": (TrialState.COMPLETE, 0.6, EPOCHS, ""),
    "says done early": (TrialState.COMPLETE, 0.3, 3, ""),
    "reports twice an epoch": (TrialState.COMPLETE, 0.6, EPOCHS, ""),
    "does not count its epochs": (TrialState.COMPLETE, 0.6, EPOCHS, ""),
    "is pruned": (
        TrialState.PRUNED,
        -1.0,
        3,
        "ThresholdPruner: score -1 at epoch 3, .*\\. Saves 3 of 6 epochs\\.",
    ),
    "is pruned at once": (TrialState.PRUNED, -1.0, 1, "ThresholdPruner: score -1 at epoch 1, .*"),
    "crashes": (TrialState.FAIL, 0.1, 1, r"RuntimeError: the disk is full\. In test_trial.*"),
    "crashes at once": (
        TrialState.FAIL,
        None,
        0,
        r"RuntimeError: the disk is full\. In test_trial.*",
    ),
    "crashes in setup": (TrialState.FAIL, None, 0, ".*the disk is full.*"),
    "is not a number": (TrialState.FAIL, 0.1, 1, "score must be a number, got nan at epoch 2"),
    "is infinite": (TrialState.PRUNED, -math.inf, 2, "ThresholdPruner: score -inf at epoch 2, .*"),
    "only says done": (TrialState.FAIL, None, 0, "it ended without a report of score"),
}
FUNCTION_ENDINGS = {
    "returns early": (TrialState.COMPLETE, 0.3, 3, ""),
    "reports for ever": (TrialState.COMPLETE, 0.6, EPOCHS, ""),
    "reports nothing": (TrialState.FAIL, None, 0, "it ended without a report of score"),
    "raises": (TrialState.FAIL, 0.1, 1, r"RuntimeError: the disk is full\. In test_trial.*"),
    "turns bad": (TrialState.PRUNED, -1.0, 2, "ThresholdPruner: score -1 at epoch 2, .*"),
}


class Fated(Curve):
    """Ends as its config says."""

    def setup(self, config):
        super().setup(config)
        if config["fate"] == "crashes in setup":
            raise RuntimeError("the disk is full")

    def reset_config(self, new_config):
        # Every other trial takes over the actor of one that has ended.
        return new_config["fate"] != "crashes in setup" and super().reset_config(new_config)

    def report(self):
        fate, epoch = self.config["fate"], self.epoch
        if fate == "only says done":
            return {"done": True}
        if fate == "crashes at once" or (fate == "crashes" and epoch == 2):
            raise RuntimeError("the disk is full")
        if fate == "reports twice an epoch" and epoch % 2:
            return {"progress": epoch / 2 / self.config["max_epochs"], "rotation/layer": 0.1}
        if fate == "reports twice an epoch":
            epoch //= 2
        report = {"epoch": epoch, "score": epoch / 10, "rotation/layer": 0.1}
        if fate == "does not count its epochs":
            del report["epoch"]
        if (fate == "is pruned" and epoch == 3) or fate == "is pruned at once":
            report["score"] = -1.0
        if fate == "is not a number" and epoch == 2:
            report["score"] = math.nan
        if fate == "is infinite" and epoch == 2:
            report["score"] = -math.inf
        # The engine has to stop the one that goes on for ever, and those that are to be pruned.
        report["done"] = epoch == EPOCHS if fate != "never says done" else False
        if fate == "says done early":
            report["done"] = epoch == 3
        return report


class InOrder(RandomSampler):
    """Suggests one choice after the other."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        return param_distribution.choices[trial.number]


def fated(config):
    for epoch in range(1, 1000):
        if config["fate"] == "reports nothing" or (config["fate"], epoch) == ("returns early", 4):
            return
        if (config["fate"], epoch) == ("raises", 2):
            raise RuntimeError("the disk is full")
        score = -1.0 if (config["fate"], epoch) == ("turns bad", 2) else epoch / 10
        tune.report({"score": score})


@pytest.fixture(scope="module", params=["class", "function"])
def study(request, two_cpus, tmp_path_factory):
    """Return the study of all fates, as plain Optuna reads it, and as `load_study` does."""
    fates = list(CLASS_ENDINGS if request.param == "class" else FUNCTION_ENDINGS)
    folder = tmp_path_factory.mktemp("studies")
    job = TuningJob(
        name="fates",
        trainable=Fated if request.param == "class" else fated,
        search_space={"fate": optuna.distributions.CategoricalDistribution(fates)},
        metric="score",
        num_trials=len(fates),
        max_epochs=EPOCHS,
        pruner=ThresholdPruner(lower=0.0),
        sampler=InOrder(),
        folder=folder,
    )
    run(job, observer=RunCallback())
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "fates" / "study.log"))
    plain = optuna.load_study(storage=optuna.storages.JournalStorage(backend), study_name="fates")
    endings = CLASS_ENDINGS if request.param == "class" else FUNCTION_ENDINGS
    return endings, plain, load_study("fates", folder=folder)


def test_every_trial_ends_as_it_should(study):
    endings, plain, result = study
    found = {}
    for trial, told in zip(plain.trials, result.trials, strict=True):
        last = trial.intermediate_values.get(trial.last_step)
        found[trial.params["fate"]] = (trial.state, last, told.epochs, told.reason)
    for fate, (*facts, reason) in endings.items():
        assert list(found[fate][:3]) == facts, fate
        assert re.fullmatch(reason, found[fate][3]), fate
    assert found.keys() == endings.keys()


def test_nothing_stays_running(study):
    _, plain, result = study
    assert all(trial.state.is_finished() for trial in plain.trials)
    assert result.finished


def test_a_complete_trial_has_its_last_value(study):
    endings, plain, _ = study
    for trial in plain.get_trials(states=[TrialState.COMPLETE]):
        assert trial.value == endings[trial.params["fate"]][1]


def test_reports_within_an_epoch_have_rotation_and_no_metric(study):
    endings, _, result = study
    if endings is not CLASS_ENDINGS:
        return
    (twice,) = [t for t in result.trials if t.params["fate"] == "reports twice an epoch"]
    assert twice.curve.epochs == tuple(half / 2 for half in range(1, 2 * EPOCHS + 1))
    assert [not math.isnan(value) for value in twice.curve.metric] == [False, True] * EPOCHS


@pytest.mark.timeout(60)  # its trials once waited for ever
def test_a_trainable_that_cannot_be_reset_is_set_up_anew(make_job):
    class Plain(tune.Trainable):
        """As in Ray's documentation: it has no `reset_config`."""

        def setup(self, config):
            self.score = 0.0

        def step(self):
            self.score += self.config["turn"]
            return {"score": self.score}

    result = run(make_job(trainable=Plain, metric="score", num_trials=6), observer=RunCallback())
    assert [trial.state for trial in result.trials] == ["complete"] * 6
    for trial in result.trials:
        assert trial.value == pytest.approx(9 * trial.params["turn"])


def test_a_sampler_that_has_tried_everything_ends_the_study(make_job):
    def three(trial):
        turn = trial.suggest_categorical("turn", [0.1, 0.5, 0.9])
        return {"height": 1.0, "speed": 0.5, "turn": turn}

    result = run(
        make_job(
            search_space=three,
            sampler=GridSampler({"turn": [0.1, 0.5, 0.9]}, seed=0),
            num_trials=9,
            max_concurrent=1,
        ),
        observer=RunCallback(),
    )
    assert sorted(trial.params["turn"] for trial in result.trials) == [0.1, 0.5, 0.9]
    assert [trial.state for trial in result.trials] == ["complete"] * 3
