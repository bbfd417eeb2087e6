"""What all tests share: none uses a Ray cluster that happens to run on this machine."""

from __future__ import annotations

import os

os.environ["RAY_ADDRESS"] = "local"
