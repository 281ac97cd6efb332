"""What every part of the test bed shares: servers in a group of their own, ports, waiting, folders that go away."""

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock

TAIL_LINES = 25
# Below the range from which the system takes ports of outgoing connections: a port stays free while its server is down.
PORTS = range(18000, 32000)

# Reads "+ group", "- group" and "d folder" lines; when its input ends, for whatever reason, it kills and clears up what
# is left. So that nothing survives a test run that is killed.
REAPER = """
import os, shutil, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
groups, folders = set(), set()
for line in sys.stdin:
    what, _, value = line.rstrip("\\n").partition(" ")
    if what == "+":
        groups.add(int(value))
    elif what == "-":
        groups.discard(int(value))
    else:
        folders.add(value)
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


class NotStarted(Exception):
    """A server did not come up; the message ends with the tail of its log."""


class Reaper:
    """A process beside the tests that ends what they started, however they end."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None

    def tell(self, line: str) -> None:
        """Tell the reaper of a group ("+ 17", "- 17") or of a folder ("d path"); starts it when it is not there."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                command = [sys.executable, "-c", REAPER]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
            assert self._process.stdin is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End its input and wait for it to clear up."""
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()
                self._process.wait(timeout=30)


REAPER_PROCESS = Reaper()
atexit.register(REAPER_PROCESS.close)


class Process:
    """One server process in a group of its own, with its log in a file."""

    def __init__(self, name: str, argv: Sequence[str | Path], log: Path, user: str | None = None) -> None:
        self.name = name
        self.argv = [str(word) for word in argv]
        self.log = log
        self.user = user
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int:
        """The process's number; it leads the group of the same number."""
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.pid

    def start(self, env: Mapping[str, str] | None = None) -> None:
        """Start it; returns at once."""
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.log.parent,
                env={**os.environ, **(env or {})},
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )
        REAPER_PROCESS.tell(f"+ {self.pid}")

    def stop(self, sign: signal.Signals = signal.SIGTERM, grace_seconds: float = 8) -> None:
        """Ask it to end, and kill its group when it has not ended in time."""
        if self._popen is None:
            return
        self._signal(sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=grace_seconds)
        self.kill()

    def kill(self) -> None:
        """End it and its children now, as a power cut would."""
        if self._popen is None:
            return
        self._signal(signal.SIGKILL)
        self._popen.wait(timeout=10)
        REAPER_PROCESS.tell(f"- {self.pid}")
        self._popen = None

    def pause(self) -> None:
        """Freeze it: it holds its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after a pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, sign: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, sign)

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-TAIL_LINES:])

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Wait until *ready*, and raise with the log's tail when it ends or time runs out before."""
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if not self.running:
                raise NotStarted(f"{self.name} ended while it started:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise NotStarted(f"{self.name} was not ready after {timeout_seconds:.0f} s:\n{self.tail()}")
            time.sleep(0.05)


def free_port() -> int:
    """A loopback port that nobody listens on, and that no outgoing connection will take."""
    for port in random.sample(PORTS, k=200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise NotStarted("no free port among 200 tried")


def listens(port: int) -> bool:
    """Whether somebody accepts connections on the loopback *port*."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def temporary_folder(name: str) -> Path:
    """A new folder that is gone when this process is, however it ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"federation-{name}-"))
    REAPER_PROCESS.tell(f"d {folder}")
    return folder


def remove_folder(folder: Path) -> None:
    """Take the folder away now; what cannot be removed waits for the end of the process."""
    shutil.rmtree(folder, ignore_errors=True)
