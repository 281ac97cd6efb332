"""Events over HTTP: checked, then only appended to the log. There is one way into the view (protocol 1.6)."""

import asyncio

from aiohttp import web
from prometheus_client import Counter

from federation.api.bodies import read_bytes
from federation.api.calls import Call, json_response
from federation.api.problems import Unsupported
from federation.api.schemas import Accepted, ParkedList
from federation.domain.cloudevents import EVENTS_TOPIC, MAX_BATCH_BYTES, MAX_BODY_BYTES, cluster_of, from_http
from federation.domain.errors import Unavailable
from federation.ports import Message
from federation.services import queries
from federation.services.callers import Forbidden

_BATCH = "application/cloudevents-batch+json"
TYPES = ("application/json", "application/cloudevents+json", _BATCH)
_FOREIGN = Counter("federation_events_foreign", "Events refused because they name a cluster that is not the sender's")


async def post_events(call: Call) -> web.Response:
    request = call.request
    if request.content_type not in TYPES:
        raise Unsupported(f"the content type is {', '.join(TYPES)}")
    most = MAX_BATCH_BYTES if request.content_type == _BATCH else MAX_BODY_BYTES
    found = from_http(request.headers, await read_bytes(request, most, call.parts.settings.body_seconds))
    messages = [
        Message(topic=EVENTS_TOPIC, key=cluster_of(envelope.source), envelope=envelope, value=value)
        for envelope, value in found
    ]
    _check_senders(call, messages)
    await _append(call, messages)
    return json_response(Accepted(accepted=len(messages)), 202)


async def list_parked(call: Call) -> web.Response:
    page = call.page()
    found = await queries.parked(call.parts.store, page.limit)
    return json_response(ParkedList(items=tuple(found), next=None))


def _check_senders(call: Call, messages: list[Message]) -> None:
    own = call.caller.cluster
    if own is not None and any(message.key != own for message in messages):
        _FOREIGN.inc()
        raise Forbidden("an agent speaks for its own cluster only")


async def _append(call: Call, messages: list[Message]) -> None:
    try:
        async with asyncio.timeout(call.parts.settings.append_seconds):
            await call.parts.log.append(messages)
    except TimeoutError:
        raise Unavailable("the event log does not answer") from None
