"""Whatever is sent: a problem with its reason, and nothing changed; never a failure of the server."""

import asyncio
import gzip
from typing import Any

import msgspec
import pytest

from federation.api.parts import ApiSettings
from federation.domain.manifest import deployment_for
from tests.api.serving import WEB, Served, make_cluster, put_clusters, serving

POD: dict[str, Any] = deployment_for("web", "nginx", 1, {"cpu": "1"})


def deep(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def with_replicas(text: bytes) -> bytes:
    return b'{"name": "web", "replicas": ' + text + b"}"


BODIES = {
    "empty": b"",
    "one byte": b"{",
    "not an object": b"[]",
    "100,000 deep": b"[" * 100_000,
    "100,000 objects deep": deep(100_000),
    "deep but readable": deep(500),
    "5,000 digits": with_replicas(b"9" * 5_000),
    "30 digits": with_replicas(b"1" * 30),
    "2^63": with_replicas(b"9223372036854775808"),
    "2^53+1": with_replicas(b"9007199254740993"),
    "-1": with_replicas(b"-1"),
    "NaN": with_replicas(b"NaN"),
    "Infinity": with_replicas(b"Infinity"),
    "1e999": with_replicas(b"1e999"),
    "a fraction": with_replicas(b"1.5"),
    "true": with_replicas(b"true"),
    "a string": with_replicas(b'"1"'),
    "a mark of byte order": b"\xef\xbb\xbf" + msgspec.json.encode(WEB),
    "two documents": msgspec.json.encode(WEB) * 2,
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "half a surrogate": b'{"name": "web", "manifest": {"a": "\\ud800x"}}',
    "UTF-16": '{"name": "web"}'.encode("utf-16"),
    "a NUL": b'{"name": "web", "nodeSelector": {"a": "x\\u0000"}}',
    "a NUL in a key": b'{"name": "web", "nodeSelector": {"a\\u0000": "x"}}',
    "a NUL in a manifest": msgspec.json.encode({"manifest": {**POD, "x": "\0"}}),
    "a large number in a manifest": b'{"manifest": {"a": 18446744073709551615}}',
    "a manifest that is too long": msgspec.json.encode({"manifest": {**POD, "x": "x" * 2**18}}),
}


@pytest.mark.parametrize("body", list(BODIES.values()), ids=list(BODIES))
async def test_a_body_that_cannot_be_read_is_refused(body: bytes):
    async with serving() as served:
        reply = await served.call("POST", "/v1/workloads", body)

        assert (reply.status, reply.slug) == (400, "invalid")
        await _unchanged(served)


FIELDS: dict[str, dict[str, Any]] = {
    "an unknown field": {"nam": "web"},
    "an unknown field inside": {"placement": {"stratgy": "dynamic"}},
    "an unknown strategy": {"placement": {"strategy": "best"}},
    "minGroups above maxGroups": {"placement": {"spread": [{"by": "region", "minGroups": 3, "maxGroups": 2}]}},
    "one field spread twice": {"placement": {"spread": [{"by": "region"}, {"by": "region"}]}},
    "partial without its number": {"placement": {"partial": "min"}},
    "a quantity that is none": {"requests": {"cpu": "1 Gi"}},
    "a negative quantity": {"requests": {"cpu": "-1"}},
    "a huge exponent": {"requests": {"cpu": "1e1000000"}},
    "digits of another script": {"requests": {"cpu": "１"}},
    "a hexadecimal quantity": {"requests": {"cpu": "0x10"}},
    "a quantity in groups": {"requests": {"cpu": "1_000"}},
    "a long quantity": {"requests": {"cpu": "1" * 63_000}},
    "a number for a quantity": {"requests": {"cpu": 1}},
    "sums beyond 64 bits": {"replicas": 100_000, "requests": {"memory": "1024Ti"}},
    "65 resources": {"requests": {f"r{n}": "1" for n in range(65)}},
    "a resource with a strange name": {"requests": {"cp\u202eu": "1"}},
    "components and requests": {"components": [{"replicas": 1}]},
    "priority beyond its bound": {"priority": 10**9 + 1},
    "too many replicas": {"replicas": 100_001},
    "a toleration's operator": {"tolerations": [{"operator": "Maybe"}]},
    "null for the name's type": {"name": 1},
}


@pytest.mark.parametrize("changes", list(FIELDS.values()), ids=list(FIELDS))
async def test_a_field_that_is_unfit_is_refused(changes: dict[str, Any]):
    async with serving() as served:
        reply = await served.call("POST", "/v1/workloads", {**WEB, **changes})

        assert (reply.status, reply.slug) == (400, "invalid")
        assert reply.json["detail"]
        await _unchanged(served)


NAMES = [
    "",
    ".",
    "..",
    "%2e%2e",
    "a/b",
    "a\nb",
    "a\n",
    'a"b',
    "a\u202eb",
    "A",
    "a" * 64,
    "a" * 254,
    "-a",
    "a-",
    "ä",
    " a",
]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_is_a_dns_label(name: str):
    async with serving() as served:
        in_body = await served.call("POST", "/v1/workloads", {**WEB, "name": name})
        as_team = await served.call("POST", "/v1/workloads", {**WEB, "team": name})

        assert (in_body.slug, as_team.slug) == ("invalid", "invalid")
        assert "\n" not in in_body.json["detail"]
        await _unchanged(served)


@pytest.mark.parametrize("key", ["%00", "%2e%2e", "a%2Fb", "a%0Ab", "%ff", "A" * 26, "0" * 5000, "%E2%80%AE"])
@pytest.mark.parametrize("path", ["/v1/workloads/{}", "/v1/clusters/{}", "/v1/decisions/{}"])
async def test_a_path_that_names_nothing_is_not_found(path: str, key: str):
    from yarl import URL

    async with serving() as served:
        url = URL(served.url + path.format(key), encoded=True)
        async with served.http.get(url) as response:
            body = msgspec.json.decode(await response.read())

        assert (response.status, body["type"]) == (404, "urn:federation:problem:not-found")


async def test_a_body_of_ten_megabytes_is_refused():
    async with serving() as served:
        announced = await served.call("POST", "/v1/workloads", b"x" * 10_000_000)
        chunked = await served.call("POST", "/v1/workloads", _chunks(), headers={"Content-Type": "application/json"})

        assert (announced.status, announced.slug) == (413, "too-large")
        assert (chunked.status, chunked.slug) == (413, "too-large")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip", "GZIP", "zstd"])
async def test_a_compressed_body_is_refused(encoding: str):
    async with serving() as served:
        bomb = gzip.compress(b" " * 2**22) if "gzip" in encoding else b"x" * 100

        reply = await served.call("POST", "/v1/workloads", bomb, headers={"Content-Encoding": encoding})

        assert (reply.status, reply.slug) == (415, "unsupported-media-type")
        await _unchanged(served)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "application/xml"]
)
async def test_another_content_type_is_refused(kind: str):
    async with serving() as served:
        reply = await served.call("POST", "/v1/workloads", msgspec.json.encode(WEB), headers={"Content-Type": kind})

        assert (reply.status, reply.slug) == (415, "unsupported-media-type")
        await _unchanged(served)


async def test_a_slow_body_is_given_up():
    async with serving(ApiSettings(body_seconds=0.3)) as served:
        host, port = served.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/workloads HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        writer.write(head.encode() + b'Content-Length: 100\r\n\r\n{"name"')

        answer = await asyncio.wait_for(reader.read(4096), timeout=10)

        assert answer.startswith(b"HTTP/1.1 408")
        assert b"urn:federation:problem:timeout" in answer
        writer.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/v2/workloads", 404, "not-found"),
        ("DELETE", "/v1/workloads", 405, "not-allowed"),
        ("PROPFIND", "/v1/workloads", 405, "not-allowed"),
        ("BREW", "/v1/workloads", 400, "invalid"),
        ("GET", "/v1/workloads?name=" + "x" * 10_000, 400, "invalid"),
        ("OPTIONS", "/v1/workloads", 405, "not-allowed"),
        ("POST", "/v1/pool", 405, "not-allowed"),
    ],
)
async def test_what_is_not_there_is_a_problem_too(method: str, path: str, status: int, slug: str):
    async with serving() as served:
        reply = await served.call(method, path)

        assert (reply.status, reply.slug) == (status, slug)
        assert reply.headers["Server"] == "federation"
        assert "Access-Control-Allow-Origin" not in reply.headers


async def test_a_failure_inside_shows_nothing_of_itself():
    class Broken:
        async def append(self, messages: Any) -> None:
            raise RuntimeError("secret")

    async with serving(log=Broken()) as served:  # type: ignore[arg-type]
        reply = await served.call("POST", "/v1/events", _event(), headers=CE)

        assert (reply.status, reply.slug) == (500, "internal")
        assert b"secret" not in reply.raw


CE = {
    "ce-specversion": "1.0",
    "ce-id": "e-1",
    "ce-source": "/clusters/east/agent",
    "ce-type": "federation.node.gone.v1",
    "ce-epochuid": "u-1",
    "ce-epoch": "1",
    "ce-sequence": "1",
}


def _event(cluster: str = "east") -> dict[str, Any]:
    return {"cluster": cluster, "node": "n-1"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"ce-type": "federation.unknown.v1"}, _event()),
        ({"ce-type": "federation.placement.unwanted.v1"}, _event()),
        ({"ce-source": "/hub"}, _event()),
        ({"ce-source": "/clusters/west/agent"}, _event("east")),
        ({"ce-sequence": "-1"}, _event()),
        ({"ce-epoch": "9" * 40}, _event()),
        ({"ce-id": ""}, _event()),
        ({"ce-id": "x" * 5000}, _event()),
        ({"ce-time": "yesterday"}, _event()),
        ({"ce-specversion": "0.3"}, _event()),
        ({}, {"cluster": "east"}),
        ({}, b"["),
        ({}, b"[" * 50_000),
        ({"Content-Type": "application/cloudevents-batch+json"}, [{"specversion": "1.0"}]),
        ({"Content-Type": "application/cloudevents+json"}, {"specversion": "1.0", "id": "a"}),
    ],
)
async def test_an_event_that_is_unfit_is_refused_and_not_appended(headers: dict[str, str], body: Any):
    async with serving() as served:
        reply = await served.call("POST", "/v1/events", body, headers={**CE, **headers})

        assert (reply.status, reply.slug) == (400, "invalid")
        assert await _appended(served) == []


async def test_a_batch_goes_whole_or_not_at_all():
    async with serving() as served:
        good = {
            "specversion": "1.0",
            "id": "e-1",
            "source": "/clusters/east/agent",
            "type": "federation.node.gone.v1",
            "epochuid": "u-1",
            "epoch": 1,
            "sequence": 1,
            "data": _event(),
        }
        kind = {"Content-Type": "application/cloudevents-batch+json"}

        refused = await served.call("POST", "/v1/events", [good, {**good, "type": "x"}], headers=kind)
        taken = await served.call("POST", "/v1/events", [good, {**good, "id": "e-2"}], headers=kind)

        assert (refused.status, refused.json["pointer"]) == (400, "/1")
        assert (taken.status, taken.json) == (202, {"accepted": 2})
        assert await _appended(served) == ["east", "east"]


async def test_each_mode_of_cloudevents_is_appended_alike():
    async with serving() as served:
        structured = {**{name[3:]: value for name, value in CE.items()}, "data": _event()}

        binary = await served.call("POST", "/v1/events", _event(), headers=CE)
        whole = await served.call(
            "POST", "/v1/events", structured, headers={"Content-Type": "application/cloudevents+json"}
        )

        assert (binary.status, whole.status) == (202, 202)
        assert await _appended(served) == ["east", "east"]


async def test_a_log_that_is_down_is_said_so():
    class Down:
        async def append(self, messages: Any) -> None:
            await asyncio.sleep(60)

    async with serving(ApiSettings(append_seconds=0.2), log=Down()) as served:  # type: ignore[arg-type]
        reply = await served.call("POST", "/v1/events", _event(), headers=CE)

        assert (reply.status, reply.slug, reply.headers["Retry-After"]) == (503, "unavailable", "1")


@pytest.mark.parametrize("body", [{}, {"cordoned": "true"}, {"cordoned": 1}, {"cordoned": True, "labels": {}}, b"null"])
async def test_a_cluster_takes_only_the_cordon(body: Any):
    async with serving() as served:
        await put_clusters(served.store, make_cluster("east"))

        reply = await served.call("PATCH", "/v1/clusters/east", body)

        assert (reply.status, reply.slug) == (400, "invalid")
        assert (await served.call("GET", "/v1/clusters/east")).json["cordoned"] is False


async def test_callers_that_hang_up_leave_no_connection_behind():
    async with serving() as served:

        async def hang_up(number: int) -> None:
            calling = asyncio.create_task(served.call("POST", "/v1/workloads", {**WEB, "name": f"w-{number}"}))
            await asyncio.sleep(0.0005 * (number % 20))
            calling.cancel()
            await asyncio.wait([calling])

        for start in range(0, 400, 20):
            await asyncio.gather(*(hang_up(number) for number in range(start, start + 20)))

        for _ in range(200):
            if served.store.committed().in_use == 0:
                break
            await asyncio.sleep(0.05)
        assert served.store.committed().in_use == 0
        assert (await served.call("POST", "/v1/workloads", {**WEB, "name": "last"})).status == 202


async def _chunks() -> Any:
    for _ in range(200):
        yield b"x" * 50_000


async def _unchanged(served: Served) -> None:
    async with served.store.reader() as reader:
        assert await reader.queue(10) == []


async def _appended(served: Served) -> list[str]:
    """The keys of what stands in the log."""

    async def from_the_start(sources: Any) -> dict[str, int]:
        return {}

    consumer = await served.log.consume("test", ["federation.events"], from_the_start)
    try:
        batch = await consumer.poll(100, 0.2)
        return [record.key for record in batch.records]
    finally:
        await consumer.close()
