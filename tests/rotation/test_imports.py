"""The science stands on torch and numpy alone."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("statement", "loaded"),
    [
        ("import tuner.rotation", []),
        ("from tuner.rotation import RotationMonitor", ["torch"]),
    ],
)
def test_rotation_loads_neither_ray_nor_optuna_nor_pandas_and_torch_to_measure(statement, loaded):
    script = (
        f"import sys; {statement}; "
        "print(*sorted({'ray', 'optuna', 'pandas', 'torch'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.split() == loaded


def test_every_public_name_is_there():
    import tuner.rotation

    assert all(hasattr(tuner.rotation, name) for name in tuner.rotation.__all__)
    assert callable(tuner.rotation.forecast)
