"""Ends of a command that is not done: what to say, and the exit status that goes with it."""

from collections.abc import Mapping
from typing import Any, Final

REFUSED: Final = 1
USAGE: Final = 2
NO_SERVER: Final = 3
INTERRUPTED: Final = 130


class Failed(Exception):
    """The command ends with *status*; the message says what happened and what to do next."""

    def __init__(self, message: str, status: int = REFUSED, *, slug: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.slug = slug


def no_server(server: str, reason: str) -> Failed:
    """Nothing answers at *server*."""
    advice = "Start one with `federation up`, or name yours with --server."
    return Failed(f"no server at {server} ({reason}). {advice}", NO_SERVER)


def refused(problem: Mapping[str, Any], status: int) -> Failed:
    """What a problem document (RFC 9457) says, for people."""
    slug = str(problem.get("type", "")).rpartition(":")[2]
    title, detail = str(problem.get("title") or f"HTTP {status}"), str(problem.get("detail") or "")
    heading = f"{title}: {detail}" if detail and detail != title else title
    pointer = [f"  at {problem['pointer']}"] if problem.get("pointer") else []
    lines = [heading, *pointer, *_advice(status, problem)]
    return Failed("\n".join(lines), slug=slug)


def _advice(status: int, problem: Mapping[str, Any]) -> list[str]:
    if status == 401:
        return ["Give a token with --token or FEDERATION_TOKEN."]
    if status >= 500 and problem.get("requestId"):
        return [f"The server's log has it under request id {problem['requestId']}."]
    return []
