"""What was typed and what came of it, to be read by a person."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from hosts import Host

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Transcript:
    """Runs commands on hosts and writes down both sides, long outputs trimmed.

    Args:
        path: where to.
        secrets: replaced by <token> wherever they appear.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.secrets: list[str] = []
        path.write_text("")

    def run(
        self,
        host: Host,
        command: str,
        *,
        shown: str = "",
        lines: int = 12,
        timeout_s: float = 180,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host; `shown` is written instead, `lines` of its output are."""
        activated = f". ~/quarterturn/bin/activate; {command}"
        ended = host.run(activated, timeout_s=timeout_s, check=False)
        ended.stdout = _COLOURS.sub("", ended.stdout)
        said = ended.stdout.rstrip().splitlines()
        if len(said) > lines:
            half = lines // 2
            said = [*said[:half], f"[{len(said) - 2 * half} lines]", *said[-half:]]
        self.say(f"{host.name}$ {shown or command}", *said)
        if check:
            assert ended.returncode == 0, ended.stdout
        return ended

    def say(self, *lines: str) -> None:
        """Write lines down."""
        text = "\n".join(lines) + "\n"
        for secret in self.secrets:
            text = text.replace(secret, "<token>")
        with self._path.open("a") as file:
            file.write(text)
