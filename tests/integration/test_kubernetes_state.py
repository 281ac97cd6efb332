"""Lease and orders on a real API server: one agent at a time, and none sets back what its successor has stored."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.kubernetes.access import Kubeconfig
from adapters.kubernetes.gateway import KubernetesGateway
from federation.domain.errors import Conflict, Invalid
from federation.domain.records import Orders
from tests.integration.kubernetes_world import LEASES, ORDERS, RealWorld, agent_token, write_kubeconfig
from tests.testbed.member import MemberCluster


@pytest.fixture
async def world(member: MemberCluster, tmp_path: Path) -> AsyncIterator[RealWorld]:
    token = await agent_token(member)
    for left in (LEASES, ORDERS):
        await member.request("DELETE", left)
    world = RealWorld(member, write_kubeconfig(member, tmp_path / "agent.kubeconfig", token))
    yield world
    await world.gateway.close()


async def test_an_agent_cannot_set_back_what_its_successor_has_stored(world: RealWorld) -> None:
    successor = world.another_gateway()
    await world.gateway.store_orders(Orders(generation=1, done=5))
    await successor.load_orders()
    await successor.store_orders(Orders(generation=1, done=6))

    for _ in range(2):
        with pytest.raises(Conflict, match="1/6"):
            await world.gateway.store_orders(Orders(generation=1, done=5))

    assert await successor.load_orders() == Orders(generation=1, done=6)
    await successor.close()


async def test_orders_can_be_stored_after_somebody_has_only_labelled_them(world: RealWorld) -> None:
    await world.gateway.store_orders(Orders(generation=1, done=5))
    await world.member.patch(ORDERS, {"metadata": {"labels": {"looked": "at"}}})

    await world.gateway.store_orders(Orders(generation=1, done=6))

    assert await world.gateway.load_orders() == Orders(generation=1, done=6)


async def test_orders_that_somebody_has_spoilt_are_invalid(world: RealWorld) -> None:
    await world.gateway.store_orders(Orders(generation=1, done=5))
    await world.member.patch(ORDERS, {"data": {"done": "1e3"}})

    with pytest.raises(Invalid, match="done is not a whole number"):
        await world.gateway.load_orders()


async def test_a_lease_that_was_deleted_comes_back_with_another_uid(world: RealWorld) -> None:
    first = await world.gateway.hold_lease("a", 30)
    await world.member.delete(LEASES)

    second = await world.gateway.hold_lease("a", 30)

    assert first is not None
    assert second is not None
    assert first.uid != second.uid


async def test_an_expired_lease_is_judged_by_how_long_it_was_seen_unchanged(world: RealWorld) -> None:
    now = [100.0]
    watcher = KubernetesGateway(Kubeconfig(str(world.kubeconfig)), monotonic=lambda: now[0])
    await world.gateway.hold_lease("a", 30)
    await world.member.patch(LEASES, {"spec": {"renewTime": "2001-01-01T00:00:00.000000Z"}})

    at_first_sight = await watcher.hold_lease("b", 30)
    now[0] += 29
    await world.gateway.hold_lease("a", 30)
    after_a_renewal = await watcher.hold_lease("b", 30)
    now[0] += 29
    shortly_before = await watcher.hold_lease("b", 30)
    now[0] += 1
    after_its_time = await watcher.hold_lease("b", 30)

    assert (at_first_sight, after_a_renewal, shortly_before) == (None, None, None)
    assert after_its_time is not None
    assert await world.gateway.hold_lease("a", 30) is None
    await watcher.close()


async def test_racers_for_the_lease_have_one_winner(world: RealWorld) -> None:
    racers = [world.another_gateway() for _ in range(8)]

    won = await asyncio.gather(*(racer.hold_lease(f"racer-{n}", 30) for n, racer in enumerate(racers)))

    assert len([state for state in won if state is not None]) == 1
    for racer in racers:
        await racer.close()
