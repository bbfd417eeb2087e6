"""What was typed and what came of it, to be read by a person."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from hosts import Host

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_WIDEST = 180
_WHEN = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+\t(INFO|SUCC) \w+\.py:\d+ -- ")


class Transcript:
    """Runs commands on hosts and writes down both sides, long outputs trimmed.

    Args:
        path: where to.
        secrets: replaced by <token> wherever they appear.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.secrets: list[str] = []
        self._before: dict[str, str] = {}
        path.write_text("")

    def start_in(self, host: Host, folder: str) -> None:
        """Run a host's commands in a folder from now on."""
        self._before[host.name] = f"{self._before.get(host.name, '')}cd {folder}; "

    def export(self, host: Host, assignment: str) -> None:
        """Set a variable for a host's commands from now on."""
        self.say(f"{host.name}$ export {assignment}")
        self._before[host.name] = f"{self._before.get(host.name, '')}export {assignment}; "

    def run(
        self,
        host: Host,
        command: str,
        *,
        shown: str = "",
        lines: int = 12,
        only: str = "",
        timeout_s: float = 180,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host and write it down.

        Args:
            host: where.
            command: what.
            shown: written instead of the command.
            lines: of its output are written, half of them from its end.
            only: lines that match this are.
            timeout_s: for it to end.
            check: that it succeeds.
        """
        before = self._before.get(host.name, "")
        activated = f". ~/quarterturn/bin/activate; {before}{command}"
        ended = host.run(activated, timeout_s=timeout_s, check=False)
        ended.stdout = _COLOURS.sub("", ended.stdout)
        said = [_WHEN.sub("", line).rstrip() for line in ended.stdout.rstrip().splitlines()]
        said = [line for line in said if re.search(only, line)]
        if len(said) > lines:
            half = lines // 2
            said = [*said[:half], f"[{len(said) - 2 * half} lines]", *said[-half:]]
        said = [line if len(line) <= _WIDEST else f"{line[:_WIDEST]} [...]" for line in said]
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
