"""Several hosts on this one, out of namespaces: each with its own network, processes and folders.

`ray stop` finds processes by their names, and Ray keeps sockets under /tmp and objects in /dev/shm:
all of that is a host's own here. What is installed is shared with the machine, and one folder is
shared by all hosts, as on a cluster with NFS.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
SHARED = Path("/mnt/quarterturn")
_NET = "10.77.0"
# What a host has for itself; the rest of the file system is the machine's.
_OWN = ("/tmp", "/home", "/run", "/mnt", "/dev/shm", "/srv")


def missing(*more: tuple[str, str]) -> str:
    """Return what this machine lacks for making hosts; empty if nothing.

    Args:
        more: other programs that the hosts need, each with its package.
    """
    lacks = [
        f"{program} ({package})"
        for program, package in (
            ("ip", "iproute2"),
            ("sshd", "openssh-server"),
            ("ssh", "openssh-client"),
            ("rsync", "rsync"),
            ("unshare", "util-linux"),
            *more,
        )
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    ]
    if os.geteuid() != 0:
        lacks.insert(0, "root, which alone may make network namespaces")
    return ", ".join(lacks)


class Host:
    """One host: a process that is the first of its own, and all that it has started."""

    def __init__(self, name: str, address: str, net: str, folder: Path) -> None:
        self.name = name
        self.address = address
        self._net = net
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Boot it, and wait until its sshd answers."""
        boot = self._folder / f"boot-{self.name}.sh"
        boot.write_text(_boot(self.name, self._folder))
        own = ("--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc")
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self._net, "unshare", *own, "bash", boot],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"},
            )
        until = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} does not boot: {self.log()}")
            time.sleep(0.1)

    def log(self) -> str:
        """Return what its boot and its sshd have said."""
        return (self._folder / f"{self.name}.log").read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """Kill everything on it at once, as a power cut does."""
        if self._process is not None and self._process.poll() is None:
            for child in _children(self._process.pid):
                os.kill(child, signal.SIGKILL)
            self._process.kill()
            self._process.wait(timeout=30)

    def run(
        self, command: str, *, timeout_s: float = 120, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a login shell on the host, in its home folder."""
        ended = subprocess.run(
            [*self._enter(), "bash", "-lc", f"cd; {command}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            # Linux shares the CPU between sessions: what a test asks must not slow a host's Ray.
            start_new_session=True,
            env={"HOME": "/home/quarterturn", "TERM": "dumb", "LANG": "C.UTF-8", "USER": "root"},
        )
        if check and ended.returncode:
            raise RuntimeError(f"{self.name}$ {command}\n{ended.stdout}\nexit {ended.returncode}")
        return ended

    def processes(self, name: str) -> list[str]:
        """Return the command lines on it that contain a name."""
        listed = self.run(f"pgrep -af -- {shlex.quote(name)}", check=False).stdout
        return [line for line in listed.splitlines() if "pgrep" not in line]

    def _enter(self) -> list[str]:
        assert self._process is not None, "the host was never started"
        (first,) = _children(self._process.pid)
        return ["nsenter", "--target", str(first), "--all"]

    def _answers(self) -> bool:
        probe = ["ip", "netns", "exec", self._net, "bash", "-c", f"</dev/tcp/{self.address}/22"]
        return subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0


class Hosts:
    """Hosts on one network of their own; all are gone when the context ends, however it does.

    Args:
        names: the first is made first; each gets the next address.
        folder: for keys, logs and what they share.
    """

    def __init__(self, names: tuple[str, ...], folder: Path) -> None:
        self._folder = folder
        self._mark = f"qt{os.getpid()}"
        self._nets = [self._mark]
        self.hosts = {
            name: Host(name, f"{_NET}.{number}", f"{self._mark}-{name}", folder)
            for number, name in enumerate(names, start=10)
        }

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    @property
    def shared(self) -> Path:
        """The folder that all hosts see at `SHARED`."""
        return self._folder / "shared"

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def _make(self) -> None:
        self.shared.mkdir(parents=True)
        for key in ("key", "host_key"):
            _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / key))
        _do("ip", "netns", "add", self._mark)
        _do("ip", "-n", self._mark, "link", "add", "switch", "type", "bridge")
        _do("ip", "-n", self._mark, "link", "set", "switch", "up")
        for number, host in enumerate(self.hosts.values()):
            net, port = f"{self._mark}-{host.name}", f"port{number}"
            _do("ip", "netns", "add", net)
            self._nets.append(net)
            peer = ("peer", "name", "eth0", "netns", net)
            _do("ip", "-n", self._mark, "link", "add", port, "type", "veth", *peer)
            _do("ip", "-n", self._mark, "link", "set", port, "master", "switch", "up")
            _do("ip", "-n", net, "address", "add", f"{host.address}/24", "dev", "eth0")
            _do("ip", "-n", net, "link", "set", "eth0", "up")
            _do("ip", "-n", net, "link", "set", "lo", "up")
            # Ray asks which of its addresses leads to the world.
            _do("ip", "-n", net, "route", "add", "default", "via", f"{_NET}.1")

    def end(self) -> None:
        """Kill all hosts and remove their networks; may be called again."""
        for host in self.hosts.values():
            host.kill()
        while self._nets:
            subprocess.run(["ip", "netns", "delete", self._nets.pop()], check=False)


def _boot(name: str, folder: Path) -> str:
    """Return the script that a host's first process runs."""
    kept = [ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    hidden = [path for path in dict.fromkeys(kept) if str(path).startswith(_OWN)]
    lines = ["set -eu", "mount --make-rprivate /", "mount -t tmpfs srv /srv"]
    # What is installed may lie where the host gets a folder of its own: put it aside, and back.
    for number, path in enumerate([*hidden, folder]):
        aside = f"/srv/{number}"
        lines.append(f"mkdir {aside} && mount --bind {shlex.quote(str(path))} {aside}")
    lines += [f"mount -t tmpfs own {own}" for own in _OWN if own not in ("/srv", "/dev/shm")]
    lines.append("mount -t tmpfs -o size=8g shm /dev/shm")
    for number, path in enumerate(hidden):
        at = shlex.quote(str(path))
        lines.append(f"mkdir -p {at} && mount --bind /srv/{number} {at}")
        lines.append(f"mount -o remount,bind,ro {at}")
    keys = f"/srv/{len(hidden)}"
    lines += [
        f"hostname {name}",
        f"mkdir -p {SHARED} && mount --bind {keys}/shared {SHARED}",
        "mkdir -p /run/sshd /home/quarterturn/.ssh /home/quarterturn/quarterturn/bin",
        "chmod 700 /home/quarterturn/.ssh",
        f"cp {keys}/key.pub /home/quarterturn/.ssh/authorized_keys",
        f"cp {keys}/key /home/quarterturn/.ssh/id_ed25519",
        f"cp {keys}/host_key /run/sshd/host_key",
        "chmod 600 /run/sshd/host_key /home/quarterturn/.ssh/*",
        # What `setup_commands` would install.
        f"echo 'export PATH={sys.prefix}/bin:$PATH PYTHONPATH={ROOT} RAY_USAGE_STATS_ENABLED=0' "
        "> /home/quarterturn/quarterturn/bin/activate",
        # A home of its own: /root may be where Python is.
        "sed 's,^root:.*,root:x:0:0::/home/quarterturn:/bin/bash,' /etc/passwd > /run/passwd",
        "mount --bind /run/passwd /etc/passwd",
        "touch /home/quarterturn/.bashrc",
        "exec /usr/sbin/sshd -D -e -f /dev/null -h /run/sshd/host_key -o UsePAM=no "
        "-o PermitRootLogin=yes -o PidFile=none -o StrictModes=no "
        "-o Subsystem='sftp internal-sftp' -o MaxStartups=100",
    ]
    return "\n".join(lines) + "\n"


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def _do(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {ended.stderr.strip()}")
