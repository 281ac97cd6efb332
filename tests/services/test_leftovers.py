"""What happened while nobody looked: a scheduler that starts, a source that was made anew, rows past their time."""

from pathlib import Path

from msgspec.structs import replace

from federation.domain.placement import Placement
from federation.domain.workload import WorkloadPhase
from federation.ports import Record
from federation.services.image import Image
from federation.services.ingest import forget_history, ingest
from federation.services.restore import next_generation
from federation.services.upkeep import RETENTION_MS, prune
from tests.builders import make_cluster
from tests.services.hub import Hub, hub

SOURCE = "federation.events/0"


async def _running(site: Hub, replicas: int = 1) -> None:
    east = site.agent()
    east.join(east.node(cores=8))
    await site.fold()
    await site.create(replicas=replicas)
    await site.decide()


async def test_a_workload_whose_last_placement_ended_before_a_crash_goes_when_a_scheduler_starts(tmp_path: Path):
    async with hub(tmp_path) as site:
        await _running(site)
        east = site.agent(epoch=2)
        workload, placement = await site.workload(), await site.placement()
        await site.delete(workload)
        await site.decide()
        east.join(east.node(cores=8), done=2, placements=[east.seen(placement.id, gone=True, done=2)])
        await site.fold()
        released = (await site.placement()).released

        await site.twin("other").cycle()
        async with site.store.reader() as reader:
            left = await reader.workload("web", None)

        assert released
        assert left is None


async def test_a_workload_that_lost_its_placement_before_a_crash_is_planned_again(tmp_path: Path):
    async with hub(tmp_path) as site:
        await _running(site)
        placement, cluster = await site.placement(), await site.cluster()
        async with site.store.transaction() as tx:
            await tx.save_placements([(_lost(placement), cluster.revision)])

        twin = site.twin("other")
        await twin.cycle()
        await twin.cycle()

        assert (await site.workload()).phase is WorkloadPhase.PLACED
        assert [each.released for each in await site.placements()] == [True, False]


def _lost(placement: Placement) -> Placement:
    return replace(placement, ended=True, released=True, asks=(), holds={})


async def test_a_source_that_was_made_anew_is_read_from_its_start_though_it_has_grown_beyond(tmp_path: Path):
    async with hub(tmp_path) as site:
        east = site.agent()
        east.join(east.node(cores=8))
        await site.fold()
        image = Image(silent_after_seconds=30)
        async with site.store.reader() as reader:
            await image.refresh(reader)
            position = image.positions[SOURCE]

        await forget_history(site.store, SOURCE, 0, position)
        anew = site.agent(epoch=2)
        anew.join(anew.node(cores=64))
        anew.tell(*(anew.beat() for _ in range(2 * position)))
        fresh = site.unread(SOURCE, position)
        early, late = fresh[:2], fresh[2:]
        renumbered = [_moved(record, number) for number, record in enumerate(early)]
        await ingest(site.store, SOURCE, 0, renumbered, site.clock.now_ms())
        await ingest(site.store, SOURCE, 2, [_moved(r, 2 + n) for n, r in enumerate(late)], site.clock.now_ms())
        async with site.store.reader() as reader:
            await image.refresh(reader)
        image.pool.settle()
        member = image.pool.members["east"]
        row = image.pool.table.rows["cpu"]

        assert image.positions[SOURCE] > position
        assert int(image.pool.table.free[row, member.start]) == 64_000


def _moved(record: Record, offset: int) -> Record:
    return replace(record, offset=offset)


async def test_the_decision_that_a_workload_shows_outlives_the_retention_with_its_explanation(tmp_path: Path):
    async with hub(tmp_path) as site:
        await _running(site)
        first = (await site.workload()).decision
        await site.change(await site.workload(), 2)
        await site.decide()
        last = (await site.workload()).decision

        site.clock.advance(RETENTION_MS / 1000 + 60)
        await prune(site.store, site.clock)
        async with site.store.reader() as reader:
            kept = [await reader.decision(decision) is not None for decision in (first, last)]

        assert kept == [False, True]


async def test_decisions_of_workloads_that_are_gone_go_after_the_retention(tmp_path: Path):
    async with hub(tmp_path) as site:
        await _running(site)
        workload = await site.workload()
        async with site.store.transaction() as tx:
            await tx.remove_workloads([workload.id])

        site.clock.advance(RETENTION_MS / 1000 + 60)
        await prune(site.store, site.clock)
        async with site.store.reader() as reader:
            assert await reader.decision(workload.decision) is None


def test_a_generation_is_above_all_that_was_seen_be_the_clock_behind():
    ahead = replace(make_cluster().cluster, generation=900)

    assert next_generation(7, [], now_ms=0) == 8
    assert next_generation(7, [], now_ms=1_700_000_000_000) == 1_700_000_000
    assert next_generation(7, [ahead], now_ms=5_000) == 901
