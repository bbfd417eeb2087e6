"""Numbers and curves that are the same to the precision of float32."""

from __future__ import annotations

from typing import Any

import pytest

from tuner.rotation import RotationCurve


def close(value: Any) -> Any:
    return pytest.approx(value, rel=1e-6, abs=1e-30, nan_ok=True)


def assert_same(curve: RotationCurve, expected: RotationCurve) -> None:
    assert (curve.layers, curve.max_epochs) == (expected.layers, expected.max_epochs)
    assert curve.epochs == expected.epochs
    for name in ("lr_progress", "train_loss", "metric"):
        assert getattr(curve, name) == close(getattr(expected, name))
    assert len(curve.distances) == len(expected.distances)
    for distances, others in zip(curve.distances, expected.distances, strict=True):
        assert distances == close(others)
