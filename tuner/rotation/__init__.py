"""Layer rotation: measure it, keep its curve, forecast its end, decide on it.

Needs torch and numpy, and nothing of the tuning service around it.
"""

from tuner.rotation.curve import RotationCurve
from tuner.rotation.forecast import Forecast, forecast
from tuner.rotation.layers import kernels
from tuner.rotation.monitor import RotationMonitor
from tuner.rotation.target import RotationTarget
from tuner.rotation.verdict import Peer, Verdict, decide

__all__ = [
    "Forecast",
    "Peer",
    "RotationCurve",
    "RotationMonitor",
    "RotationTarget",
    "Verdict",
    "decide",
    "forecast",
    "kernels",
]
