"""What the system stands on goes away for a while, with work in flight, and all goes on by itself once it is back."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.hub import Hub, by_cluster
from tests.e2e.manifests import deployment
from tests.e2e.sight import TEAM, per_cluster, pods
from tests.e2e.system import System

Json = Any
pytestmark = pytest.mark.timeout(90, func_only=True)


@pytest.fixture(autouse=True, scope="module")
def patience(whole_system: System) -> Iterator[None]:
    """What comes back after an outage comes slowly: nothing is to be withdrawn meanwhile, as with the usual deadline."""
    usual = whole_system.programs["work"]
    usual.process.stop()
    patient = whole_system.run("work", "work", {"HOLD_DEADLINE_SECONDS": "120"})
    asyncio.run(patient.logs("leads"))
    yield
    whole_system.end("work")
    whole_system.programs["work"] = usual
    usual.start()


async def place_several(hub: Hub, prefix: str, count: int) -> dict[str, str]:
    """Workloads of three replicas each, by name."""
    return {f"{prefix}-{n}": await hub.place(deployment(f"{prefix}-{n}", 3), team=TEAM) for n in range(count)}


async def all_run_once(system: System, placed: dict[str, str]) -> None:
    """Every workload comes to run as it was decided, with as many pods as it wants and no more."""
    for name, workload in placed.items():
        running = await system.hub.runs(workload, 3, 60)
        assert per_cluster(await pods(system, name)) == by_cluster(running)
    await system.check()


async def test_a_broker_that_is_killed_and_comes_back_costs_nothing(system: System):
    before = await place_several(system.hub, "early", 3)
    system.parts.kafka.kill()
    try:
        meanwhile = await place_several(system.hub, "between", 3)
        await asyncio.sleep(3)
    finally:
        await asyncio.to_thread(system.parts.kafka.start)

    await all_run_once(system, before | meanwhile)


async def test_a_database_that_stops_and_comes_back_costs_nothing(system: System):
    before = await place_several(system.hub, "first", 3)
    # In good order: the test bed's database does not wait for its disk, and a kill would cost it what it acknowledged.
    await asyncio.to_thread(system.parts.postgres.stop)
    try:
        status, problem = await system.hub.request("GET", "/v1/workloads")
        ready, _ = await system.hub.request("GET", "/readyz")
        await asyncio.sleep(3)
    finally:
        await asyncio.to_thread(system.parts.postgres.start)

    assert (status, ready) == (503, 503)
    assert problem["type"].startswith("urn:federation:problem:")
    await system.hub.until("/readyz", lambda body: body["status"] == "ok")
    await all_run_once(system, before | await place_several(system.hub, "then", 2))


async def test_a_worker_that_is_frozen_is_replaced_and_does_no_harm_when_it_goes_on(system: System):
    second = system.run("stand-in", "work")
    await second.logs("stands by")
    frozen = system.programs["work"].process
    before = await place_several(system.hub, "cold", 2)
    frozen.pause()
    try:
        meanwhile = await place_several(system.hub, "warm", 3)
        for workload in meanwhile.values():
            await system.hub.runs(workload, 3, 60)
    finally:
        frozen.resume()
    after = await place_several(system.hub, "thawed", 2)

    await all_run_once(system, before | meanwhile | after)
    await asyncio.to_thread(system.end, "stand-in")
