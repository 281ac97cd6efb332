"""Who may see and do what, by tokens of an issuer whose keys the API reads from a file."""

from collections.abc import Iterator

import pytest

from tests.api.tokens import AUDIENCE, ISSUER, Issuer
from tests.e2e.hub import Hub
from tests.e2e.manifests import deployment
from tests.e2e.system import System

pytestmark = pytest.mark.timeout(60, func_only=True)
ISSUED = Issuer()


@pytest.fixture
def guarded(system: System) -> Iterator[Hub]:
    """An API that asks for tokens, beside the one that serves this machine."""
    keys = system.folder / "keys.json"
    keys.write_bytes(ISSUED.key_set())
    settings = {"AUTH_ISSUER": ISSUER, "AUTH_AUDIENCE": AUDIENCE, "AUTH_JWKS": str(keys)}
    yield system.serve("guarded", **settings)
    system.end("guarded")


async def test_a_member_of_a_team_sees_and_changes_that_team_alone(system: System, guarded: Hub):
    ann = guarded.showing(ISSUED.token(sub="ann", role="member", team="shop"))
    bob = guarded.showing(ISSUED.token(sub="bob", role="member", team="bank"))
    eve = guarded.showing(ISSUED.token(sub="eve", role="operator", team=None))

    own = await ann.place(deployment("web", 2))
    theirs = await bob.place(deployment("web", 2))
    await ann.runs(own, 2)
    seen = {who: await listed(hub) for who, hub in (("ann", ann), ("bob", bob), ("eve", eve))}
    answers = [
        (await bob.request("GET", f"/v1/workloads/{own}"))[0],
        (await bob.request("DELETE", f"/v1/workloads/{own}"))[0],
        (await ann.request("POST", "/v1/workloads", {"manifest": deployment("x", 1), "team": "bank"}))[0],
        (await ann.request("PATCH", "/v1/clusters/east", {"cordoned": True}))[0],
        (await guarded.request("GET", "/v1/workloads"))[0],
    ]

    assert seen == {"ann": {own}, "bob": {theirs}, "eve": {own, theirs}}
    assert answers == [404, 404, 403, 403, 401]


async def listed(hub: Hub) -> set[str]:
    return {item["id"] for item in (await hub.get("/v1/workloads?limit=500"))["items"]}
