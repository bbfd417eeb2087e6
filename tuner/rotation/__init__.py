"""Layer rotation: measure it, keep its curve, forecast its end, decide on it.

It needs numpy, and torch only to measure. It needs nothing of the tuning service around it.
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
