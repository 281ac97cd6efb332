"""Deadlines of what is held: counted only while the cluster was known, and what a withdrawal came too late for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.hub import DEADLINE_SECONDS, Hub, hub


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Hub]:
    async with hub(tmp_path) as started:
        yield started


async def versions(here: Hub) -> list[tuple[str, int, int]]:
    """Cluster, replicas and version of each placement."""
    found = [placement for cluster in await here.names() for placement in await here.placements(cluster)]
    return sorted((each.cluster, each.wanted, each.version) for each in found)


async def test_a_cluster_that_was_silent_has_the_whole_deadline_from_when_it_is_heard_again(here: Hub):
    east = here.agent("east")
    east.join(east.node())
    await here.fold()
    await here.create(replicas=2)
    await here.decide()

    here.clock.advance(DEADLINE_SECONDS + 60)
    await here.fold()
    await here.cycle()
    east.tell(east.beat())
    await here.fold()
    await here.cycle()
    at_once = await versions(here)
    here.clock.advance(DEADLINE_SECONDS - 1)
    east.tell(east.beat())
    await here.fold()
    await here.cycle()
    in_time = await versions(here)
    here.clock.advance(2)
    east.tell(east.beat())
    await here.fold()
    await here.cycle()

    assert at_once == in_time == [("east", 2, 1)]
    assert await versions(here) == [("east", 0, 2)]


async def test_what_stands_unread_in_the_log_may_show_that_all_is_well_so_nothing_is_withdrawn_before(here: Hub):
    east = here.agent("east")
    east.join(east.node())
    await here.fold()
    await here.create(replicas=2)
    (order,) = await here.decide()

    here.clock.advance(DEADLINE_SECONDS - 5)
    east.tell(east.beat())
    await here.fold()
    east.tell(east.node(used=2, **{order["placement"]: 2}), east.beat(done=1))
    here.clock.advance(10)
    await here.cycle()
    before = await versions(here)
    await here.fold()
    await here.cycle()

    assert before == await versions(here) == [("east", 2, 1)]


async def test_pods_that_came_up_before_a_withdrawal_reached_them_do_not_stay_beside_their_replacements(here: Hub):
    east, west = here.agent("east"), here.agent("west")
    for agent in (east, west):
        agent.join(agent.node(cores=16))
    await here.fold()
    await here.create(replicas=4)
    sent = {order["placement"]: order for order in await here.decide()}
    (first,) = await here.placements("east")
    (other,) = await here.placements("west")

    west.tell(west.node(cores=16, used=2, **{other.id: 2}))
    west.tell(west.seen(other.id, version=1, done=1, observed=True, desired=2, live=2, bound=2, ready=2, updated=2))
    here.clock.advance(DEADLINE_SECONDS + 1)
    east.tell(east.seen(first.id, version=1, done=1, observed=True, desired=2, live=2))
    for agent in (east, west):
        agent.tell(agent.beat(done=1))
    await here.fold()
    floor = [order for order in await here.decide() if order["placement"] == first.id]
    moved = await versions(here)
    east.tell(east.node(cores=16, used=2, **{first.id: 2}))
    east.tell(east.seen(first.id, version=2, done=2, observed=True, desired=2, live=2, bound=2, ready=2, updated=2))
    await here.fold()
    await here.decide()

    assert len(sent) == 2
    assert [(order["floorAtBound"], order["replicas"]) for order in floor] == [(True, 0)]
    assert moved == [("east", 0, 2), ("west", 4, 2)]
    assert sum(replicas for _, replicas, _ in await versions(here)) == 4


async def test_orders_that_waited_for_a_log_that_was_away_have_the_whole_deadline_once_it_is_back(here: Hub):
    east = here.agent("east")
    east.join(east.node())
    await here.fold()
    await here.create(replicas=2)
    await here.decide()

    for _ in range(20):
        here.clock.advance(DEADLINE_SECONDS / 10)
        await here.cycle()
    east.tell(east.beat())
    await here.fold()
    await here.cycle()
    at_once = await versions(here)
    for _ in range(11):
        here.clock.advance(DEADLINE_SECONDS / 10)
        east.tell(east.beat())
        await here.fold()
        await here.cycle()

    assert at_once == [("east", 2, 1)]
    assert await versions(here) == [("east", 0, 2)]
