"""The routes of decisions: why, how often, and whether it comes out the same again."""

from aiohttp import web

from federation.api.calls import Call, decision_id, json_response, workload_key
from federation.api.schemas import DecisionList, ReplayAnswer
from federation.services import queries
from federation.services.showing import explanation_view


async def get_explanation(call: Call) -> web.Response:
    return json_response(await queries.explain(call.parts.store, workload_key(call), call.caller.team))


async def list_decisions(call: Call) -> web.Response:
    page = call.page()
    found = await queries.decisions(call.parts.store, workload_key(call), call.caller.team, page.limit)
    return json_response(DecisionList(items=tuple(found), next=None))


async def get_decision(call: Call) -> web.Response:
    found = await queries.find_decision(call.parts.store, decision_id(call), call.caller.team)
    return json_response(explanation_view(*found))


async def replay_decision(call: Call) -> web.Response:
    decision, explanation = await queries.find_decision(call.parts.store, decision_id(call), call.caller.team)
    recomputed = dict(await call.parts.replayer(decision, explanation))
    same = recomputed == decision.placed
    return json_response(ReplayAnswer(same=same, placed=decision.placed, recomputed=recomputed))
