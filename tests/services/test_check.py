"""The invariants on a live database: what is sound is told as ok, what is damaged by name and amount, and made right."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from federation.domain.cluster import Cluster
from federation.domain.errors import NotFound
from federation.domain.events import PlacementObserved
from federation.domain.placement import Placement
from federation.domain.records import Cycle, Decision, OutboxRow
from federation.domain.workload import Workload
from federation.services.check import check
from federation.services.dispatch import ask_for_resyncs
from federation.services.rebuild import rebuild
from tests.services.hub import Agent, Hub, hub


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[tuple[Hub, Agent, Placement]]:
    """East runs two of three replicas of a workload; the third is held."""
    async with hub(tmp_path) as site:
        east = site.agent()
        east.join(east.node(cores=8))
        await site.fold()
        await site.create(replicas=3)
        await site.decide()
        placement = await site.placement()
        east.tell(east.node(cores=8, used=2, **{placement.id: 2}), east.beat(done=1))
        east.tell(_seen(east, placement))
        await site.fold()
        yield site, east, await site.placement()


def _seen(east: Agent, placement: Placement, **fields: Any) -> PlacementObserved:
    told = {"version": 1, "done": 1, "observed": True, "revision": "1", "desired": 3, "live": 3, "bound": 2}
    return east.seen(placement.id, **{**told, **fields})


async def found(site: Hub, verdict: str = "wrong") -> list[str]:
    return [f"{line.about}: {line.text}" for line in await check(site.store, site.clock) if line.verdict == verdict]


async def damage_cluster(site: Hub, change: Callable[[Cluster], Cluster]) -> None:
    async with site.store.transaction() as tx:
        cluster = (await tx.lock_clusters(["east"]))["east"]
        await tx.save_clusters([replace(change(cluster), revision=cluster.revision + 1)])


async def damage_placement(site: Hub, **fields: Any) -> None:
    placement = await site.placement()
    cluster = await site.cluster()
    async with site.store.transaction() as tx:
        await tx.save_placements([(replace(placement, **fields), cluster.revision)])


async def test_a_sound_database_is_ok_in_every_line(tmp_path: Path):
    async with running(tmp_path) as (site, _, placement):
        lines = await check(site.store, site.clock)

        assert [str(line) for line in lines] == [
            "ok sums of east",
            "ok placements of east",
            "ok orders of east",
            "ok positions",
            "ok workloads",
            "ok decisions",
        ]
        assert (placement.bound, placement.held) == (2, 1)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"known": {"cpu": 9000, "pods": 110}}, "known cpu is 9, its rows say 8"),
        ({"used": {"cpu": 2000}}, "used pods is 0, its rows say 2"),
        ({"held": {}}, "held cpu is 0, its rows say 1"),
        ({"held_replicas": 5}, "held replicas is 5, its rows say 1"),
        ({"nodes": 4}, "nodes is 4, its rows say 1"),
    ],
)
async def test_sums_that_their_rows_do_not_bear_out_are_told_with_both_amounts(
    tmp_path: Path, fields: dict[str, Any], told: str
):
    async with running(tmp_path) as (site, _, _):
        await damage_cluster(site, lambda cluster: replace(cluster, **fields))

        assert f"sums of east: {told}" in await found(site)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"bound": 3, "holds": {}}, "has 3 bound, its nodes say 2"),
        ({"holds": {"n-0": 2}}, "holds 1, on nodes 2"),
        ({"ended": True}, "is ended, its last version is not"),
        ({"version": 0}, "asks for versions [1] at version 0"),
        ({"workload": "nobody"}, "claims 3 for workload nobody, which is gone"),
        ({"team": "thieves"}, "is of team thieves, its workload of default"),
    ],
)
async def test_placements_that_do_not_add_up_are_told_by_name(tmp_path: Path, fields: dict[str, Any], told: str):
    async with running(tmp_path) as (site, _, placement):
        await damage_placement(site, **fields)

        assert f"placements of east: placement {placement.id} {told}" in await found(site)


async def test_what_the_world_takes_is_debt_and_not_wrong(tmp_path: Path):
    async with running(tmp_path) as (site, east, placement):
        east.tell(east.node(cores=2, used=2, **{placement.id: 2}))
        await site.fold()

        assert await found(site) == []
        assert await found(site, "debt") == ["east: cpu 1 more than is known"]


async def test_orders_trace_to_a_decision_and_bear_numbers_that_were_given(tmp_path: Path):
    async with running(tmp_path) as (site, _, placement):
        stray = OutboxRow(
            cluster="east", placement=placement.id, version=1, type="federation.placement.wanted.v1", doc={}
        )
        numbered = {"number": 9, "generation": 1, "sent_ms": 1}
        async with site.store.transaction() as tx:
            await tx.enqueue([replace(stray, decision="made-up", **numbered), replace(stray, **numbered)])

        told = await found(site)

        assert "orders of east: order 9 of generation 1 is 2 orders" in told
        assert "orders of east: order 9 traces to no decision (made-up)" in told
        assert "orders of east: order 9 traces to no decision (none is named)" in told
        assert "orders of east: order 9 is on its way, the next to be given is 2" in told


async def test_an_agent_ahead_of_the_hub_is_told_with_what_to_do(tmp_path: Path):
    async with running(tmp_path) as (site, _, _):
        await damage_cluster(site, lambda cluster: replace(cluster, generation=5))

        assert any("obeys generation 5" in line and "migrate --restored" in line for line in await found(site))


async def test_a_decision_that_comes_out_otherwise_is_told(tmp_path: Path):
    async with running(tmp_path) as (site, _, _):
        workload: Workload = await site.workload()
        async with site.store.reader() as reader:
            stored = await reader.decision(workload.decision)
        assert stored is not None
        decision: Decision = stored[0]
        forged = replace(decision, id="zzz", placed={"east": 2})
        async with site.store.transaction() as tx:
            await tx.record_cycle(_cycle_of(decision), [forged], [])

        assert await found(site) == ["decisions: decision zzz placed east 2, computed again it is east 3"]


def _cycle_of(decision: Decision) -> Cycle:
    return Cycle(id=decision.cycle, at_ms=decision.at_ms, seed=0, planner="", offsets={}, revisions={})


async def test_a_workload_without_its_decision_is_told(tmp_path: Path):
    async with running(tmp_path) as (site, _, _):
        workload = await site.workload()
        async with site.store.transaction() as tx:
            await tx.save_workloads([replace(workload, decision="", decided=9)])

        told = await found(site)

        assert f"workloads: workload {workload.id} is placed without a decision" in told
        assert f"workloads: workload {workload.id} was decided at version 9, and is at 1" in told


async def test_a_cluster_told_by_nobody_known_is_told(tmp_path: Path):
    async with running(tmp_path) as (site, _, _):
        await damage_cluster(site, lambda cluster: replace(cluster, source="elsewhere/0"))

        assert await found(site) == ["positions: east is told by elsewhere/0, of which no position is stored"]


# --- rebuilding ------------------------------------------------------------------------------------------------------


async def test_damaged_sums_and_bounds_are_counted_again_from_the_rows(tmp_path: Path):
    async with running(tmp_path) as (site, _, placement):
        sound = await site.cluster()
        await damage_cluster(
            site, lambda cluster: replace(cluster, known={}, used={"cpu": 1}, held={"gpu": 7}, held_replicas=7, nodes=0)
        )
        await damage_placement(site, bound=0, holds={"n-0": 9})

        await rebuild(site.store, ["east"])
        mended = await site.cluster()

        assert (mended.known, mended.used, mended.held) == (sound.known, sound.used, sound.held)
        assert await site.placement() == replace(placement, holds=(await site.placement()).holds)
        assert await found(site) == []


async def test_a_rebuilt_cluster_takes_nothing_until_its_member_has_told_everything(tmp_path: Path):
    async with running(tmp_path) as (site, east, placement):
        await rebuild(site.store, ["east"])
        stale = (await site.cluster()).stale
        site.clock.advance(2)
        asked = await ask_for_resyncs(site.store, site.clock)
        east.join(east.node(cores=8, used=2, **{placement.id: 2}), done=1, placements=[_seen(east, placement)])
        await site.fold()

        assert (stale, asked) == ("its view was rebuilt from its rows", 1)
        assert (await site.cluster()).stale == ""


async def test_a_damaged_row_is_made_right_by_the_member_be_it_ahead_of_all_that_was_told(tmp_path: Path):
    async with running(tmp_path) as (site, east, placement):
        sound = await site.cluster()
        async with site.store.transaction() as tx:
            node = (await tx.node_places("east"))["n-0"]
            broken = replace(node, allocatable={"cpu": 64000}, place=(9, 9, 9), bound={})
            await tx.save_nodes("federation.events/0", 0, [("east", broken)])
        await damage_placement(site, seen=replace(placement.seen, live=90), stamp=(9, 9, 9))
        damaged = await found(site)

        await rebuild(site.store, ["east"])
        east.join(east.node(cores=8, used=2, **{placement.id: 2}), done=1, placements=[_seen(east, placement)])
        await site.fold()
        mended, again = await site.cluster(), await site.placement()

        assert "sums of east: known cpu is 8, its rows say 64" in damaged
        assert (mended.known, mended.used, mended.held) == (sound.known, sound.used, sound.held)
        assert (again.bound, again.held, again.seen.live) == (2, 1, 3)
        assert await found(site) == []


async def test_an_unknown_cluster_cannot_be_rebuilt(tmp_path: Path):
    async with running(tmp_path) as (site, _, _):
        with pytest.raises(NotFound, match="nowhere"):
            await rebuild(site.store, ["nowhere"])
