"""Who is served: tokens of the issuer and no others; each role its routes; each team its own; without tokens loopback."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import msgspec
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from yarl import URL

from federation.api.keys import Keys, parse_keys
from federation.api.routes import ROUTES, Route
from federation.domain.errors import Invalid, Unavailable
from federation.services.callers import Role
from tests.api.serving import WEB, Served, audit_rows, decide, make_cluster, put_clusters, serving
from tests.api.test_bad_input import CE
from tests.api.tokens import Issuer, good_claims, rsa_key

AGENT = {"role": "agent", "cluster": "east", "team": None}


@asynccontextmanager
async def guarded(tmp_path: Path, issuer: Issuer, **more: Any) -> AsyncIterator[Served]:
    async with serving(issuer.settings(tmp_path, **more)) as served:
        yield served


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kid", ["rsa", "ec", "ed"])
async def test_tokens_signed_by_each_kind_of_key_are_taken(tmp_path: Path, kid: str):
    issuer = Issuer()
    async with guarded(tmp_path, issuer) as served:
        reply = await served.call("GET", "/v1/pool", headers={"Authorization": f"Bearer {issuer.token(kid)}"})

        assert reply.status == 200


BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "ended": {"exp": int(time.time()) - 120},
    "not begun": {"nbf": int(time.time()) + 3600},
    "without an end": {"exp": None},
    "an end that is no number": {"exp": "tomorrow"},
    "of another issuer": {"iss": "https://other.example"},
    "without an issuer": {"iss": None},
    "for others": {"aud": "other"},
    "for nobody": {"aud": None},
    "without a role": {"role": None},
    "of an unknown role": {"role": "root"},
    "with a list of roles": {"role": ["operator"]},
    "a member of no team": {"team": None},
    "a member of a strange team": {"team": "*"},
    "an agent of no cluster": {"role": "agent"},
    "of nobody": {"sub": None},
    "of a name that forges lines": {"sub": "ann\nadmin"},
}


@pytest.mark.parametrize("claims", list(BAD_CLAIMS.values()), ids=list(BAD_CLAIMS))
async def test_a_token_with_unfit_claims_is_refused(tmp_path: Path, claims: dict[str, Any]):
    issuer = Issuer()
    async with guarded(tmp_path, issuer) as served:
        headers = issuer.bearer(**claims)

        reply = await served.call("GET", "/v1/pool", headers=headers)

        assert (reply.status, reply.slug, reply.headers["WWW-Authenticate"]) == (401, "unauthorized", "Bearer")


def _unsigned() -> str:
    return jwt.encode(good_claims(), None, "none", headers={"kid": "ed"})


def _signed_with_the_public_key(issuer: Issuer) -> str:
    """The old trick: the public key as the secret of an HMAC."""
    public = issuer.keys["rsa"][1].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    parts = [{"alg": "HS256", "kid": "rsa", "typ": "JWT"}, good_claims()]
    signed = b".".join(base64.urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=") for part in parts)
    mac = base64.urlsafe_b64encode(hmac.new(pem, signed, hashlib.sha256).digest()).rstrip(b"=")
    return (signed + b"." + mac).decode()


async def test_a_token_that_the_issuer_did_not_sign_is_refused(tmp_path: Path):
    issuer, stranger = Issuer(), Issuer()
    header, payload, signature = issuer.token().split(".")
    stronger = jwt.encode(good_claims(), issuer.keys["rsa"][1], "RS512", headers={"kid": "rsa"})
    no_kid = jwt.encode(good_claims(), issuer.keys["ed"][1], "EdDSA")
    tokens = {
        "of a stranger": stranger.token(),
        "unsigned": _unsigned(),
        "signed with the public key": _signed_with_the_public_key(issuer),
        "by another algorithm": stronger,
        "without its key's id": no_kid,
        "with an unknown key": jwt.encode(good_claims(), issuer.keys["ed"][1], "EdDSA", headers={"kid": "x"}),
        "changed": f"{header}.{payload[:-2]}AA.{signature}",
        "cut": f"{header}.{payload}",
        "no token": "abc",
        "too long": "a" * 8100,
    }
    async with guarded(tmp_path, issuer) as served:
        for what, token in tokens.items():
            reply = await served.call("GET", "/v1/pool", headers={"Authorization": f"Bearer {token}"})

            assert (what, reply.status) == (what, 401)


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Bearer", "Bearer "])
async def test_without_a_token_nothing_is_served(tmp_path: Path, header: str | None):
    async with guarded(tmp_path, Issuer()) as served:
        headers = {} if header is None else {"Authorization": header}

        reply = await served.call("GET", "/v1/pool", headers=headers)

        assert (reply.status, reply.slug) == (401, "unauthorized")


async def test_a_token_is_not_remembered_past_its_end(tmp_path: Path):
    issuer = Issuer()
    async with guarded(tmp_path, issuer) as served:
        # Its leeway is over in a second, and it was good before.
        headers = issuer.bearer(exp=int(time.time()) - 28)
        first = await served.call("GET", "/v1/pool", headers=headers)
        await asyncio.sleep(2.2)

        again = await served.call("GET", "/v1/pool", headers=headers)

        assert (first.status, again.status) == (200, 401)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_keys_that_are_weak_or_for_other_purposes_are_passed_over():
    issuer = Issuer({"rsa": ("RS256", rsa_key()), "weak": ("RS256", rsa_key(1024))})
    published = msgspec.json.decode(issuer.key_set())
    good = published["keys"][0]
    others = [{**good, "kid": "enc", "use": "enc"}, {**good, "kid": "ps", "alg": "PS256"}, {"kty": "oct", "k": "AA"}, 5]

    keys = parse_keys(msgspec.json.encode({"keys": [*published["keys"], *others]}))

    assert list(keys) == ["rsa"]


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": []}', b'{"keys": [{"kty": "oct"}]}', b"[" * 50_000])
def test_a_key_set_without_a_usable_key_is_refused(document: bytes):
    with pytest.raises(Invalid):
        parse_keys(document)


def test_a_key_set_is_not_fetched_in_the_open():
    with pytest.raises(Invalid):
        Keys("http://issuer.example/keys")


async def test_keys_are_fetched_once_and_again_when_a_new_one_is_named():
    issuer = Issuer()
    async with _publishing(issuer) as (address, asked):
        times = iter(range(0, 10_000, 20))
        keys = Keys(address, lambda: float(next(times)))
        first = await keys.find("ed")
        issuer.keys["new"] = issuer.keys["ed"]

        second = await keys.find("new")

        assert first is not None
        assert second is not None
        assert len(asked) == 2


async def test_strangers_who_make_up_key_ids_do_not_make_us_fetch():
    issuer = Issuer()
    async with _publishing(issuer) as (address, asked):
        keys = Keys(address)

        found = [await keys.find(f"made-up-{number}") for number in range(50)]

        assert found == [None] * 50
        assert len(asked) == 1


async def test_keys_once_read_outlive_their_issuer():
    issuer, now = Issuer(), [0.0]
    async with _publishing(issuer) as (address, _):
        keys = Keys(address, lambda: now[0])
        assert await keys.find("ed") is not None
    now[0] += 3600

    assert await keys.find("ed") is not None


async def test_without_any_keys_the_answer_is_unavailable(tmp_path: Path):
    keys = Keys(str(tmp_path / "absent.json"))

    with pytest.raises(Unavailable):
        await keys.find("ed")


async def test_a_redirect_to_other_keys_is_not_followed():
    async with _publishing(Issuer()) as (address, _):
        keys = Keys(address.replace("/keys", "/moved"))

        with pytest.raises(Unavailable):
            await keys.find("ed")


@asynccontextmanager
async def _publishing(issuer: Issuer) -> AsyncIterator[tuple[str, list[str]]]:
    asked: list[str] = []

    async def keys(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=issuer.key_set(), content_type="application/json")

    async def moved(request: web.Request) -> web.Response:
        raise web.HTTPFound("/keys")

    app = web.Application()
    app.router.add_get("/keys", keys)
    app.router.add_get("/moved", moved)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/keys", asked
    await runner.cleanup()


# --- roles and teams -------------------------------------------------------------------------------------------------

CALLERS: dict[str, tuple[Role, dict[str, Any]]] = {
    "viewer": (Role.VIEWER, {"role": "viewer"}),
    "member": (Role.MEMBER, {"role": "member"}),
    "operator": (Role.OPERATOR, {"role": "operator", "team": None}),
    "agent": (Role.AGENT, AGENT),
    "viewer of another team": (Role.VIEWER, {"role": "viewer", "team": "other"}),
    "member of another team": (Role.MEMBER, {"role": "member", "team": "other"}),
    "agent of another cluster": (Role.AGENT, {**AGENT, "cluster": "west"}),
}
# What a caller of the right role and team hears of each route, on what the test has put there.
FINE = {
    "post_workload": 202,
    "put_workload": 202,
    "patch_workload": 202,
    "delete_workload": 202,
    "post_events": 202,
}
# Routes that show or touch what belongs to one team.
OF_A_TEAM = frozenset(
    {"get_workload", "put_workload", "patch_workload", "delete_workload", "renew_workload"}
    | {"get_explanation", "list_decisions", "get_decision", "replay_decision"}
)
OF_A_CLUSTER = frozenset({"get_cluster", "list_nodes"})


@pytest.mark.parametrize("who", list(CALLERS))
@pytest.mark.parametrize("route", [r for r in ROUTES if r.roles and r.name != "get_stream"], ids=lambda r: r.name)
async def test_each_role_is_served_its_routes_and_its_own(tmp_path: Path, route: Route, who: str):
    issuer = Issuer()
    role, claims = CALLERS[who]
    async with guarded(tmp_path, issuer) as served:
        path, body = await _world(served, issuer, route)

        reply = await served.call(
            route.method, path, body, headers={**issuer.bearer(**claims), **(CE if route.name == "post_events" else {})}
        )

        assert reply.status == _expected(route, role, who)
        if reply.status >= 400:
            assert reply.slug == {403: "forbidden", 404: "not-found"}[reply.status]


def _expected(route: Route, role: Role, who: str) -> int:
    is_foreign = "another" in who
    if role not in route.roles:
        return 403
    if is_foreign and (route.name in OF_A_TEAM or (role is Role.AGENT and route.name in OF_A_CLUSTER)):
        return 404
    if is_foreign and route.name in ("post_workload", "post_plan", "post_events"):
        return 403
    return FINE.get(route.name, 200)


async def _world(served: Served, issuer: Issuer, route: Route) -> tuple[str, Any]:
    """A cluster, a decided workload of team shop, and the path and body that speak of them."""
    await put_clusters(served.store, make_cluster("east"))
    operator = issuer.bearer(role="operator", team=None)
    made = await served.call("POST", "/v1/workloads", {**WEB, "team": "shop"}, headers=operator)
    decision = await decide(served, made.json["id"], {"east": 2})
    path = route.path.replace("{name}", "east")
    path = path.replace("{id}", decision.id if "/decisions/{id}" in path else made.json["id"])
    bodies: dict[str, Any] = {
        "post_workload": {**WEB, "name": "new", "team": "shop"},
        "post_plan": {**WEB, "team": "shop"},
        "put_workload": {"replicas": 4},
        "patch_workload": {"replicas": 4},
        "patch_cluster": {"cordoned": True},
        "post_events": {"cluster": "east", "node": "n-1"},
    }
    return path, bodies.get(route.name)


async def test_foreign_and_absent_look_alike(tmp_path: Path):
    issuer = Issuer()
    async with guarded(tmp_path, issuer) as served:
        await put_clusters(served.store, make_cluster("east"))
        made = await served.call("POST", "/v1/workloads", WEB, headers=issuer.bearer())
        stranger = issuer.bearer(team="other")

        for method, body in (("GET", None), ("PUT", {"replicas": 1}), ("PATCH", {"replicas": 1}), ("DELETE", None)):
            foreign = await served.call(method, f"/v1/workloads/{made.json['id']}", body, headers=stranger)
            absent = await served.call(method, f"/v1/workloads/{served.ids.new()}", body, headers=stranger)

            assert {**foreign.json, "requestId": ""} == {**absent.json, "requestId": ""}
            assert foreign.status == 404


async def test_lists_show_a_team_its_own(tmp_path: Path):
    issuer = Issuer()
    async with guarded(tmp_path, issuer) as served:
        await served.call("POST", "/v1/workloads", WEB, headers=issuer.bearer())
        await served.call("POST", "/v1/workloads", {**WEB, "name": "b"}, headers=issuer.bearer(team="other"))

        async def teams(query: str, **claims: Any) -> list[str]:
            reply = await served.call("GET", f"/v1/workloads{query}", headers=issuer.bearer(**claims))
            return [item["team"] for item in reply.json["items"]]

        assert await teams("") == ["shop"]
        assert await teams("?team=other") == []
        assert await teams("", role="operator", team=None) == ["shop", "other"]
        assert await teams("?team=other", role="operator", team=None) == ["other"]


async def test_a_cursor_of_another_tenant_is_refused(tmp_path: Path):
    issuer = Issuer()
    async with guarded(tmp_path, issuer) as served:
        for name in ("a", "b"):
            await served.call("POST", "/v1/workloads", {**WEB, "name": name}, headers=issuer.bearer())
        cursor = (await served.call("GET", "/v1/workloads?limit=1", headers=issuer.bearer())).json["next"]

        reply = await served.call("GET", f"/v1/workloads?after={cursor}", headers=issuer.bearer(team="other"))

        assert (reply.status, reply.slug) == (400, "invalid")


async def test_an_idempotency_key_is_a_teams_own(tmp_path: Path):
    issuer, key = Issuer(), {"Idempotency-Key": "k"}
    async with guarded(tmp_path, issuer) as served:
        ours = await served.call("POST", "/v1/workloads", WEB, headers={**issuer.bearer(), **key})

        theirs = await served.call("POST", "/v1/workloads", WEB, headers={**issuer.bearer(team="other"), **key})

        assert theirs.status == 202
        assert theirs.json["id"] != ours.json["id"]


async def test_a_member_who_names_no_team_asks_for_its_own(tmp_path: Path):
    issuer = Issuer()
    async with guarded(tmp_path, issuer) as served:
        reply = await served.call("POST", "/v1/workloads", WEB, headers=issuer.bearer())

        assert reply.json["team"] == "shop"


async def test_an_answer_kept_for_one_team_is_not_given_to_another(tmp_path: Path):
    issuer = Issuer()
    async with guarded(tmp_path, issuer, cache_seconds=60.0) as served:
        await served.call("POST", "/v1/workloads", WEB, headers=issuer.bearer())
        ours = await served.call("GET", "/v1/workloads/web", headers=issuer.bearer())

        theirs = await served.call("GET", "/v1/workloads/web", headers=issuer.bearer(team="other"))

        assert (ours.status, theirs.status) == (200, 404)


async def test_who_was_refused_is_written_down(tmp_path: Path):
    issuer = Issuer()
    async with guarded(tmp_path, issuer) as served:
        await put_clusters(served.store, make_cluster("east"))

        await served.call("PATCH", "/v1/clusters/east", {"cordoned": True}, headers=issuer.bearer(sub="eve"))
        await served.call("POST", "/v1/workloads", WEB, headers=issuer.bearer(role="viewer", sub="vic"))

        assert [(row.who, row.what, row.target) for row in await audit_rows(served.store)] == [
            ("eve", "patch_cluster", "east"),
            ("vic", "post_workload", ""),
        ]
        assert (await served.call("GET", "/v1/clusters/east", headers=issuer.bearer())).json["cordoned"] is False


async def test_documents_and_probes_are_open(tmp_path: Path):
    async with guarded(tmp_path, Issuer()) as served:
        for path in ("/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "/asyncapi.json"):
            assert (await served.call("GET", path)).status == 200


# --- loopback --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "127.0.0.1.evil.example"]
)
async def test_a_page_elsewhere_cannot_speak_to_the_loopback_server(host: str):
    async with serving() as served:
        reply = await served.call("GET", "/v1/pool", headers={"Host": host})

        assert (reply.status, reply.slug) == (403, "forbidden")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]", "[::1]:8080"])
async def test_names_of_this_machine_are_served(host: str):
    async with serving() as served:
        assert (await served.call("GET", "/v1/pool", headers={"Host": host})).status == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
async def test_who_comes_through_a_proxy_is_not_of_this_machine(header: str):
    async with serving() as served:
        reply = await served.call("GET", "/v1/pool", headers={header: "203.0.113.7"})

        assert (reply.status, reply.slug) == (403, "forbidden")


async def test_headers_tell_browsers_to_keep_out():
    async with serving() as served, aiohttp.ClientSession() as http, http.get(URL(served.url + "/v1/pool")) as reply:
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert reply.headers["Server"] == "federation"
