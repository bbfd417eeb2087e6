"""Advice as text for a terminal or a file, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from tuner.report.advice.study_view import Advice
from tuner.report.formatting import one_line

NONE = "no advice: the trials so far show no significant effect"


def print_advice(found: Sequence[Advice], console: Console) -> None:
    """Print each piece of advice: its title, evidence, action and configuration."""
    if not found:
        console.print(Text(NONE), soft_wrap=not console.is_terminal)
    for number, piece in enumerate(found, start=1):
        _print(f"{number}. {piece.title}", console, style="bold")
        _print(f"why: {piece.evidence}", console, indent=3)
        _print(f"how: {piece.action}", console, indent=3)
        if piece.setting is not None:
            setting = "  ".join(f"{name}={_short(value)}" for name, value in piece.setting.items())
            _print(f"try: {setting}", console, indent=3, style="dim")


def advice_json(found: Sequence[Advice]) -> str:
    """Return the advice as one JSON list. NaN and infinite parameters are null."""
    pieces = [asdict(piece) for piece in found]
    for piece in pieces:
        for name, value in (piece["params"] or {}).items():
            if isinstance(value, float) and not math.isfinite(value):
                piece["params"][name] = None
    return json.dumps(pieces, indent=1)


def _print(text: str, console: Console, indent: int = 0, style: str = "") -> None:
    line = Text(one_line(text), style=style)
    if console.is_terminal:
        console.print(Padding(line, (0, 0, 0, indent)))
    else:
        console.print(Text(" " * indent) + line, soft_wrap=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
