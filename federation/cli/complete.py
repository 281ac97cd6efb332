"""Names completed from the server, in a moment or not at all: a shell that waits for a dead server is worse than none."""

import os
from collections.abc import Iterator
from typing import Any, Final

import typer

from federation.cli.kinds import ALIASES, PLURALS, Kind
from federation.cli.options import DEFAULT_SERVER

COMPLETION_SECONDS: Final = 1.0
_PATHS: Final = {
    Kind.WORKLOAD: "/v1/workloads",
    Kind.DECISION: "/v1/workloads",
    Kind.CLUSTER: "/v1/clusters",
}


def workloads(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of workloads."""
    return _names(ctx, Kind.WORKLOAD, incomplete)


def clusters(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of clusters."""
    return _names(ctx, Kind.CLUSTER, incomplete)


def things(ctx: typer.Context, incomplete: str) -> list[str]:
    """Kinds, and after a kind the names of that kind."""
    given = ctx.params.get("words") or []
    kind = ALIASES.get(given[0]) if given else None
    kinds = [] if given else [plural for plural in PLURALS if plural.startswith(incomplete)]
    return kinds + (_names(ctx, kind, incomplete) if kind in _PATHS else [])


def _names(ctx: typer.Context, kind: Kind | None, incomplete: str) -> list[str]:
    from federation.cli.failures import Failed

    try:
        return sorted({name for name in _listed(ctx.params, kind) if name.startswith(incomplete)})
    except Failed:
        return []


def _listed(given: dict[str, Any], kind: Kind | None) -> Iterator[str]:
    from federation.cli.client import Client

    server = given.get("server") or os.environ.get("FEDERATION_SERVER") or DEFAULT_SERVER
    token = given.get("token") or os.environ.get("FEDERATION_TOKEN") or ""
    client = Client(server=server, token=token, seconds=COMPLETION_SECONDS)
    limit = None if kind is Kind.CLUSTER else "500"
    page = client.get(_PATHS[kind], limit=limit) if kind is not None else {}
    return (str(row["name"]) for row in page.get("items", ()))
