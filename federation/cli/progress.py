"""Waiting for a workload with a word on how it goes: a spinner where a person watches, else a line for each change."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import typer

from federation.cli.client import Client
from federation.cli.failures import INTERRUPTED, REFUSED, Failed
from federation.cli.kinds import clusters_of, total
from federation.cli.output import note, shown

POLL_SECONDS: Final = 0.5
Row = dict[str, Any]
Say = Callable[[str], None]


def is_decided(workload: Row) -> bool:
    """Whether the newest version of the spec has been decided."""
    return int(workload["decided"]) >= int(workload["version"])


def is_running(workload: Row) -> bool:
    """Whether all that is asked for runs; where the caller deploys the pods, whether all are bound."""
    if workload["phase"] == "completed":
        return True
    figure = "ready" if workload.get("kind") else "bound"
    placed = total(workload, "replicas")
    enough = placed >= int(workload["replicas"]) and total(workload, figure) >= placed
    return is_decided(workload) and workload["phase"] == "placed" and enough


def wait_until(client: Client, workload: Row, done: Callable[[Row], bool], seconds: float) -> Row:
    """The workload once *done* holds of it, or it has failed; Failed when that takes longer than *seconds*."""
    deadline = time.monotonic() + seconds
    with spoken() as say:
        while not done(workload) and workload["phase"] != "failed":
            say(standing(workload))
            if time.monotonic() >= deadline:
                raise Failed(f"{standing(workload)}; not done in {seconds:g}s. It stays as asked.", REFUSED)
            time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
            workload = client.get(f"/v1/workloads/{workload['id']}")
    return workload


def wait_until_gone(client: Client, workloads: Sequence[Row], seconds: float) -> None:
    """Until none of *workloads* is left; Failed when that takes longer than *seconds*."""
    deadline, left = time.monotonic() + seconds, list(workloads)
    with spoken() as say:
        while left := [row for row in left if _exists(client, row)]:
            names = ", ".join(str(row["name"]) for row in left)
            say(f"{names}: deleting")
            if time.monotonic() >= deadline:
                raise Failed(f"{names}: still deleting after {seconds:g}s. It goes on without this command.", REFUSED)
            time.sleep(POLL_SECONDS)


def standing(workload: Row) -> str:
    """Where a workload stands, in a line."""
    name = workload["name"]
    if not is_decided(workload):
        return f"{name} waits for a decision"
    if workload["phase"] == "waiting":
        return shown(f"{name} waits for room: {'; '.join(workload['reasons'])}")
    ready = f"{total(workload, 'ready')} of {workload['replicas']} ready"
    return f"{name} is {workload['phase']}: {ready} ({clusters_of(workload)})"


@contextmanager
def spoken() -> Iterator[Say]:
    """A way to say how it goes."""
    if not sys.stderr.isatty():
        yield _once()
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(escape(text))


@contextmanager
def leaving_cleanly(name: str) -> Iterator[None]:
    """Ctrl-C ends the command and nothing else."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        see, end = f"`federation get workload {name} --watch`", f"`federation delete {name}`"
        note(f"\ninterrupted: {name} stays as asked. Follow it with {see}, end it with {end}.")
        raise typer.Exit(INTERRUPTED) from interrupt


def _exists(client: Client, row: Row) -> bool:
    try:
        client.get(f"/v1/workloads/{row['id']}")
    except Failed as failure:
        if failure.slug == "not-found":
            return False
        raise
    return True


def _once() -> Say:
    said: list[str] = []

    def say(text: str) -> None:
        if said[-1:] != [text]:
            said[:] = [text]
            note(text)

    return say
