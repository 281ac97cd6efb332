"""Servers of the test bed say why they did not start, and do not outlive the tests."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.testbed.processes import NotStarted, Process, free_port, listens

SLEEPER = "import time; time.sleep(60)"
# Starts a server in a folder of its own, says where and what, and then hangs.
TEST_RUN = f"""
import sys, time
from tests.testbed.processes import Process, temporary_folder
folder = temporary_folder("reaped")
server = Process("server", [sys.executable, "-c", {SLEEPER!r}], folder / "log")
server.start()
print(server.pid, folder, flush=True)
time.sleep(60)
"""


def make_process(tmp_path: Path, code: str) -> Process:
    return Process("server", [sys.executable, "-c", code], tmp_path / "log")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_that_ends_while_it_starts_is_reported_with_its_last_words(tmp_path: Path) -> None:
    process = make_process(tmp_path, "raise SystemExit('no such port')")
    process.start()

    with pytest.raises(NotStarted, match="server ended while it started:\nno such port"):
        process.wait_until(lambda: False, 20)


def test_a_server_that_is_not_ready_in_time_is_reported(tmp_path: Path) -> None:
    process = make_process(tmp_path, SLEEPER)
    process.start()

    with pytest.raises(NotStarted, match="not ready after 0 s"):
        process.wait_until(lambda: False, 0.1)
    process.kill()


def test_a_server_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    process = make_process(
        tmp_path, "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    process.start()
    process.wait_until(lambda: process.tail() == "1", 20)
    pid = process.pid

    process.stop(grace_seconds=0.2)

    assert not process.running
    assert not is_alive(pid)


def test_a_free_port_is_one_that_nobody_listens_on() -> None:
    assert not listens(free_port())


def test_servers_and_folders_go_when_the_test_run_is_killed() -> None:
    run = subprocess.Popen([sys.executable, "-c", TEST_RUN], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    pid, folder = run.stdout.readline().split()

    run.kill()
    run.communicate(timeout=10)

    deadline = time.monotonic() + 10
    while (is_alive(int(pid)) or Path(folder).exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(int(pid))
    assert not Path(folder).exists()
