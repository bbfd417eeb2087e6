"""Layer rotation: measure it, keep its curve, forecast its end, decide on it.

Needs torch and numpy, and nothing of the tuning service around it. torch only to measure: what
reads curves and decides on them does not wait for its import.
"""

from typing import TYPE_CHECKING, Any

from tuner.rotation.curve import Mode, RotationCurve
from tuner.rotation.field import Criteria, Field
from tuner.rotation.forecast import Forecast, forecast
from tuner.rotation.target import RotationTarget
from tuner.rotation.verdict import Verdict, decide

if TYPE_CHECKING:
    from tuner.rotation.layers import kernels
    from tuner.rotation.monitor import RotationMonitor

__all__ = [
    "Criteria",
    "Field",
    "Forecast",
    "Mode",
    "RotationCurve",
    "RotationMonitor",
    "RotationTarget",
    "Verdict",
    "decide",
    "forecast",
    "kernels",
]


def __getattr__(name: str) -> Any:
    if name == "RotationMonitor":
        from tuner.rotation.monitor import RotationMonitor

        return RotationMonitor
    if name == "kernels":
        from tuner.rotation.layers import kernels

        return kernels
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
