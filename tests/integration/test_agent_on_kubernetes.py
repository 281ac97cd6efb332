"""The agent on a real API server, as its own ServiceAccount: orders become pods, and what becomes of them is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from adapters.kubernetes.gateway import KubernetesGateway
from adapters.system import SystemClock
from federation.domain.events import NodeObserved, PlacementObserved, PlacementWanted, ResyncFinished, ResyncStarted
from federation.domain.member import ObjectKey
from federation.services.agent import AgentParts, AgentSettings
from federation.workers.agent import run_agent
from tests.integration.kubernetes_world import LEASES, ORDERS, RealWorld, agent_token, write_kubeconfig
from tests.services.agents import Desk, make_manifest, unwanted, wanted
from tests.testbed.member import MemberCluster


@pytest.fixture
async def world(member: MemberCluster, tmp_path: Path) -> AsyncIterator[RealWorld]:
    token = await agent_token(member)
    for left in (LEASES, ORDERS):
        await member.request("DELETE", left)
    world = RealWorld(member, write_kubeconfig(member, tmp_path / "agent.kubeconfig", token))
    yield world
    await world.gateway.close()


@asynccontextmanager
async def running(desk: Desk, gateway: KubernetesGateway, **settings: Any) -> AsyncIterator[None]:
    """An agent, which is told to stop at the end and must do so within seconds."""
    stop = asyncio.Event()
    parts = AgentParts(
        cluster="east",
        gateway=gateway,
        log=desk.log,
        clock=desk.clock,
        ids=desk.ids,
        settings=AgentSettings(heartbeat_seconds=2.0, **settings),
    )
    agent = asyncio.create_task(run_agent(parts, stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(agent, 10)


def wanted_in(world: RealWorld, order: int, replicas: int) -> PlacementWanted:
    manifest = make_manifest(nodeSelector={"pool": world.pool})
    placed = f"p-{world.pool}"
    return wanted(order, placement=placed, namespace=world.namespace, replicas=replicas, manifest=manifest)


async def test_an_order_becomes_pods_and_its_end_leaves_nothing(world: RealWorld):
    desk, placed = Desk(SystemClock()), f"p-{world.pool}"
    await world.add_node("n-1", {"cpu": "4", "memory": "8Gi"})

    async with running(desk, world.real):
        await desk.order(wanted_in(world, 1, 3))
        await desk.until(lambda: (p := desk.placement(placed)) and p.ready == 3 and p.observed)
        await desk.order(wanted_in(world, 2, 1))
        await desk.until(lambda: (p := desk.placement(placed)) and (p.version, p.live, p.observed) == (2, 1, True))
        scaled = desk.placement(placed)
        await desk.order(unwanted(3, placement=placed))
        await desk.until(lambda: (p := desk.placement(placed)) and p.gone and p.done == 3)

    assert scaled is not None
    assert (scaled.desired, scaled.bound, scaled.team, scaled.workload) == (1, 1, "shop", "web")
    assert desk.sequences() == list(range(1, len(desk.sequences()) + 1))
    assert any(entry.placement == placed for event in desk.events(NodeObserved) for entry in event.placements)
    answers = world.real.api.answers
    assert answers[401] + answers[403] == 0


async def test_what_fits_nowhere_is_told_with_the_schedulers_words_and_a_floor_takes_it_back(world: RealWorld):
    desk, placed = Desk(SystemClock()), f"p-{world.pool}"
    await world.add_node("n-1", {"cpu": "1", "memory": "8Gi"})

    async with running(desk, world.real):
        await desk.order(wanted_in(world, 1, 5))
        await desk.until(lambda: (p := desk.placement(placed)) and p.bound == 2 and p.unschedulable.count == 3)
        stuck = desk.placement(placed)
        await desk.order(replace(wanted_in(world, 2, 0), floor_at_bound=True))
        await desk.until(lambda: (p := desk.placement(placed)) and p.version == 2 and p.observed and p.live == 2)
        await desk.order(unwanted(3, placement=placed))
        await desk.until(lambda: (p := desk.placement(placed)) and p.gone)

    assert stuck is not None
    assert "nsufficient cpu" in stuck.unschedulable.reason


async def test_the_next_agent_goes_on_in_a_new_epoch_and_does_nothing_twice(world: RealWorld):
    desk, placed = Desk(SystemClock()), f"p-{world.pool}"
    key = ObjectKey("apps/v1/Deployment", world.namespace, "web")
    await world.add_node("n-1", {"cpu": "4", "memory": "8Gi"})

    async with running(desk, world.real):
        await desk.order(wanted_in(world, 1, 2))
        await desk.until(lambda: (p := desk.placement(placed)) and p.ready == 2)
    before = await world.real.read(key)
    second = world.another_gateway()
    async with running(desk, second):
        await desk.until(lambda: _opened_by(desk) == 2 and desk.events(ResyncFinished))
        await desk.until(lambda: [e for e in desk.events(PlacementObserved)[-3:] if e.observed and e.ready == 2])
        after = await second.read(key)
        await desk.order(unwanted(2, placement=placed))
        await desk.until(lambda: desk.placement(placed).gone)
    await second.close()

    epochs = [envelope.stamp.epoch for envelope, _ in desk.told() if envelope.stamp]
    assert before is not None
    assert after is not None
    assert (before.uid, before.version) == (after.uid, after.version)
    assert epochs == sorted(epochs)
    assert _opened_by(desk) == 2


def _opened_by(desk: Desk) -> int:
    """How many epochs were opened by a resync."""
    return len(
        {envelope.stamp.epoch for envelope, event in desk.told() if isinstance(event, ResyncStarted) and envelope.stamp}
    )
