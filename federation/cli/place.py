"""Commands that ask for placement: place, and plan, which only asks what would happen."""

from dataclasses import dataclass
from typing import Annotated, Final

import typer

from federation.cli.options import Patience, Session, command
from federation.cli.request import Places, Pods

PANEL: Final = "Change"
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the workload. Default: that of the file.", show_default=False)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing(Patience):
    """How to ask."""

    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen, as `plan` does.")] = False
    replace: Annotated[bool, typer.Option("--replace", help="Put this in the place of a workload of that name.")] = (
        False
    )


def register(app: typer.Typer) -> None:
    """Add the placing commands."""
    command(app, PANEL)(place)
    command(app, PANEL)(plan)


def place(session: Session, pods: Pods, places: Places, placing: Placing, name: Name = "") -> None:
    """Ask for a workload to run: give a NAME and what its pods need, or a manifest with -f."""
    from federation.cli import outcome
    from federation.cli.output import note
    from federation.cli.progress import leaving_cleanly
    from federation.cli.request import body_of

    seconds = placing.seconds
    body, client = body_of(name, pods, places), session.client()
    if placing.dry_run:
        outcome.plan(client, body, session.output)
        return
    with leaving_cleanly(body["name"]):
        request = outcome.request_for(client, body, replace=placing.replace, wait=placing.wait)
        workload = outcome.send(client, request)
        for text in workload.get("notes", ()):
            note(f"note: {text}")
        outcome.follow(client, workload, placing.wait, seconds)
    outcome.show(client.get(f"/v1/workloads/{workload['id']}"), session.output, placing.wait)


def plan(session: Session, pods: Pods, places: Places, name: Name = "") -> None:
    """Say where a workload would go, and why; nothing is written or held."""
    from federation.cli import outcome
    from federation.cli.request import body_of

    outcome.plan(session.client(), body_of(name, pods, places), session.output)
