"""What a policy gets to see of a trial: its reports so far, and nothing else."""

from __future__ import annotations

import gc
import random
from types import FunctionType, ModuleType

from made_up_trials import random_trials, recorded

from tuner.replay.schedulers import Action, NeverStop
from tuner.replay.simulator import prefixes, simulate
from tuner.rotation import RotationCurve


def reachable(start: object) -> set[int]:
    """The ids of everything that can be got at from an object, short of code and classes."""
    known: dict[int, object] = {}
    todo = [start]
    while todo:
        item = todo.pop()
        if id(item) in known or isinstance(item, type | ModuleType | FunctionType):
            continue
        known[id(item)] = item
        todo += gc.get_referents(item)
    return set(known)


def test_a_policy_sees_neither_the_future_nor_the_test_split():
    secret = random.Random(1).random()
    metrics = [random.Random(seed).random() for seed in range(2, 7)]
    trial = recorded(0, metrics, test_accuracy=secret)
    assert id(secret) in reachable(trial)  # that the walk finds what is there
    assert {id(metric) for metric in metrics} <= reachable(trial)

    class Spy(NeverStop):
        reports = 0

        def report(self, number, curve):
            self.reports += 1
            seen = reachable((number, curve))
            assert id(secret) not in seen
            assert id(trial) not in seen
            assert id(trial.curve) not in seen
            assert {id(metric) for metric in metrics} & seen == {
                id(metric) for metric in metrics[: self.reports]
            }
            assert len(curve) == len(curve.distances) == len(curve.train_loss) == self.reports
            return Action.CONTINUE

    spy = Spy()
    simulate([trial], spy, 1, "max")
    assert spy.reports == 5


def test_a_prefix_is_made_once_and_is_the_curve_as_it_stood():
    (trial,) = random_trials(0, 1, 5)
    curve = RotationCurve(layers=("w",), max_epochs=5)
    for report, prefix in enumerate(prefixes(trial.curve)):
        curve = curve.append(
            trial.curve.epochs[report],
            {"w": 0.1},
            lr_progress=trial.curve.lr_progress[report],
            train_loss=trial.curve.train_loss[report],
            metric=trial.curve.metric[report],
        )
        assert repr(prefix) == repr(curve)
    assert prefixes(trial.curve) is prefixes(trial.curve)
