"""Layer rotation: measure it, store its curve, forecast its end, and decide on trials by it.

- monitor.py: RotationMonitor: how far each layer has turned since initialisation
- layers.py: the tensors that count as layers, and their names
- report.py: EpochReport, one report of a trial, parsed and checked once
- curve.py: RotationCurve, everything that one trial has reported
- target.py: RotationTarget: the distance that each layer should reach, by its role
- forecast.py: forecast each layer's rotation at the end of the run
- rate.py: the final rotation that a rate of Layca gives, and rates that level the layers
- halving.py: HalvingState: compare the trials at each rung
- promotion.py: which trials are paused, promoted or pruned
- decision.py: `decide`, the one function that decides whether a trial continues

Begin with decision.py. This package needs numpy, and torch only to measure. It imports nothing of
the tuning service except the errors.
"""

from typing import TYPE_CHECKING, Any

from tuner.rotation.curve import Mode, RotationCurve
from tuner.rotation.decision import Action, Verdict, decide
from tuner.rotation.forecast import Forecast, forecast
from tuner.rotation.halving import HalvingState, PruningConfig
from tuner.rotation.promotion import Decision, Promoted, Promotion
from tuner.rotation.report import EpochReport
from tuner.rotation.target import RotationTarget

if TYPE_CHECKING:
    from tuner.rotation.layers import rotating_parameters
    from tuner.rotation.monitor import RotationMonitor

__all__ = [
    "Action",
    "Decision",
    "EpochReport",
    "Forecast",
    "HalvingState",
    "Mode",
    "Promoted",
    "Promotion",
    "PruningConfig",
    "RotationCurve",
    "RotationMonitor",
    "RotationTarget",
    "Verdict",
    "decide",
    "forecast",
    "rotating_parameters",
]


def __getattr__(name: str) -> Any:
    if name == "RotationMonitor":
        from tuner.rotation.monitor import RotationMonitor

        return RotationMonitor
    if name == "rotating_parameters":
        from tuner.rotation.layers import rotating_parameters

        return rotating_parameters
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
