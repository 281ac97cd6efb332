"""Processes that end as by kill -9, with work in flight: nothing is lost, and nothing is done twice."""

import asyncio
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from tests.e2e.hub import Hub, by_cluster
from tests.e2e.manifests import deployment
from tests.e2e.sight import TEAM, per_cluster, pods
from tests.e2e.system import LEASE_SECONDS, System

Json = Any
pytestmark = pytest.mark.timeout(90, func_only=True)


async def test_second_agents_stand_by_and_take_over_from_one_that_is_killed_and_one_that_is_frozen(system: System):
    killed, frozen = system.programs["agent-east"], system.programs["agent-west"]
    after_killed = system.run("second-east", "agent", system.agent_settings("east"))
    after_frozen = system.run("second-west", "agent", system.agent_settings("west"))
    await asyncio.gather(after_killed.logs("stands by"), after_frozen.logs("stands by"))
    workload = await system.hub.place(deployment("guarded", 6), team=TEAM)
    before = await system.hub.runs(workload, 6)
    there = {pod.uid for pod in await pods(system, "guarded")}

    killed.kill()
    frozen.process.pause()
    try:
        await system.hub.patch(f"/v1/workloads/{workload}", {"replicas": 12})
        await asyncio.gather(after_killed.logs("term begins"), after_frozen.logs("term begins"))
    finally:
        frozen.process.resume()
    after = await system.hub.runs(workload, 12, LEASE_SECONDS + 30)
    await frozen.logs("stands by")
    found = await pods(system, "guarded")

    assert there <= {pod.uid for pod in found}, "a pod was lost or restarted"
    assert all(by_cluster(after)[name] > by_cluster(before)[name] for name in ("east", "west"))
    assert per_cluster(found) == by_cluster(after)

    # As it was: the first ones stand by, and lead again as soon as the second ones go in good order.
    terms = killed.log().count("term begins")
    killed.start()
    await killed.logs("stands by")
    await asyncio.gather(*(asyncio.to_thread(system.end, f"second-{name}") for name in ("east", "west")))
    await asyncio.gather(killed.logs("term begins", terms + 1), frozen.logs("term begins", 2))
    await system.hub.patch(f"/v1/workloads/{workload}", {"replicas": 6})
    await system.hub.runs(workload, 6)
    await system.check()


async def test_workers_that_are_killed_with_work_in_flight_lose_and_double_nothing(system: System):
    names = [f"flight-{number}" for number in range(8)]

    placed = []
    for number, name in enumerate(names):
        placed.append(await system.hub.place(deployment(name, 3), team=TEAM))
        if number % 3 == 2:
            system.programs["work"].kill()
            await asyncio.to_thread(system.programs["work"].start)
    running = [await system.hub.runs(workload, 3, 60) for workload in placed]

    for name, workload in zip(names, running, strict=True):
        assert per_cluster(await pods(system, name)) == by_cluster(workload)
    await system.check()


async def test_an_api_that_is_killed_while_it_is_asked_takes_each_workload_once(system: System):
    names = [f"asked-{number}" for number in range(8)]

    asked = asyncio.gather(*(insist(system.hub, name) for name in names))
    for _ in range(2):
        await asyncio.sleep(0.1)
        system.programs["serve"].kill()
        await asyncio.to_thread(system.programs["serve"].start)
    placed = await asked
    listed = (await system.hub.get("/v1/workloads?limit=500"))["items"]

    assert sorted(item["name"] for item in listed) == names
    assert {item["id"] for item in listed} == set(placed)
    for name, workload in zip(names, placed, strict=True):
        running = await system.hub.runs(workload, 2, 60)
        assert per_cluster(await pods(system, name)) == by_cluster(running)
    await system.check()


async def insist(hub: Hub, name: str) -> str:
    """Ask for a workload until it is answered, with one key so that it counts once."""
    key = {"Idempotency-Key": str(uuid4())}
    body = {"manifest": deployment(name, 2), "team": TEAM}
    async with asyncio.timeout(60):
        while True:
            try:
                status, answer = await hub.request("POST", "/v1/workloads", body, key)
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.1)
                continue
            assert status < 300, answer
            return str(answer["id"])
