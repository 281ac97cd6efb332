"""The one stream of changes: held back by a slow reader, and never silent about a defect."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from adapters.kubernetes.changes import Changes
from adapters.kubernetes.client import ApiServer
from adapters.kubernetes.gateway import KubernetesGateway
from adapters.kubernetes.watch import Pace
from federation.domain.member import Listed, PodChanged, Relisted
from tests.integration.fake_api import Answer, FakeApi, added, bookmark, pod, serving, stream

MANY = 40_000
NOTHING = stream(bookmark("1", ends=True), hang=True)


def pods_by(answer: Answer) -> Answer:
    """Pods as told by *answer*, and nothing of any other kind."""

    async def route(request: web.Request) -> web.StreamResponse:
        return await (answer if request.path == "/api/v1/pods" else NOTHING)(request)

    return route


class Flood:
    """Sends large pods without end, and counts those that the client has taken."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        large = {**pod("web", "1"), "padding": "x" * 4000}
        line = json.dumps({"type": "ADDED", "object": large}).encode() + b"\n"
        for self.sent in range(1, MANY + 1):
            await response.write(line)
        return response


async def test_a_reader_that_is_slow_holds_the_server_back() -> None:
    flood = Flood()
    async with serving(*[pods_by(flood)] * 9) as fake:
        api = ApiServer(fake)
        async with asyncio.timeout(20), aclosing(Changes(api, Pace()).told()) as batches:
            await anext(batches)
            await asyncio.sleep(1.0)
            after_a_while = flood.sent
            await asyncio.sleep(0.5)
        await api.close()

    assert 0 < after_a_while == flood.sent < MANY * 3 // 4


async def test_every_kind_is_listed_and_objects_as_one() -> None:
    listed: list[Any] = []
    async with serving(*[pods_by(stream(added("a", "1"), bookmark("2", ends=True), hang=True))] * 9) as fake:
        gateway = KubernetesGateway(fake)
        async with asyncio.timeout(10), aclosing(gateway.changes()) as batches:
            async for batch in batches:
                listed += batch
                if sum(isinstance(each, Listed) for each in listed) == 3:
                    break
        await gateway.close()

    assert sorted(each.kind for each in listed if isinstance(each, Relisted)) == ["nodes", "objects", "pods"]
    assert [each.pod.name for each in listed if isinstance(each, PodChanged)] == ["a"]


class Defect:
    """Access that fails as no server would make it fail."""

    async def open(self) -> Any:
        raise ZeroDivisionError("a bug")

    async def renew(self, client: Any) -> bool:
        return False


async def read_to_the_end(gateway: KubernetesGateway) -> None:
    async with asyncio.timeout(5), aclosing(gateway.changes()) as batches:
        async for _ in batches:
            pass


async def test_a_defect_reaches_the_reader() -> None:
    gateway = KubernetesGateway(Defect())

    with pytest.raises(ExceptionGroup, match="unhandled"):
        await read_to_the_end(gateway)


async def test_a_reader_that_leaves_ends_every_watch() -> None:
    async with serving(*[NOTHING] * 9) as fake:
        gateway = KubernetesGateway(fake)
        async with asyncio.timeout(5), aclosing(gateway.changes()) as batches:
            await anext(batches)
        await dropped(fake)
        await gateway.close()

    assert fake.dropped == len(fake.requests)


async def dropped(fake: FakeApi) -> None:
    async with asyncio.timeout(5):
        while fake.dropped < len(fake.requests):  # noqa: ASYNC110 - the fake counts, and has no event to wait for
            await asyncio.sleep(0.01)
