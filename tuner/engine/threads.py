"""As many CPU threads for a trial's process as the trial reserves CPUs."""

from __future__ import annotations

import os
import sys


def use_threads(cpus: float) -> None:
    """Have this process compute on `cpus` threads, rounded down, and on one at least.

    Ray sets OMP_NUM_THREADS alike, but not where the user's shell has set it, for a machine whose
    trials were one; and torch reads it once, so not in a process that has computed before.
    """
    threads = max(1, int(cpus))
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:  # else it reads the variable when a trial imports it
        import torch

        torch.set_num_threads(threads)
