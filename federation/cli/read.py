"""Commands that only read: get, describe, explain, top, replay."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from federation.cli import complete
from federation.cli.failures import REFUSED
from federation.cli.kinds import COLUMNS, Kind, Named, named, split, status_of
from federation.cli.options import Format, Scope, Session, command
from federation.cli.output import as_json, as_yaml, note, say, shown, table

if TYPE_CHECKING:
    from federation.cli.client import Client
    from federation.cli.fetch import Filters

PANEL: Final = "Read"
Row = dict[str, Any]
Words = Annotated[
    list[str],
    typer.Argument(
        metavar="TYPE [NAME]",
        help="workloads, clusters, nodes, decisions, pool or parked; and a name.",
        autocompletion=complete.things,
        show_default=False,
    ),
]
Workload = Annotated[
    str, typer.Argument(metavar="NAME", help="Name or id of a workload.", autocompletion=complete.workloads)
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Stay, and write what changes.")]


def register(app: typer.Typer) -> None:
    """Add the reading commands."""
    command(app, PANEL)(get)
    command(app, PANEL)(describe)
    command(app, PANEL)(explain)
    command(app, PANEL)(top)
    command(app, PANEL)(replay)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection(Scope):
    """Which of a kind."""

    phase: Annotated[str, typer.Option("--phase", metavar="PHASE", help="Only workloads in this phase.")] = ""
    cluster: Annotated[
        str,
        typer.Option("--cluster", metavar="NAME", help="Only nodes of this cluster.", autocompletion=complete.clusters),
    ] = ""


def get(words: Words, session: Session, selection: Selection, watch: Watch = False) -> None:
    """List workloads, clusters, nodes, decisions of a workload, the pool, or parked events."""
    from federation.cli import fetch

    what, client = named(words), session.client()
    filters = fetch.Filters(team=selection.team, phase=selection.phase, cluster=selection.cluster)
    if watch:
        _watch(what, session.output, client, filters)
    elif what.kind is Kind.POOL:
        _show_pool(client.get("/v1/pool"), session.output)
    else:
        _show(what, fetch.rows(client, what, filters), session.output)


def describe(words: Words, session: Session, selection: Selection) -> None:
    """Show one thing in full; without a TYPE, a workload."""
    from federation.cli import fetch
    from federation.cli.describe import LINES, workload_lines

    what, client = named(words, Kind.WORKLOAD), session.client()
    if (what.kind not in LINES and what.kind is not Kind.WORKLOAD) or not what.name:
        raise typer.BadParameter("name a workload, a cluster, a node or a decision: `federation describe cluster east`")
    filters = fetch.Filters(team=selection.team, cluster=selection.cluster)
    for row in fetch.rows(client, what, filters):
        if session.output in (Format.JSON, Format.YAML, Format.NAME):
            _show(what, [row], session.output)
        elif what.kind is Kind.WORKLOAD:
            _say_all(workload_lines(row, fetch.explanation(client, row)))
        else:
            _say_all(LINES[what.kind](row))


def explain(
    name: Workload,
    session: Session,
    scope: Scope,
    decision: Annotated[
        str, typer.Option("--decision", metavar="ID", help="This decision instead of the latest.")
    ] = "",
) -> None:
    """Say why a workload went where it did, cluster by cluster."""
    from federation.cli import fetch
    from federation.cli.client import segment
    from federation.cli.explain import explanation_lines

    client = session.client()
    if decision:
        found = client.get(f"/v1/decisions/{segment(decision)}")
        explanation = found.get("explanation") or found
    else:
        explanation = client.get(f"/v1/workloads/{fetch.workload(client, name, scope.team)['id']}/explanation")
    if _is_written(explanation, session.output, f"decision/{explanation.get('decision', decision)}"):
        return
    _say_all(explanation_lines(explanation, wide=session.output is Format.WIDE))


def top(
    session: Session,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLUSTER...", help="Only these clusters.", autocompletion=complete.clusters),
    ] = None,
) -> None:
    """Show how full the clusters and the pool are, resource by resource."""
    from federation.cli import fetch
    from federation.cli.top import usage_lines

    client = session.client()
    wanted = [name for name in names or () if name != "clusters"]
    rows = [row for name in wanted or [""] for row in fetch.rows(client, Named(Kind.CLUSTER, name), fetch.Filters())]
    if _is_written({"items": rows}, session.output, "\n".join(f"cluster/{row['name']}" for row in rows)):
        return
    pool = None if wanted else client.get("/v1/pool")
    _say_all(usage_lines(rows, pool, wide=session.output is Format.WIDE))


def replay(
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="Id of a decision.")],
    session: Session,
) -> None:
    """Compute a decision again from what it was based on; status 1 if it comes out otherwise."""
    from federation.cli.client import Request, segment

    request = Request(method="POST", path=f"/v1/decisions/{segment(decision)}/replay")
    found = session.client().call(request).body
    if not _is_written(found, session.output, f"decision/{decision}"):
        placed, again = split(found["placed"]), split(found["recomputed"])
        ending = f"comes out the same: {placed}" if found["same"] else f"differs: stored {placed}; computed {again}"
        say(f"decision {decision} {ending}")
    if not found["same"]:
        raise typer.Exit(REFUSED)


# --- writing ---------------------------------------------------------------------------------------------------------


def _show(what: Named, rows: list[Row], form: Format) -> None:
    single = bool(what.name) and len(rows) == 1 and what.kind is not Kind.DECISION
    names = "\n".join(f"{what.kind}/{_name(row)}" for row in rows)
    if _is_written(rows[0] if single else {"items": rows}, form, names):
        return
    if rows:
        _say_all(table(COLUMNS[what.kind], rows, wide=form is Format.WIDE))
    else:
        note("nothing found")


def _show_pool(pool: Row, form: Format) -> None:
    from federation.cli.fetch import pool_rows

    if _is_written(pool, form, "pool"):
        return
    clusters = pool["clusters"]
    out = [f"{cluster['name']} ({status_of(cluster)})" for cluster in clusters if not cluster["usable"]]
    say(f"{pool['usable']} of {len(clusters)} clusters usable, {pool['nodes']} nodes")
    if out:
        say(shown(f"not counted: {', '.join(out)}"))
    say("")
    _say_all(table(COLUMNS[Kind.POOL], pool_rows(pool)))


def _is_written(value: object, form: Format, names: str) -> bool:
    """Whether *value* was to be written for programs, and has been."""
    if form is Format.JSON:
        as_json(value)
    elif form is Format.YAML:
        as_yaml(value)
    elif form is Format.NAME:
        if names:
            say(names)
    else:
        return False
    return True


def _watch(what: Named, form: Format, client: "Client", filters: "Filters") -> None:
    from federation.cli import fetch
    from federation.cli.watch import ticks, watch_table

    if form not in (Format.TABLE, Format.WIDE):
        raise typer.BadParameter("--watch writes tables: -o table or -o wide")
    columns = [column for column in COLUMNS[what.kind] if form is Format.WIDE or not column.wide]

    def read() -> list[Row]:
        if what.kind is Kind.POOL:
            return fetch.pool_rows(client.get("/v1/pool"))
        return fetch.rows(client, what, filters)

    watch_table(columns, read, ticks(client))


def _say_all(lines: list[str]) -> None:
    for line in lines:
        say(line)


def _name(row: Row) -> str:
    if "offset" in row:
        return f"{row['source']}/{row['offset']}"
    return str(row.get("name") or row.get("id"))
