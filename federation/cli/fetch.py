"""Finding things on the server: by name or id, alone or all of a kind."""

import re
from dataclasses import dataclass
from typing import Any, Final

import typer

from federation.cli.client import Client, segment
from federation.cli.failures import Failed
from federation.cli.kinds import Kind, Named

_ULID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which of a kind are meant; empty lets all through."""

    team: str = ""
    phase: str = ""
    cluster: str = ""


def is_id(text: str) -> bool:
    """Whether *text* is an identifier; names are lower case, so that none looks like one."""
    return _ULID.fullmatch(text) is not None


def workload(client: Client, name: str, team: str) -> Row:
    """One workload by id, or by its name in *team*; without a team the name must be the only one of its kind."""
    if is_id(name):
        return dict(client.get(f"/v1/workloads/{name}"))
    found = list(client.items("/v1/workloads", name=name, team=team))
    if not found:
        raise Failed(f"no workload {name}" + (f" in team {team}" if team else ""), slug="not-found")
    if len(found) > 1:
        teams = ", ".join(sorted(str(row["team"]) for row in found))
        raise Failed(f"several teams have a workload {name}: {teams}. Name one with --team.")
    return found[0]


def rows(client: Client, what: Named, filters: Filters) -> list[Row]:
    """All that *what* names; one row where it bears a name, except that decisions go by the name of their workload."""
    if what.kind is Kind.WORKLOAD:
        if what.name:
            return [workload(client, what.name, filters.team)]
        return list(client.items("/v1/workloads", team=filters.team, phase=filters.phase))
    if what.kind is Kind.CLUSTER:
        if what.name:
            return [client.get(f"/v1/clusters/{segment(what.name)}")]
        return list(client.items("/v1/clusters", limit=None))
    if what.kind is Kind.NODE:
        return _nodes(client, what.name, filters.cluster)
    if what.kind is Kind.DECISION:
        return _decisions(client, what.name, filters.team)
    return list(client.items("/v1/events/parked"))


def explanation(client: Client, row: Row) -> Row:
    """The latest explanation of a workload; empty while it has none."""
    if not row.get("decision"):
        return {}
    try:
        return dict(client.get(f"/v1/workloads/{row['id']}/explanation"))
    except Failed as failure:
        if failure.slug != "not-found":
            raise
        return {}


def pool_rows(pool: Row) -> list[Row]:
    """The pool's resources, one a row."""
    return [{"resource": name, **figures} for name, figures in sorted(pool["resources"].items())]


def _nodes(client: Client, name: str, cluster: str) -> list[Row]:
    clusters = [cluster] if cluster else [str(row["name"]) for row in client.items("/v1/clusters", limit=None)]
    found = [
        {"cluster": at, **node}
        for at in clusters
        for node in client.items(f"/v1/clusters/{segment(at)}/nodes")
        if not name or node["name"] == name
    ]
    if name and not found:
        raise Failed(f"no node {name}" + (f" in cluster {cluster}" if cluster else ""), slug="not-found")
    return found


def _decisions(client: Client, name: str, team: str) -> list[Row]:
    if not name:
        raise typer.BadParameter("name the workload whose decisions you want: `federation get decisions NAME`")
    if is_id(name):
        try:
            return [client.get(f"/v1/decisions/{name}")]
        except Failed as failure:
            if failure.slug != "not-found":
                raise
    return list(client.items(f"/v1/workloads/{workload(client, name, team)['id']}/decisions"))
