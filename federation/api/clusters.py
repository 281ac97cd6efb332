"""The routes of clusters, their nodes, and the pool that they make."""

from functools import partial

from aiohttp import web

from federation.api import bodies
from federation.api.calls import Answer, Call, answer_of, cluster_name, json_response, tagged
from federation.api.schemas import ClusterList, ClusterPatch, NodeList
from federation.services import queries
from federation.services.clusters import set_cordoned


async def get_pool(call: Call) -> web.Response:
    answer = call.api.pool.peek(("pool",))
    if answer is None:
        answer = await call.api.pool.get(("pool",), partial(_pool, call))
    return tagged(call, answer)


async def list_clusters(call: Call) -> web.Response:
    answer = call.api.pool.peek(("clusters",))
    if answer is None:
        answer = await call.api.pool.get(("clusters",), partial(_clusters, call))
    return tagged(call, answer)


async def get_cluster(call: Call) -> web.Response:
    name = cluster_name(call)
    return tagged(call, await call.api.pool.get(("cluster", name), partial(_cluster, call, name)))


async def patch_cluster(call: Call) -> web.Response:
    name = cluster_name(call)
    _, document = await bodies.read_json(call.request, call.parts.settings.body_seconds, bodies.MERGE_PATCH)
    patch = bodies.convert(document, ClusterPatch)
    await set_cordoned(call.parts.ports, call.caller, name, patch.cordoned)
    call.api.pool.clear()
    return tagged(call, await _cluster(call, name))


async def list_nodes(call: Call) -> web.Response:
    name = cluster_name(call)
    page = call.page()
    all_teams = call.caller.team is None
    views, last = await queries.list_nodes(call.parts.store, name, (page.after, page.limit), all_teams=all_teams)
    return json_response(NodeList(items=tuple(views), next=page.next(last)))


async def _pool(call: Call) -> Answer:
    parts = call.parts
    return answer_of(await queries.pool(parts.store, parts.clock, parts.settings.silent_after_seconds), 0)


async def _clusters(call: Call) -> Answer:
    parts = call.parts
    views = await queries.list_clusters(parts.store, parts.clock, parts.settings.silent_after_seconds)
    return answer_of(ClusterList(items=tuple(views), next=None), 0)


async def _cluster(call: Call, name: str) -> Answer:
    parts = call.parts
    view = await queries.find_cluster(parts.store, parts.clock, parts.settings.silent_after_seconds, name)
    return answer_of(view, 0)
