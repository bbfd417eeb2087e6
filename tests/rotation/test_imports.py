"""The science stands on torch and numpy alone."""

import subprocess
import sys


def test_importing_rotation_loads_neither_ray_nor_optuna_nor_pandas():
    script = (
        "import sys, tuner.rotation; "
        "print(*sorted({'ray', 'optuna', 'pandas', 'torch'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.split() == ["torch"]


def test_every_public_name_is_there():
    import tuner.rotation

    assert all(hasattr(tuner.rotation, name) for name in tuner.rotation.__all__)
    assert callable(tuner.rotation.forecast)
