"""The routes of workloads: ask for one, foresee it, read, change, renew and delete it."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec.structs import asdict

from federation.api import bodies
from federation.api.calls import (
    Answer,
    Call,
    answer_of,
    expected_versions,
    idempotency_key,
    json_response,
    tagged,
    wait_seconds,
    workload_key,
)
from federation.api.schemas import PlanAnswer, PlanExplanation, PlanPlacement, WorkloadAnswer, WorkloadList
from federation.api.specs import Reading, WorkloadBody, read_spec, written
from federation.domain.cloudevents import is_label
from federation.domain.errors import Invalid, NotFound
from federation.domain.workload import Workload, WorkloadPhase, WorkloadSpec
from federation.ports import WorkloadQuery
from federation.services import queries
from federation.services.callers import Forbidden
from federation.services.showing import verdict_views, workload_view
from federation.services.workloads import Created, Once, Target, body_hash, change, create, delete, renew

DEFAULT_TEAM: Final = "default"
_LOOK_SECONDS: Final = 0.5
_SPACING_SECONDS: Final = 0.01


async def post_workload(call: Call) -> web.Response:
    if call.flag("dryRun"):
        return await post_plan(call)
    raw, document = await _read(call)
    reading = _new(call, document)
    key = idempotency_key(call)
    once = None if key is None else Once(key=key, body=body_hash(raw))
    created = await create(call.parts.ports, call.caller, reading.spec, once)
    call.api.workloads.clear()
    return await _created(call, created, reading)


async def post_plan(call: Call) -> web.Response:
    _, document = await _read(call)
    reading = _new(call, document)
    foreseen = await call.parts.planner(reading.spec, reading.spec.team)
    answer = PlanAnswer(
        outcome=foreseen.outcome,
        placements=tuple(
            PlanPlacement(cluster=name, replicas=foreseen.placed[name]) for name in sorted(foreseen.placed)
        ),
        reasons=foreseen.reasons,
        explanation=PlanExplanation(clusters=verdict_views(foreseen.verdicts), summary=foreseen.summary),
        notes=reading.notes,
    )
    return json_response(answer)


async def get_workload(call: Call) -> web.Response:
    key = (workload_key(call), call.caller.team)
    answer = call.api.workloads.peek(key)
    if answer is None:
        answer = await call.api.workloads.get(key, partial(_found, call, *key))
    return tagged(call, answer)


async def list_workloads(call: Call) -> web.Response:
    team, name = _label(call, "team"), _label(call, "name")
    phase = call.query("phase")
    if phase is not None and phase not in {str(known) for known in WorkloadPhase}:
        raise Invalid("phase is not one that a workload can have")
    page = call.page(team, name, phase)
    if team is not None and not call.caller.sees(team):
        return json_response(WorkloadList(items=(), next=None))
    scope = call.caller.team if team is None else team
    query = WorkloadQuery(team=scope, name=name, phase=phase, after=page.after, limit=page.limit)
    found = await queries.list_workloads(call.parts.store, query)
    last = found[-1][0].id if len(found) == page.limit else ""
    views = tuple(workload_view(workload, placements) for workload, placements in found)
    return json_response(WorkloadList(items=views, next=page.next(last)))


async def put_workload(call: Call) -> web.Response:
    _, document = await _read(call)
    return await _changed(call, lambda before: document)


async def patch_workload(call: Call) -> web.Response:
    _, patch = await _read(call, bodies.MERGE_PATCH)
    return await _changed(call, lambda before: bodies.merged(msgspec.to_builtins(written(before)), patch))


async def delete_workload(call: Call) -> web.Response:
    before = await _find(call)
    target = Target(id=before.id, versions=expected_versions(call))
    await delete(call.parts.ports, call.caller, target)
    call.api.workloads.clear()
    try:
        workload = await _settled(call, before.id, lambda _: False)
    except NotFound:
        return web.Response(status=204)
    finally:
        call.api.workloads.clear()
    return _answered(call, workload, 202)


async def renew_workload(call: Call) -> web.Response:
    before = await _find(call)
    await renew(call.parts.ports, call.caller, Target(id=before.id, versions=expected_versions(call)))
    call.api.workloads.clear()
    return tagged(call, await _found(call, before.id, call.caller.team))


# --- reading what came -----------------------------------------------------------------------------------------------


async def _read(call: Call, types: tuple[str, ...] = bodies.JSON) -> tuple[bytes, dict[str, Any]]:
    return await bodies.read_json(call.request, call.parts.settings.body_seconds, types)


def _new(call: Call, document: dict[str, Any]) -> Reading:
    """The spec asked for, in the caller's own team where none is named."""
    body = bodies.convert(document, WorkloadBody)
    team = body.team or call.caller.team or DEFAULT_TEAM
    if not call.caller.sees(team):
        raise Forbidden("this is not your team")
    return read_spec(body, team=team)


def _label(call: Call, name: str) -> str | None:
    value = call.query(name)
    if value is not None and not is_label(value):
        raise Invalid(f"{name} is not a DNS label")
    return value


async def _find(call: Call) -> Workload:
    workload, _ = await queries.find_workload(call.parts.store, workload_key(call), call.caller.team)
    return workload


async def _changed(call: Call, document: Callable[[WorkloadSpec], dict[str, Any]]) -> web.Response:
    """Put in place what *document* makes of the current spec, and answer with what came of it."""
    before = await _find(call)
    notes: list[str] = []

    def edit(spec: WorkloadSpec) -> WorkloadSpec:
        reading = _edited(spec, document(spec))
        notes.extend(reading.notes)
        return reading.spec

    after = await change(call.parts.ports, call.caller, Target(id=before.id, versions=expected_versions(call)), edit)
    call.api.workloads.clear()
    workload = await _settled(call, after.id, lambda now: now.decided >= after.version)
    call.api.workloads.clear()
    return _answered(call, workload, 200 if workload[0].decided >= after.version else 202, tuple(notes))


def _edited(before: WorkloadSpec, document: dict[str, Any]) -> Reading:
    reading = read_spec(bodies.convert(document, WorkloadBody), team=before.team, name=before.name)
    for field in ("name", "team"):
        if getattr(reading.spec, field) != getattr(before, field):
            raise Invalid(f"the {field} of a workload cannot change", f"/{field}")
    return reading


# --- answering -------------------------------------------------------------------------------------------------------

_Found = tuple[Workload, list[Any]]


async def _created(call: Call, created: Created, reading: Reading) -> web.Response:
    try:
        found = await _settled(call, created.workload, lambda now: now.decided >= now.version)
    except NotFound:
        # It was made, and is gone: whoever repeats an old request hears what was answered then.
        return web.Response(body=created.answer, status=202, content_type="application/json")
    waited = wait_seconds(call) is not None
    response = _answered(call, found, 201 if waited and found[0].decided >= found[0].version else 202, reading.notes)
    if created.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


async def _settled(call: Call, key: str, is_settled: Callable[[Workload], bool]) -> _Found:
    """The workload once *is_settled*, or as it is when the time that the caller prefers to wait is over."""
    store, seconds = call.parts.store, wait_seconds(call)
    if not seconds:
        return await queries.find_workload(store, key, call.caller.team)
    ends = asyncio.get_running_loop().time() + seconds
    await store.changed("view", 0)
    while True:
        found = await queries.find_workload(store, key, call.caller.team)
        left = ends - asyncio.get_running_loop().time()
        if is_settled(found[0]) or left <= 0:
            return found
        await store.changed("view", min(left, _LOOK_SECONDS))
        # Commits can come by the thousand a second; each waiting caller reads a hundred times at most.
        await asyncio.sleep(_SPACING_SECONDS)


async def _found(call: Call, key: str, team: str | None) -> Answer:
    workload, placements = await queries.find_workload(call.parts.store, key, team)
    return _encoded(workload, placements, ())


def _encoded(workload: Workload, placements: list[Any], notes: tuple[str, ...]) -> Answer:
    view = workload_view(workload, placements)
    answer = WorkloadAnswer(**asdict(view), spec=written(workload.spec), notes=notes)
    return answer_of(answer, workload.version)


def _answered(call: Call, found: _Found, status: int, notes: tuple[str, ...] = ()) -> web.Response:
    response = tagged(call, _encoded(*found, notes), status)
    response.headers["Location"] = f"/v1/workloads/{found[0].id}"
    seconds = wait_seconds(call)
    if seconds is not None:
        response.headers["Preference-Applied"] = f"wait={seconds}"
    return response
