"""Layer rotation: measure it, keep its curve, forecast its end, decide on it.

Needs torch and numpy, and nothing of the tuning service around it. torch only to measure: what
reads curves and decides on them does not wait for its import.
"""

from typing import TYPE_CHECKING, Any

from tuner.rotation.curve import Mode, RotationCurve
from tuner.rotation.decision import Verdict, decide
from tuner.rotation.forecast import Forecast, forecast
from tuner.rotation.halving import HalvingState, PruningConfig
from tuner.rotation.target import RotationTarget

if TYPE_CHECKING:
    from tuner.rotation.layers import rotating_parameters
    from tuner.rotation.monitor import RotationMonitor

__all__ = [
    "Forecast",
    "HalvingState",
    "Mode",
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
