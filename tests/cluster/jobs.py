"""A job of a person's own, in three files, one of which is imported only when a net is built."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "mine.py": '''
import optuna
import torch
from helper import WIDTHS, net
from sklearn.datasets import load_digits
from trainables import Data, RotationTrainable
from tuner import TuningJob


class MyNet(RotationTrainable):
    """A small net on scikit-learn's digits."""

    def build_model(self, config):
        from late import pause
        pause()
        return net(config["width"])

    def build_data(self, data_dir):
        images, labels = load_digits(return_X_y=True)
        x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
        return Data(train=(x[:300], y[:300]), validation=(x[1300:], y[1300:]))


def space(trial: optuna.Trial) -> dict:
    return {
        "lr": trial.suggest_float("lr", 1e-2, 1.0, log=True),
        "width": trial.suggest_categorical("width", WIDTHS),
    }


job = TuningJob(
    name="mine", trainable=MyNet, search_space=space, num_trials=3, max_epochs=2, pruner="none"
)
''',
    "helper.py": """
from torch import nn

WIDTHS = [16, 32]


def net(width):
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
""",
    "late.py": '''
import time
from pathlib import Path


def pause():
    """Wait while there is the file that is named in `gate`."""
    gate = Path(__file__).with_name("gate")
    named = Path(gate.read_text()) if gate.exists() else None
    while named and named.exists():
        time.sleep(0.1)
''',
}


def write_job(folder: Path, gate: Path | None = None) -> None:
    """Write the files to a folder; trials wait while the file `gate` is there."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    if gate:
        (folder / "gate").write_text(str(gate))
