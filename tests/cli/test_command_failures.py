"""Runs in which trials fail: what is said, what is kept, and the exit code."""

from __future__ import annotations

import json

JOB = """
import optuna
from ray.tune import Trainable
from tuner import TuningJob


class Net(Trainable):
    metric = "score"
    mode = "max"

    def setup(self, config):
        self.epoch = 0

    def reset_config(self, new_config):
        self.config = new_config
        self.epoch = 0
        return True

    def save_checkpoint(self, folder):
        pass

    def load_checkpoint(self, folder):
        pass

    def step(self):
        self.epoch += 1
        {fault}
        return {{"epoch": self.epoch, "score": 0.1, "train_loss": 1.0, "done": self.epoch == 4}}


def space(trial: optuna.Trial) -> dict:
    return {{"lr": trial.suggest_float("lr", 0.1, 1)}}


job = TuningJob(name="net", trainable=Net, search_space=space, num_trials=4, max_epochs=4)
"""
DIVERGES = 'if self.epoch > 1: return {"epoch": 2, "score": 0.1, "train_loss": float("nan")}'
MISSPELT = "self.epochs += 1"


def write(folder, fault="pass"):
    (folder / "mine.py").write_text(JOB.format(fault=fault))


def test_a_study_without_a_complete_trial_says_so_and_exits_with_1(on_ray, tmp_path):
    write(tmp_path, DIVERGES)
    said = on_ray("run", "mine.py", cwd=tmp_path)
    assert said.code == 1
    assert "diverged: train loss inf at epoch 2" in said.out
    assert said.err == (
        "no trial is complete, so net has no best one; mend what failed, or widen the space, "
        "then: quarterturn resume net --trials 8\n"
    )


def test_a_bug_in_the_job_is_named_and_the_study_goes_on_after_it_is_mended(on_ray, tmp_path):
    write(tmp_path, MISSPELT)
    said = on_ray("run", "mine.py", "--concurrent", "1", cwd=tmp_path)
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert "AttributeError: 'Net' object has no attribute 'epochs'. In mine.py line " in said.err
    assert "--retry-failed" in said.err
    shown = on_ray("report", "net", "--trial", "0", cwd=tmp_path)
    assert f"traceback: {tmp_path}/studies/net/errors/trial-00000.txt" in shown.out
    write(tmp_path)
    mended = on_ray("run", "mine.py", "--retry-failed", cwd=tmp_path)
    assert mended.code == 0, mended
    trials = json.loads(on_ray("report", "net", "--json", cwd=tmp_path).out)["trials"]
    ends = sorted(trial["state"] for trial in trials)
    assert ends.count("failed") == 3
    assert ends.count("complete") + ends.count("pruned") == 4
