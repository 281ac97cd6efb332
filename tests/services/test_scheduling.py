"""Cycles of the scheduler: what is queued is decided once, what was dropped does not starve, what waits is roused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import select

from adapters.sql.tables import cycles
from federation.domain.records import Cycle
from federation.domain.workload import PlacementRules, WorkloadKind, WorkloadPhase
from federation.planner.plan import PLANNER
from federation.services.callers import Caller, Ports, Role
from federation.services.clusters import set_cordoned
from federation.services.image import Image
from federation.services.scheduling import Tools, run_cycle
from federation.services.upkeep import expire_leases
from tests.services.hub import START, Agent, Hub, hub

OPERATOR = Caller(who="ann", role=Role.OPERATOR)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Hub]:
    async with hub(tmp_path) as started:
        yield started


async def joined(here: Hub, *names: str, cores: int = 8) -> list[Agent]:
    agents = [here.agent(name) for name in names]
    for agent in agents:
        agent.join(agent.node(cores=cores))
    await here.fold()
    return agents


class Interrupted:
    """A planner during which something else happens, as often as told."""

    def __init__(self, happen: Any, times: int) -> None:
        self._happen, self._times, self.ran = happen, times, 0

    async def __call__(self, work: Any, *arguments: Any) -> Any:
        planned = work(*arguments)
        self.ran += 1
        if self.ran <= self._times:
            await self._happen()
        return planned


async def cycle_with(here: Hub, compute: Any) -> Any:
    tools = here.tools
    return await run_cycle(
        here.scheduler,
        Tools(
            store=tools.store,
            clock=tools.clock,
            ids=tools.ids,
            compute=compute,
            hold_deadline_seconds=tools.hold_deadline_seconds,
        ),
    )


def moved_definition(here: Hub, name: str = "east") -> Any:
    """Something that changes what may be chosen, each time that it is called."""

    async def move() -> None:
        async with here.store.transaction() as tx:
            before = (await tx.lock_clusters([name]))[name]
            changed = replace(before, revision=before.revision + 1, definition=before.definition + 1)
            await tx.save_clusters([changed])

    return move


# --- section 2 -------------------------------------------------------------------------------------------------------


async def test_2_2_what_was_dropped_is_planned_again_and_twice_dropped_is_planned_under_the_locks(here: Hub):
    await joined(here, "east")
    web = await here.create(replicas=2)
    compute = Interrupted(moved_definition(here), times=2)
    first = await cycle_with(here, compute)
    second = await cycle_with(here, compute)
    locked = []

    async def under_locks() -> None:
        locked.append(here.store._writer.locked())

    third = await cycle_with(here, Interrupted(under_locks, times=9))

    assert (set(first.dropped), set(second.dropped)) == ({web.id}, {web.id})
    assert [decision.workload for decision in third.decided] == [web.id]
    assert locked == [True]
    assert here.scheduler.drops == {}


async def test_2_2_one_that_is_planned_alone_holds_nobody_else_up(here: Hub):
    await joined(here, "east", "west")
    web = await here.create("web", replicas=2)
    compute = Interrupted(moved_definition(here), times=2)
    await cycle_with(here, compute)
    await cycle_with(here, compute)
    await here.create("api", replicas=1)
    done = await here.cycle()

    assert len(done.decided) == 2
    assert {decision.workload for decision in done.decided} > {web.id}


async def test_2_5_planning_is_handed_to_compute_and_never_runs_on_the_loop(here: Hub):
    await joined(here, "east")
    await here.create(replicas=2)
    ran = []

    async def nothing(work: Any, *arguments: Any) -> Any:
        ran.append(work.__name__)
        return work(*arguments)

    done = await cycle_with(here, nothing)

    assert len(done.decided) == 1
    assert ran


async def test_2_6_a_workload_that_waits_is_not_decided_again_until_something_could_fit(here: Hub):
    (east,) = await joined(here, "east", cores=4)
    await here.create(replicas=6)
    first = await here.cycle()
    second = await here.cycle()
    east.tell(east.node("n-1", cores=2))
    await here.fold()
    third = await here.cycle()

    assert [decision.outcome for decision in first.decided] == ["waiting"]
    assert second.decided == ()
    assert [decision.outcome for decision in third.decided] == ["placed"]


async def test_a_workload_that_waits_is_roused_by_what_another_gives_back(here: Hub):
    (east,) = await joined(here, "east", cores=4)
    await here.create("web", replicas=4)
    await here.decide()
    await here.create("api", replicas=2)
    await here.cycle()
    waits = (await here.workload("api")).phase
    await here.change(await here.workload("web"), replicas=1)
    await here.decide()
    placement = (await here.placements())[0]
    east.tell(east.node(cores=4, used=1, **{placement.id: 1}))
    east.tell(east.seen(placement.id, version=2, observed=True, desired=1, live=1, updated=1, done=2))
    await here.fold()
    await here.cycle()

    assert waits is WorkloadPhase.WAITING
    assert (await here.workload("api")).phase is WorkloadPhase.PLACED


# --- 3.10 ------------------------------------------------------------------------------------------------------------


async def cordoned(here: Hub, name: str, value: bool = True) -> None:
    await set_cordoned(Ports(store=here.store, clock=here.clock, ids=here.ids), OPERATOR, name, value)


async def test_3_10_a_cordoned_cluster_takes_nothing_new_holder_or_not_and_what_runs_stays(here: Hub):
    await joined(here, "east", "west")
    await here.create("web", replicas=2, rules=PlacementRules(strategy="aggregated"))
    await here.decide()
    holder = "east" if await here.placements("east") else "west"
    other = "west" if holder == "east" else "east"
    await cordoned(here, holder)
    await here.change(await here.workload("web"), replicas=5)
    await here.create("api", replicas=1)
    await here.decide()

    (kept,) = await here.placements(holder)
    assert kept.wanted == 2
    assert sorted(each.wanted for each in await here.placements(other)) == [1, 3]


async def test_3_10_a_cordoned_cluster_shrinks_when_asked(here: Hub):
    await joined(here, "east")
    await here.create(replicas=4)
    await here.decide()
    await cordoned(here, "east")
    await here.change(await here.workload(), replicas=1)
    (order,) = await here.decide()

    assert order["replicas"] == 1


async def test_3_10_a_silent_cluster_lends_no_room_and_nothing_is_moved_on_silence_alone(here: Hub):
    (_, west) = await joined(here, "east", "west")
    await here.create("web", replicas=2)
    await here.decide()
    before = {name: [each.wanted for each in await here.placements(name)] for name in ("east", "west")}
    here.clock.advance(60)
    west.tell(west.beat())
    await here.fold()
    await here.create("api", replicas=6)
    await here.decide()

    after_east = [each.wanted for each in await here.placements("east")]
    assert after_east == before["east"]
    assert (await here.workload("api")).phase is WorkloadPhase.PLACED
    assert sum(each.wanted for each in await here.placements("west")) == sum(before["west"]) + 6


# --- section 5 -------------------------------------------------------------------------------------------------------


async def test_5_a_cycle_stores_what_it_was_based_on(here: Hub):
    await joined(here, "east")
    await here.create(replicas=2)
    cluster = await here.cluster()
    done = await here.cycle()

    async with here.store.transaction() as tx:
        doc = (await tx.connection.execute(select(cycles.c.doc))).scalar_one()
    stored = msgspec.json.decode(doc, type=Cycle)
    (decision,) = done.decided
    assert decision.cycle == stored.id
    assert (stored.at_ms, stored.planner) == (START, PLANNER)
    assert stored.offsets == {"federation.events/0": 4}
    assert stored.revisions == {"east": cluster.revision}


async def test_5_a_decision_is_kept_with_its_explanation_of_every_cluster(here: Hub):
    await joined(here, "east", "west")
    await cordoned(here, "west")
    await here.create(replicas=2)
    await here.cycle()
    async with here.store.reader() as reader:
        found = await reader.decision((await here.workload()).decision)

    assert found is not None
    decision, explanation = found
    assert {verdict.cluster for verdict in explanation.verdicts} == {"east", "west"}
    assert (decision.placed, decision.total, decision.outcome) == ({"east": 2}, 2, "placed")
    assert any("cordoned" in verdict.reason for verdict in explanation.verdicts)
    assert decision.summary


async def test_5_decisions_of_one_cycle_shape_and_rules_share_their_explanation(here: Hub):
    await joined(here, "east", cores=64)
    for index in range(10):
        await here.create(f"w-{index}", replicas=1)
    await here.create("other", replicas=1, requests={"cpu": "2"})
    done = await here.cycle()

    shared = {decision.explanation for decision in done.decided}
    assert len(done.decided) == 11
    assert len(shared) == 2


# --- the image -------------------------------------------------------------------------------------------------------


async def test_an_image_kept_current_plans_as_one_that_is_read_anew(here: Hub):
    east, west = await joined(here, "east", "west", cores=4)
    for step in range(6):
        await here.create(f"w-{step}", replicas=1 + step % 2)
        await here.decide()
        for agent in (east, west):
            placements = {each.id: each.wanted for each in await here.placements(agent.cluster) if step % 2}
            agent.tell(agent.node(cores=4, used=sum(placements.values()), **placements))
            if step == 3:
                agent.tell(agent.node("n-1", cores=2))
        await here.fold()
        async with here.store.reader() as reader:
            await here.scheduler.image.refresh(reader)
            fresh = Image(silent_after_seconds=30)
            await fresh.refresh(reader)

        kept = here.scheduler.image
        for image in (kept, fresh):
            image.pool.settle()
        assert _free(kept) == _free(fresh)
        assert (kept.positions, kept.revisions, kept.held) == (fresh.positions, fresh.revisions, fresh.held)


async def test_a_refresh_without_news_reads_and_changes_nothing(here: Hub):
    await joined(here, "east")
    async with here.store.reader() as reader:
        first = await here.scheduler.image.refresh(reader)
        second = await here.scheduler.image.refresh(reader)

    assert (first, second) == (True, False)


def _free(image: Image) -> dict[str, dict[str, list[int]]]:
    """What is free by cluster and node, in each resource."""
    table = image.pool.table
    return {
        name: {node: table.free[:, member.start + offset].tolist() for node, offset in sorted(member.offsets.items())}
        for name, member in sorted(image.pool.members.items())
    }


# --- 3.8 -------------------------------------------------------------------------------------------------------------


async def caller_deploys(here: Hub, replicas: int = 3) -> Agent:
    """A workload without a manifest, decided: its caller deploys it in east."""
    (east,) = await joined(here, "east")
    lease = START + 600_000
    await here.create("web", replicas=replicas, kind=WorkloadKind.CALLER, api="", manifest=None)
    async with here.store.transaction() as tx:
        (workload,) = await tx.reader().queue(1)
        await tx.save_workloads([replace(workload, lease_until_ms=lease)])
    await here.decide()
    return east


async def test_3_8_without_a_manifest_the_hub_decides_and_sends_no_order(here: Hub):
    await caller_deploys(here)

    assert (here.orders(), await here.waiting()) == ([], [])
    assert ((await here.placement()).claim, (await here.cluster()).held) == (3, {"cpu": 3000})


async def test_3_8_what_the_caller_deploys_is_never_moved(here: Hub):
    east = await caller_deploys(here)
    await joined(here, "west")
    for _ in range(3):
        here.clock.advance(200)
        east.tell(east.beat())
        await here.fold()
        await here.decide()

    assert (await here.placement()).claim == 3
    assert await here.placements("west") == []


async def test_3_8_a_lease_that_is_not_renewed_ends_and_its_pods_are_claimed_until_they_are_gone(here: Hub):
    east = await caller_deploys(here)
    name = (await here.placement()).id
    east.tell(east.node(used=1, **{name: 1}), east.seen(name, live=2, bound=1))
    await here.fold()
    here.clock.advance(601)
    east.tell(east.beat())
    await here.fold()
    expired = await expire_leases(here.store, here.clock)
    await here.cycle()
    living = (await here.placement(), await here.cluster())
    east.tell(east.node(), east.seen(name, live=0))
    await here.fold()
    await here.cycle()

    assert expired == ["web"]
    assert (living[0].ended, living[0].claim, living[1].held) == (True, 2, {"cpu": 1000})
    assert ((await here.placement()).released, (await here.cluster()).held) == (True, {})
    async with here.store.reader() as reader:
        assert await reader.workload("web", None) is None
