"""Requests against a server that fails: what is tried again, what is not, and what each answer means."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from adapters.kubernetes.access import InCluster, Kubeconfig
from adapters.kubernetes.answers import Denied, Disrupted, Expired
from adapters.kubernetes.client import ApiServer, Limits, Request
from adapters.kubernetes.gateway import KubernetesGateway, Options
from federation.domain.errors import Conflict, FederationError, Invalid, NotFound, Unavailable
from federation.domain.member import MemberPod, ObjectKey
from tests.integration.fake_api import (
    Answer,
    FakeApi,
    body,
    failure,
    serving,
    status,
    stream,
    text,
    write_kubeconfig,
    zipped,
)

QUICK = Limits(request_seconds=3.0, answer_bytes=100_000)
WEB = ObjectKey("apps/v1/Deployment", "shop", "web")
POD = MemberPod(uid="uid-1", namespace="shop", name="web-1")
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop", "uid": "uid-1", "resourceVersion": "7", "generation": 1},
}


async def ask(fake: FakeApi, limits: Limits = QUICK, seconds: float = 0.0) -> bytes:
    api = ApiServer(fake, limits)
    try:
        return await api.call(Request(path="/api/v1/things", seconds=seconds))
    finally:
        await api.close()


def gateway_of(fake: FakeApi) -> KubernetesGateway:
    return KubernetesGateway(fake, Options(limits=QUICK))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failure(400), Invalid),
        (failure(401), Unavailable),
        (failure(403), Denied),
        (failure(404), NotFound),
        (failure(405), Invalid),
        (failure(408), Unavailable),
        (failure(409), Conflict),
        (failure(410), Expired),
        (failure(413), Invalid),
        (failure(415), Invalid),
        (failure(422), Invalid),
        (failure(500), Unavailable),
        (failure(503), Unavailable),
        (failure(504), Unavailable),
        (failure(403, "Forbidden", "NamespaceTerminating"), Unavailable),
        (failure(429, "TooManyRequests", "DisruptionBudget"), Disrupted),
        (failure(200), Unavailable),
        (text("<html>too large</html>", 413), Invalid),
        (text("<html>bad gateway</html>", 502), Unavailable),
        (text("[" * 100_000, 500), Unavailable),
        (stream(raw=b'{"a', reset=True), Unavailable),
    ],
)
async def test_each_answer_is_told_apart_by_what_the_caller_can_do(answer: Answer, kind: type[FederationError]) -> None:
    async with serving(answer) as fake:
        with pytest.raises(kind) as raised:
            await ask(fake)

    assert len(fake.requests) == 1
    assert len(str(raised.value)) < 1200


async def test_a_refusal_carries_the_servers_words() -> None:
    async with serving(body({**status(422), "message": "spec.replicas: must be at least 0"}, 422)) as fake:
        with pytest.raises(Invalid, match="must be at least 0"):
            await ask(fake)


async def test_a_request_that_is_put_off_is_sent_again_when_asked_to() -> None:
    async with serving(failure(429, Retry_After="1"), body({"kind": "Thing"})) as fake:
        answer = await ask(fake)

    assert json.loads(answer) == {"kind": "Thing"}
    assert fake.times[1] - fake.times[0] >= 1.0


@pytest.mark.parametrize("seconds", ["3600", "99999999999999999999", "soon", "-1", "٣"])
async def test_a_request_that_is_put_off_too_long_is_unavailable_within_its_limit(seconds: str) -> None:
    async with serving(*[failure(429, Retry_After=seconds)] * 9) as fake, asyncio.timeout(4):
        with pytest.raises(Unavailable):
            await ask(fake)

    assert len(fake.requests) <= 4


async def test_a_server_that_never_answers_is_unavailable_within_the_limit() -> None:
    async with serving(stream(hang=True)) as fake, asyncio.timeout(2):
        with pytest.raises(Unavailable, match=r"no answer within 0\.3 s"):
            await ask(fake, seconds=0.3)


async def test_a_port_where_nobody_listens_is_unavailable() -> None:
    async with serving() as fake:
        pass

    with pytest.raises(Unavailable):
        await ask(fake)


@pytest.mark.parametrize("answer", [zipped(50_000_000), text(" " * 200_000)])
async def test_an_answer_is_read_only_so_far(answer: Answer) -> None:
    async with serving(answer) as fake:
        with pytest.raises(Unavailable, match="longer than 100000 bytes"):
            await ask(fake)


async def test_a_redirect_is_not_followed_and_takes_no_token_along() -> None:
    async with serving(body({})) as elsewhere:

        async def redirect(_: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": elsewhere.url + "/stolen"})

        async with serving(redirect) as fake:
            with pytest.raises(Unavailable, match="redirects"):
                await ask(fake)

        assert fake.headers[0]["Authorization"] == "Bearer of-the-agent"
        assert elsewhere.requests == []


async def test_a_write_whose_answer_is_lost_is_not_sent_again() -> None:
    async with serving(stream(reset=True)) as fake:
        gateway = gateway_of(fake)
        with pytest.raises(Unavailable):
            await gateway.delete(WEB, "uid-1")
        await gateway.close()

    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "content", ["null", "[]", '"text"', "{}", '{"metadata": []}', '{"metadata": {"uid": 7}}', "<html>"]
)
async def test_an_object_that_makes_no_sense_is_unavailable(content: str) -> None:
    async with serving(text(content)) as fake:
        gateway = gateway_of(fake)
        with pytest.raises(Unavailable):
            await gateway.read(WEB)
        await gateway.close()


async def test_a_cluster_without_autoscalers_is_read_all_the_same() -> None:
    async with serving(body(DEPLOYMENT), failure(404)) as fake:
        gateway = gateway_of(fake)

        found = await gateway.read(WEB)
        await gateway.close()

    assert found is not None
    assert (found.uid, found.autoscaler, found.observed, found.replicas) == ("uid-1", None, False, 1)


async def test_an_eviction_that_the_server_has_no_time_for_is_not_taken_for_a_budget() -> None:
    async with serving(*[text("Too many requests, please try again later.", 429)] * 9) as fake:
        gateway = gateway_of(fake)
        with pytest.raises(Unavailable):
            await gateway.evict(POD, 30)
        await gateway.close()


@pytest.mark.parametrize("name", ["", ".", "..", "a" * 254])
async def test_a_name_that_leads_elsewhere_is_invalid_and_nothing_is_sent(name: str) -> None:
    async with serving() as fake:
        gateway = gateway_of(fake)
        with pytest.raises(Invalid):
            await gateway.read(ObjectKey("apps/v1/Deployment", "shop", name))
        await gateway.close()

    assert fake.requests == []


async def test_a_name_stays_one_step_of_the_path() -> None:
    paths: list[str] = []

    async def note(request: web.Request) -> web.StreamResponse:
        paths.append(request.raw_path)
        return web.json_response(status(404), status=404)

    async with serving(note) as fake:
        gateway = gateway_of(fake)
        found = await gateway.read(ObjectKey("apps/v1/Deployment", "shop", "a/../b?c#d%2e"))
        await gateway.close()

    assert found is None
    assert paths == ["/apis/apps/v1/namespaces/shop/deployments/a%2F..%2Fb%3Fc%23d%252e"]


async def test_a_manifest_that_is_no_object_is_invalid() -> None:
    async with serving() as fake:
        gateway = gateway_of(fake)
        for manifest in ({}, {"metadata": None}, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 7}}):
            with pytest.raises(Invalid):
                await gateway.apply(manifest, "", "")
        await gateway.close()

    assert fake.requests == []


# --- credentials ---------------------------------------------------------------------------------------------------------


async def test_a_token_that_is_no_longer_taken_is_read_again_from_the_kubeconfig(tmp_path: Path) -> None:
    async with serving(body({}), failure(401), body({})) as fake:
        path = tmp_path / "kubeconfig"
        write_kubeconfig(fake, path, "first")
        api = ApiServer(Kubeconfig(str(path)), QUICK)
        await api.call(Request(path="/version"))
        write_kubeconfig(fake, path, "second")

        await api.call(Request(path="/version"))
        await api.close()

    tokens = [headers["Authorization"] for headers in fake.headers]
    assert tokens == ["Bearer first", "Bearer first", "Bearer second"]


async def test_a_kubeconfig_that_cannot_be_used_is_invalid(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    for content in ("clusters: [", "[]", "clusters: 5", "{}", "current-context: x", "\x00"):
        broken.write_text(content)
        with pytest.raises(Invalid, match="kubeconfig"):
            await ApiServer(Kubeconfig(str(broken)), QUICK).call(Request(path="/version"))
    with pytest.raises(Invalid, match="kubeconfig"):
        await ApiServer(Kubeconfig(str(tmp_path / "absent")), QUICK).call(Request(path="/version"))


async def test_outside_a_cluster_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(Invalid, match="not inside a cluster"):
        await ApiServer(InCluster(), QUICK).call(Request(path="/version"))
