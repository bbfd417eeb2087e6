"""The error that ended a trial: its last line, the place in the user's code, and the traceback."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from pathlib import Path

from ray.exceptions import RayActorError, RayTaskError

from tuner.errors import InvalidInput

_FRAME = re.compile(r'^ *File "([^"]+)", line (\d+), in (.+)$', re.MULTILINE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PROJECT = Path(__file__).parents[2]
_OURS = tuple(str(_PROJECT / name) + "/" for name in ("tuner", "trainables", "search_spaces"))
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python3", "<frozen ")
_ERROR = re.compile(r"[\w.]*(?:Error|Exception|Interrupt): ")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class TrialError:
    """Why a trial failed.

    Attributes:
        line: the error in one line; the first sentence of the trial's reason.
        place: where the user's own code raised it or called what raised it, such as
            "mine.py line 14, in build_model"; empty if no such frame is known.
        text: the whole traceback; empty if there is none.
    """

    line: str
    place: str = ""
    text: str = ""

    @classmethod
    def of(cls, error: BaseException | None) -> TrialError:
        """Return what is known of an error, which Ray may have wrapped."""
        cause = getattr(error, "cause", None) or error
        if cause is None:
            return cls("it crashed without an error message")
        text = _traceback(error) or _traceback(cause)
        if isinstance(cause, InvalidInput):
            return cls(str(cause), _place(text), text)
        lines = [line for line in str(cause).strip().splitlines() if line.strip()]
        if isinstance(cause, RayActorError) and lines and _ERROR.match(lines[-1]):
            return cls(lines[-1], _place(text), text)  # of the constructor or of `setup`
        return cls(
            f"{type(cause).__name__}: {lines[-1] if lines else 'no message'}", _place(text), text
        )

    @property
    def reason(self) -> str:
        """The reason of the trial: the line, and then the place."""
        return f"{self.line.removesuffix('.')}. In {self.place}." if self.place else self.line

    @property
    def kind(self) -> str:
        """The line and the place without numbers. Two errors of one kind have the same text."""
        return _NUMBER.sub("#", self.line) + self.place


def _traceback(error: BaseException | None) -> str:
    """Return a traceback as text; of a `RayTaskError` that of the trial's process."""
    if isinstance(error, RayTaskError):
        return _COLOUR.sub("", str(error)).strip()
    if error is None or error.__traceback__ is None:
        return ""
    return _COLOUR.sub("", "".join(traceback.format_exception(error))).strip()


def _place(text: str) -> str:
    """Return the innermost frame of a traceback that is in no library and not in this project."""
    frames = [
        (path, line, function)
        for path, line, function in _FRAME.findall(text)
        if not path.startswith(_OURS) and not any(part in path for part in _LIBRARIES)
    ]
    if not frames:
        return ""
    path, line, function = frames[-1]
    return f"{Path(path).name} line {line}, in {function}"
