"""Text from a study as it may be shown: names and reasons are whatever someone has stored."""

from __future__ import annotations

import unicodedata

_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, direction marks, line separators


def one_line(text: str) -> str:
    """Return the text on one line without anything that moves a cursor or turns the writing."""
    blanked = " ".join(text.split())
    return "".join(char for char in blanked if unicodedata.category(char) not in _HIDDEN)
