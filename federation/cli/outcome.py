"""What becomes of a request: how it is sent, waited for and told."""

import secrets
from typing import Any, Final

import typer

from federation.cli.client import Client, Request
from federation.cli.explain import bullets, explanation_lines
from federation.cli.failures import REFUSED, Failed
from federation.cli.fetch import workload as workload_named
from federation.cli.kinds import split, total
from federation.cli.options import Format
from federation.cli.output import as_json, as_yaml, say, shown
from federation.cli.progress import is_decided, is_running, wait_until
from federation.cli.request import Body

DECISION_SECONDS: Final = 10
Row = dict[str, Any]


def send(client: Client, request: Request) -> Row:
    """The workload that the server made of *request*."""
    try:
        return dict(client.call(request).body)
    except Failed as failure:
        if failure.slug != "conflict":
            raise
        advice = "Change it with `federation scale`, or put yours in its place with --replace."
        raise Failed(f"{failure}\n{advice}", slug=failure.slug) from failure


def follow(client: Client, workload: Row, wait: bool | None, seconds: float) -> None:
    """Wait for the pods, for the decision, or not at all."""
    if wait is False:
        return
    wait_until(client, workload, is_running if wait else is_decided, seconds)


def show(workload: Row, form: Format, wait: bool | None) -> None:
    """What has become of it; status 1 where it waits for room or has failed."""
    if form is Format.JSON:
        as_json(workload)
    elif form is Format.YAML:
        as_yaml(workload)
    elif form is Format.NAME:
        say(f"workload/{workload['name']}")
    else:
        for line in _outcome_lines(workload):
            say(line)
    if workload["phase"] in ("waiting", "failed") and wait is not False:
        raise typer.Exit(REFUSED)


def request_for(client: Client, body: Body, *, replace: bool, wait: bool | None) -> Request:
    """The request that brings *body* about; with *replace* in the place of a workload of that name, if there is one."""
    wait_seconds = decision_wait(wait)
    found = _existing(client, body) if replace else None
    if found is not None:
        path = f"/v1/workloads/{found['id']}"
        return Request(method="PUT", path=path, body={**body, "team": found["team"]}, wait_seconds=wait_seconds)
    # A key, so that the same request sent twice by something on the way makes one workload.
    key = {"Idempotency-Key": secrets.token_hex(16)}
    return Request(method="POST", path="/v1/workloads", body=body, headers=key, wait_seconds=wait_seconds)


def _outcome_lines(workload: Row) -> list[str]:
    placements = workload["placements"]
    placed, wanted = total(workload, "replicas"), workload["replicas"]
    by_cluster = split({row["cluster"]: row["replicas"] for row in placements}).replace(",", ", ").replace(":", " ")
    heading = (
        f"workload/{workload['name']} {workload['phase'] if is_decided(workload) else 'accepted, not yet decided'}"
    )
    if placed:
        heading += f": {by_cluster}" + (f" ({placed} of {wanted})" if placed < wanted else "")
    lines = [shown(heading), *bullets(list(workload["reasons"]))]
    if workload["phase"] == "waiting":
        lines.append(f"It stays in the queue until there is room; end it with `federation delete {workload['name']}`.")
    return [*lines, *_label_lines(workload)]


def _count(replicas: int) -> str:
    return f"{replicas} replica" + ("" if replicas == 1 else "s")


def _label_lines(workload: Row) -> list[str]:
    labels = [
        shown(f"  {row['cluster']}: {_count(row['replicas'])} with {name}={value}")
        for row in workload["placements"]
        for name, value in row.get("podLabels", {}).items()
    ]
    if not labels:
        return []
    renew = f"The room is yours until {workload.get('leaseUntil')}; keep it with `federation renew {workload['name']}`."
    return ["Your pods must carry these labels:", *labels, renew]


def plan(client: Client, body: Body, form: Format) -> None:
    """What would become of *body*; status 1 where it would wait."""
    found = client.call(Request(method="POST", path="/v1/plans", body=body)).body
    if form is Format.JSON:
        as_json(found)
    elif form is Format.YAML:
        as_yaml(found)
    else:
        for line in _plan_lines(body["name"], found, wide=form is Format.WIDE):
            say(line)
    if found["outcome"] == "waiting":
        raise typer.Exit(REFUSED)


def decision_wait(wait: bool | None) -> int:
    """How long the server is asked to wait for a decision before it answers."""
    return 0 if wait is False else DECISION_SECONDS


def _existing(client: Client, body: Body) -> Row | None:
    try:
        return workload_named(client, body["name"], body.get("team", ""))
    except Failed as failure:
        if failure.slug != "not-found":
            raise
        return None


def _plan_lines(name: str, found: Row, *, wide: bool) -> list[str]:
    words = {"placed": "would be placed", "partial": "would be placed in part", "waiting": "would wait for room"}
    by_cluster = ", ".join(f"{row['cluster']} {row['replicas']}" for row in found["placements"])
    heading = f"workload/{name} {words.get(found['outcome'], found['outcome'])}" + (
        f": {by_cluster}" if by_cluster else ""
    )
    explanation = found.get("explanation") or {}
    told = {*explanation.get("reasons", ()), explanation.get("summary")}
    reasons = [reason for reason in found.get("reasons", ()) if reason not in told]
    notes = [f"note: {text}" for text in found.get("notes", ())]
    return [shown(heading), *bullets(reasons), *notes, *explanation_lines(explanation, wide=wide)]
