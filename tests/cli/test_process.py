"""The program as a process: how it starts, completes, watches and is interrupted."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.cli.builders import WEB, make_cluster, make_placement, make_workload
from tests.cli.server import Said, Server, page

ROOT = Path(__file__).parents[2]
LIST = "GET /v1/workloads?limit=500"
HEAVY = ("aiohttp", "http.client", "msgspec", "numpy", "rich", "sqlalchemy", "yaml")


def environment(server: Server | None = None, **extra: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_")}
    return {**plain, "PYTHONPATH": str(ROOT), **({"FEDERATION_SERVER": server.url} if server else {}), **extra}


def start(server: Server, *arguments: str) -> "subprocess.Popen[str]":
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "federation", *arguments], env=environment(server), **pipes)


def completed(words: str, position: int, env: dict[str, str]) -> list[str]:
    asked = {"_FEDERATION_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    run = subprocess.run(
        [sys.executable, "-m", "federation"], env={**env, **asked}, capture_output=True, text=True, timeout=30
    )
    return run.stdout.split()


def wait_for(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.05)


def test_the_command_line_starts_without_what_only_some_commands_need():
    script = f"import federation.cli, sys; print(sorted(set({HEAVY!r}) & set(sys.modules)))"

    run = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=30)

    assert run.stdout == "[]\n"


def test_kinds_commands_and_names_are_completed(server: Server):
    server.answer(LIST, page(make_workload(), make_workload(name="worker"), make_workload(name="api")))
    server.answer("GET /v1/clusters", page(make_cluster("east"), make_cluster("west")))
    env = environment(server)

    assert completed("federation desc", 1, env) == ["describe"]
    assert completed("federation get cl", 2, env) == ["clusters"]
    assert completed("federation get clusters ", 3, env) == ["east", "west"]
    assert completed("federation explain w", 2, env) == ["web", "worker"]


def test_completion_without_a_server_is_empty_and_quick():
    began = time.monotonic()

    found = completed("federation explain w", 2, environment(FEDERATION_SERVER="http://127.0.0.1:1"))

    assert found == []
    assert time.monotonic() - began < 10


def test_watching_writes_what_changed_until_interrupted(server: Server):
    first, second = make_workload(make_placement("east", 2, ready=0)), make_workload(make_placement("east", 2))
    other = make_workload(name="api")
    server.answer(LIST, page(first, other), page(first, other), page(second, other))

    with start(server, "get", "workloads", "--watch") as process:
        wait_for(lambda: len([asked for asked in server.asked if asked.target.startswith("/v1/workloads")]) > 3)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)

    assert out == (
        "NAME   TEAM   PHASE    REPLICAS   READY   HELD   CLUSTERS   AGE\n"
        "web    shop   placed   2          0       0      east:2     20h\n"
        "api    shop   placed   0          0       0      -          20h\n"
        "web    shop   placed   2          2       0      east:2     20h\n"
    )
    assert process.returncode == 130


def test_an_interrupted_wait_leaves_the_workload_and_says_so(server: Server):
    starting = make_workload(make_placement("east", 2, ready=0))
    server.answer("POST /v1/workloads", Said(starting, 201)).answer(f"GET /v1/workloads/{WEB}", starting)

    with start(server, "place", "web", "--wait") as process:
        wait_for(lambda: len(server.sent("GET")) > 1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)

    assert err == (
        "web is placed: 0 of 2 ready (east:2)\n"
        "\n"
        "interrupted: web stays as asked. Follow it with `federation get workload web --watch`, "
        "end it with `federation delete web`.\n"
    )
    assert (out, process.returncode) == ("", 130)
    assert server.sent("DELETE") == []


def test_a_person_at_a_terminal_sees_one_moving_line(server: Server):
    starting, running = make_workload(make_placement("east", 2, ready=0)), make_workload(make_placement("east", 2))
    server.answer("POST /v1/workloads", Said(starting, 201)).answer(f"GET /v1/workloads/{WEB}", starting, running)
    screen, terminal = pty.openpty()
    words = [sys.executable, "-m", "federation", "place", "web", "--wait"]

    env = environment(server, TERM="xterm", COLUMNS="100")
    run = subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=terminal, text=True, timeout=30)
    os.close(terminal)
    seen = os.read(screen, 65_536).decode()
    os.close(screen)

    assert (run.stdout, run.returncode) == ("workload/web placed: east 2\n", 0)
    assert "web is placed: 0 of 2 ready (east:2)" in seen
    assert "\x1b[?25h" in seen  # the cursor is there again


def test_the_version_is_told():
    run = subprocess.run(
        [sys.executable, "-m", "federation", "--version"], env=environment(), capture_output=True, text=True, timeout=30
    )

    assert run.stdout.startswith("federation ")
    assert run.returncode == 0
