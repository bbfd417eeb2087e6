"""The forms a job comes in: a plain script, a job file with a module beside it, a built-in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from search_spaces import sgd
from tests.command_here import run_here
from trainables import DigitsMlp
from tuner import TuningJob, load_study, run
from tuner.engine.callbacks import RunCallback

TRAINABLE = """
from ray.tune import Trainable

STEP = 0.25

class Steps(Trainable):
    metric = "score"

    def setup(self, config):
        self.score = 0.0

    def reset_config(self, new_config):
        self.setup(new_config)
        return True

    def step(self):
        self.score += self.config["speed"] * STEP
        return {"score": self.score}
"""
SPACE = """
def space(trial):
    return {"speed": trial.suggest_float("speed", 0.5, 1.0)}
"""
JOB = """TuningJob(name="own", trainable=Steps, search_space=space,
    num_trials=3, max_epochs=4, pruner="none")"""


def test_a_plain_script_may_define_everything_itself(tmp_path):
    (tmp_path / "own.py").write_text(
        f"{TRAINABLE}{SPACE}\nimport tuner\nfrom tuner import TuningJob\n"
        f"result = tuner.run({JOB})\nprint(result.best.value)\n"
    )
    done = subprocess.run(
        [sys.executable, "own.py"],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    result = load_study("own", folder=tmp_path / "studies")
    assert [trial.state for trial in result.trials] == ["complete"] * 3
    assert lines[0] == "study own: 0/3 trials, maximising score"
    assert len(lines) == 1 + 3 + 1
    assert float(lines[-1]) == result.best.value
    assert result.best.value == pytest.approx(4 * 0.25 * result.best.params["speed"])


def commanded(folder, *arguments):
    """Run the command in a folder, and return what it printed."""
    said = run_here(*arguments, cwd=folder)
    assert (said.code, said.err) == (0, "")
    return said.out


@pytest.mark.usefixtures("two_cpus")
def test_a_job_file_may_import_the_module_beside_it(tmp_path, monkeypatch):
    folder = tmp_path / "jobs"
    folder.mkdir()
    (folder / "helper.py").write_text(TRAINABLE)
    (folder / "job.py").write_text(
        f"from helper import Steps\nfrom tuner import TuningJob\n{SPACE}\njob = {JOB}\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        printed = commanded(tmp_path, "run", "jobs/job.py")
    assert "3 trials (3 complete)" in printed
    result = load_study("own", folder=tmp_path / "studies")
    assert [trial.state for trial in result.trials] == ["complete"] * 3
    # Elsewhere, the module is not beside anything; the study has to know it all the same.
    monkeypatch.delitem(sys.modules, "helper")
    assert str(folder) not in sys.path
    assert "4 trials (4 complete)" in commanded(
        tmp_path, "resume", "own", "--folder", "studies", "--trials", "4"
    )


@pytest.mark.usefixtures("two_cpus")
def test_the_best_trials_weights_give_the_accuracy_it_reported(tmp_path):
    job = TuningJob(
        name="digits",
        trainable=DigitsMlp,
        search_space=sgd,
        num_trials=3,
        max_epochs=3,
        pruner="none",
        folder=tmp_path,
    )
    result = run(job, observer=RunCallback())
    model = DigitsMlp.build_model(None, {})
    model.load_state_dict(result.best.weights())
    inputs, target = DigitsMlp.build_data(None, None).validation
    model.eval()
    with torch.no_grad():
        accuracy = (model(inputs).argmax(dim=1) == target).double().mean().item()
    assert accuracy == pytest.approx(result.best.value)
    assert accuracy == max(trial.value for trial in result.trials)
    assert set(result.best.rotation) == {"hidden1.weight", "hidden2.weight", "head.weight"}
