"""The command in this process, which has a Ray already: 10 s of a CPU less than in its own."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import tuner.cli


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str


def run_here(*arguments: str, cwd: Path) -> Said:
    """Run `quarterturn` with these arguments as its entry point does, in this folder."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["quarterturn", *map(str, arguments)])
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        end = stack.enter_context(pytest.raises(SystemExit))
        tuner.cli.main()
    return Said(end.value.code or 0, out.getvalue(), err.getvalue())
