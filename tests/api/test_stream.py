"""The live stream: what changes is told, to whom it concerns, and a client that comes back goes on where it was."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from federation.api.app import API
from federation.api.changes import Change
from federation.api.parts import ApiSettings
from federation.api.stream import Hub
from federation.services.callers import Caller, Ports, Role
from federation.services.clusters import set_cordoned
from tests.api.serving import WEB, Served, decide, make_cluster, put_clusters, serving
from tests.api.tokens import Issuer

LIMIT = 15.0


@dataclass(slots=True)
class Event:
    name: str
    id: str
    data: Any


@dataclass(slots=True)
class Follower:
    """A client of the stream."""

    response: aiohttp.ClientResponse

    async def next(self, *names: str) -> Event:
        """The next event (of these names)."""
        async with asyncio.timeout(LIMIT):
            while True:
                event = await self._event()
                if not names or event.name in names:
                    return event

    async def line(self) -> bytes:
        async with asyncio.timeout(LIMIT):
            return await self.response.content.readline()

    async def _event(self) -> Event:
        fields: dict[str, str] = {}
        while True:
            line = (await self.response.content.readline()).decode()
            if not line:
                raise EOFError("the stream has ended")
            name, _, value = line.rstrip("\n").partition(": ")
            if line == "\n" and "data" in fields:
                return Event(fields["event"], fields["id"], msgspec.json.decode(fields["data"]))
            if line == "\n":
                fields.clear()
            elif name:
                fields[name] = value


@asynccontextmanager
async def following(
    served: Served, last: str | None = None, headers: dict[str, str] | None = None
) -> AsyncIterator[Follower]:
    more = {} if last is None else {"Last-Event-ID": last}
    url = served.url + "/v1/stream"
    async with (
        aiohttp.ClientSession(read_bufsize=2**20) as http,
        http.get(url, headers={**(headers or {}), **more}) as response,
    ):
        assert response.status == 200
        yield Follower(response)


async def test_a_workload_is_told_from_its_beginning_to_its_end():
    async with serving() as served, following(served) as follower:
        await put_clusters(served.store, make_cluster("east"))

        made = await served.create()
        first = await follower.next("workload")
        await decide(served, made["id"], {"east": 2})
        told = [await follower.next("workload", "placement", "decision") for _ in range(3)]
        await served.call("DELETE", f"/v1/workloads/{made['id']}")
        deleting = await follower.next("workload")
        async with served.store.transaction() as tx:
            await tx.remove_workloads([made["id"]])
        gone = await follower.next("workload")

        assert (first.data["id"], first.data["phase"]) == (made["id"], "pending")
        by_name = {event.name: event.data for event in told}
        assert by_name["placement"]["cluster"] == "east"
        assert by_name["placement"]["workload"] == made["id"]
        assert by_name["workload"]["phase"] == "placed"
        assert by_name["decision"]["workload"] == made["id"]
        assert deleting.data["phase"] == "deleting"
        assert gone.data == {"id": made["id"], "name": "web", "team": "default", "phase": "deleted"}


async def test_a_cluster_that_changes_is_told():
    async with serving() as served, following(served) as follower:
        await put_clusters(served.store, make_cluster("east", cordoned=True))

        event = await follower.next()

        assert (event.name, event.data["name"], event.data["cordoned"]) == ("cluster", "east", True)
        assert event.data["resources"]["cpu"] == {"known": "10", "used": "1", "held": "0", "free": "9"}


async def test_a_cluster_that_changes_without_end_is_told_once_a_second_and_at_last():
    async with serving() as served, following(served) as follower:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for revision in range(1, 40):
            await put_clusters(served.store, make_cluster("east", revision=revision))
            await asyncio.sleep(0.03)

        told = [await follower.next("cluster")]
        while told[-1].data["revision"] < 39:
            told.append(await follower.next("cluster"))

        assert len(told) <= 2 + (loop.time() - started)


async def test_who_comes_back_goes_on_after_what_it_saw_last():
    async with serving() as served:
        async with following(served) as follower:
            await served.create(name="a")
            seen = await follower.next("workload")
        await served.create(name="b")
        async with following(served) as witness, following(served, seen.id) as follower:
            await served.create(name="c")
            await witness.next("workload")

            missed, fresh = await follower.next("workload"), await follower.next("workload")

        assert [missed.data["name"], fresh.data["name"]] == ["b", "c"]


@pytest.mark.parametrize("last", ["nonsense", "a-1", "-", "-1", "%s-999999", "%s-x", "x" * 5000])
async def test_an_id_that_cannot_be_resumed_is_answered_by_a_reset(last: str):
    async with serving() as served, following(served) as first:
        await served.create(name="a")
        boot = (await first.next()).id.partition("-")[0]

        async with following(served, last.replace("%s", boot)) as follower:
            event = await follower.next()
            await served.create(name="b")
            following_up = await follower.next("workload")

        assert (event.name, event.data) == ("reset", {})
        assert following_up.data["name"] == "b"


async def test_who_fell_out_of_the_ring_is_reset():
    async with serving(ApiSettings(ring_events=3)) as served:
        async with following(served) as follower:
            await served.create(name="a")
            seen = await follower.next("workload")
            for number in range(6):
                await served.create(name=f"b-{number}")
                await follower.next("workload")

        async with following(served, seen.id) as follower:
            event = await follower.next()

        assert event.name == "reset"


async def test_a_quiet_stream_shows_that_it_lives():
    async with serving(ApiSettings(heartbeat_seconds=0.2)) as served, following(served) as follower:
        lines = [await follower.line() for _ in range(4)]

        assert b": still here\n" in lines


async def test_a_team_hears_of_its_own_only(tmp_path: Path):
    issuer = Issuer()
    async with (
        serving(issuer.settings(tmp_path)) as served,
        following(served, headers=issuer.bearer()) as follower,
        following(served, headers=issuer.bearer(role="operator", team=None)) as operator,
    ):
        await served.call("POST", "/v1/workloads", WEB, headers=issuer.bearer(team="other"))
        await operator.next("workload")
        await served.call("POST", "/v1/workloads", {**WEB, "name": "ours"}, headers=issuer.bearer())

        heard, all_heard = await follower.next("workload"), await operator.next("workload")

        assert (heard.data["team"], heard.data["name"]) == ("shop", "ours")
        assert all_heard.data["name"] == "ours"


async def test_a_stream_ends_with_its_token(tmp_path: Path):
    issuer = Issuer()
    settings = issuer.settings(tmp_path, heartbeat_seconds=0.2)
    async with serving(settings) as served, following(served, headers=issuer.bearer()) as follower:
        served.clock.by_ms += 3600 * 1000

        with pytest.raises(EOFError):
            await follower.next()


async def test_a_client_that_does_not_read_is_let_go():
    async with serving(ApiSettings(write_seconds=0.3)) as served:
        host, port = served.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(f"GET /v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        await reader.readline()
        async with following(served) as other:
            assert _hub(served).clients == 2
            for _ in range(200):
                _hub(served).tell([Change("workload", None, "x" * 200_000)])
                await other.next("workload")
            for _ in range(100):
                if _hub(served).clients == 1:
                    break
                await asyncio.sleep(0.05)

            assert _hub(served).clients == 1
        writer.close()


async def test_streams_are_bounded_in_number():
    async with serving(ApiSettings(most_streams=1)) as served, following(served):
        reply = await served.call("GET", "/v1/stream")

        assert (reply.status, reply.slug) == (503, "unavailable")


async def test_a_stop_ends_the_streams_at_once():
    loop = asyncio.get_running_loop()
    async with serving() as served, following(served) as follower:
        await follower.line()
        stopping = asyncio.create_task(served.runner.cleanup())
        started = loop.time()

        with pytest.raises(EOFError):
            await follower.next()

        await stopping
        assert loop.time() - started < 1.5


async def test_a_cordon_is_told_to_everybody():
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))
        async with following(served) as follower:
            ports = Ports(store=served.store, clock=served.clock, ids=served.ids)
            await set_cordoned(ports, Caller(who="ann", role=Role.OPERATOR), "east", True)

            event = await follower.next("cluster")

        assert event.data["cordoned"] is True


def _hub(served: Served) -> Hub:
    return served.runner.app[API].hub
