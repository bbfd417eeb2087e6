"""`python -m tuner`: the command `quarterturn`, where only the packages are, as on a cluster."""

from __future__ import annotations

import sys

try:
    from tuner.cli import main
except ModuleNotFoundError as missing:
    sys.exit(
        f"quarterturn: {sys.executable} must have the package {missing.name}, it has none; "
        "pip install quarterturn there, on a cluster on every node"
    )

main()
