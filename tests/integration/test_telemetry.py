"""Logs as they leave the process: one form for all, and nothing that floods or gives away."""

import json
import subprocess
import sys

SETUP = """
import logging, structlog
from adapters.telemetry import set_up_logs
set_up_logs({form!r}, "info")
log, theirs = structlog.get_logger("ours"), logging.getLogger("aiokafka")
"""


def logged(form: str, *lines: str) -> list[str]:
    """What a process logs that runs *lines*."""
    script = "\n".join((SETUP.format(form=form), *lines))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    return run.stderr.splitlines()


def test_what_libraries_log_is_json_too_where_json_is_asked_for():
    ours, theirs = logged("json", "log.info('begins', cluster='east')", "theirs.error('node %s is away', 1)")

    assert {"event": "begins", "cluster": "east", "level": "info"}.items() <= json.loads(ours).items()
    expected = {"event": "node 1 is away", "logger": "aiokafka", "level": "error"}
    assert expected.items() <= json.loads(theirs).items()


def test_a_library_that_repeats_itself_is_heard_once_and_what_differs_is_heard_beside_it():
    lines = logged(
        "console",
        "for n in range(500): theirs.error('node %s is away', n)",
        "theirs.error('the group has no coordinator')",
        "for n in range(3): log.info('begins')",
    )

    assert [line.count("is away") for line in lines] == [1, 0, 0, 0, 0]
    assert "coordinator" in lines[1]


def test_a_traceback_tells_where_and_not_with_what():
    text = "\n".join(
        logged(
            "console",
            "def connect(password):",
            "    return 1 / 0",
            "try:",
            "    connect('hunter2')",
            "except ZeroDivisionError as error:",
            "    log.error('failed', exc_info=error)",
        )
    )

    assert "ZeroDivisionError" in text
    assert "hunter2" not in text
