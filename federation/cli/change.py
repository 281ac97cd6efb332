"""Commands that change what is on record: scale, delete, renew, cordon, uncordon."""

from typing import Annotated, Final

import typer

from federation.cli import complete
from federation.cli.options import Connection, Patience, Scope, Session, command
from federation.cli.output import say

PANEL: Final = "Change"
Workload = Annotated[
    str, typer.Argument(metavar="NAME", help="Name or id of a workload.", autocompletion=complete.workloads)
]
Workloads = Annotated[
    list[str], typer.Argument(metavar="NAME...", help="Names or ids of workloads.", autocompletion=complete.workloads)
]
Clusters = Annotated[
    list[str], typer.Argument(metavar="CLUSTER...", help="Names of clusters.", autocompletion=complete.clusters)
]
Replicas = Annotated[int, typer.Option("--replicas", min=0, max=100_000, help="How many pods there shall be.")]


def register(app: typer.Typer) -> None:
    """Add the changing commands."""
    for function in (scale, delete, renew, cordon, uncordon):
        command(app, PANEL)(function)


def scale(name: Workload, replicas: Replicas, session: Session, scope: Scope, patience: Patience) -> None:
    """Change how many replicas a workload has."""
    from federation.cli import fetch, outcome
    from federation.cli.client import Request
    from federation.cli.progress import leaving_cleanly

    seconds, client = patience.seconds, session.client()
    path = f"/v1/workloads/{fetch.workload(client, name, scope.team)['id']}"
    wait = outcome.decision_wait(patience.wait)
    with leaving_cleanly(name):
        request = Request(method="PATCH", path=path, body={"replicas": replicas}, wait_seconds=wait)
        outcome.follow(client, client.call(request).body, patience.wait, seconds)
    outcome.show(client.get(path), session.output, patience.wait)


def delete(names: Workloads, connection: Connection, scope: Scope, patience: Patience) -> None:
    """End workloads: their pods go, and what they held is free again."""
    from federation.cli import fetch
    from federation.cli.client import Request
    from federation.cli.progress import wait_until_gone

    seconds, client = patience.seconds, connection.client()
    rows = [fetch.workload(client, name, scope.team) for name in names]
    for row in rows:
        client.call(Request(method="DELETE", path=f"/v1/workloads/{row['id']}"))
    if patience.wait is not False:
        wait_until_gone(client, rows, seconds)
    for row in rows:
        say(f"workload/{row['name']} {'deleting' if patience.wait is False else 'deleted'}")


def renew(names: Workloads, connection: Connection, scope: Scope) -> None:
    """Keep the room of workloads whose pods you deploy yourself."""
    from federation.cli import fetch
    from federation.cli.client import Request

    client = connection.client()
    for row in [fetch.workload(client, name, scope.team) for name in names]:
        answer = client.call(Request(method="POST", path=f"/v1/workloads/{row['id']}/renewal")).body
        say(f"workload/{row['name']} renewed until {answer.get('leaseUntil')}")


def cordon(names: Clusters, connection: Connection) -> None:
    """Let clusters take nothing new; what runs there stays."""
    _set_cordoned(names, connection, cordoned=True)


def uncordon(names: Clusters, connection: Connection) -> None:
    """Let cordoned clusters take workloads again."""
    _set_cordoned(names, connection, cordoned=False)


def _set_cordoned(names: list[str], connection: Connection, *, cordoned: bool) -> None:
    from federation.cli.client import Request, segment

    client = connection.client()
    for name in names:
        client.call(Request(method="PATCH", path=f"/v1/clusters/{segment(name)}", body={"cordoned": cordoned}))
        say(f"cluster/{name} {'cordoned' if cordoned else 'uncordoned'}")
