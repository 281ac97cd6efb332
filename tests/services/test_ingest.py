"""Folding batches into the store: once each, whole or not at all, and what is wrong with a record stays with it."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from adapters.sql.schema import migrate
from adapters.sql.store import open_store
from federation.domain.cluster import ClusterPhase
from federation.domain.errors import StaleOffset
from federation.domain.events import ClusterLeft, NodeGone, Stamp
from federation.domain.reception import WINDOW_EVENTS
from federation.services.ingest import forget_history, ingest
from tests.services.hub import START, TOPIC, Agent, Hub, hub, replace_store
from tests.testbed.postgres import Postgres

SOURCE = f"{TOPIC}/0"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Hub]:
    async with hub(tmp_path) as started:
        yield started


async def image_of(here: Hub) -> object:
    """All rows that a fold may change."""
    async with here.store.transaction() as tx:
        nodes = {name: await tx.node_places(name) for name in ("east", "west")}
        placements = [await tx.placements_in(name, living=False) for name in ("east", "west")]
        rows = await tx.waiting_rows(1000)
    async with here.store.reader() as reader:
        return await reader.clusters(), await reader.partitions(), nodes, placements, rows


async def test_a_batch_is_folded_and_its_position_kept_together(here: Hub):
    east = here.agent()
    east.join(east.node("n-0", cores=8, used=3))
    (report,) = await here.fold()

    cluster = await here.cluster()
    async with here.store.reader() as reader:
        positions = await reader.positions([SOURCE])
    assert (report.folded, report.ignored, report.parked) == (4, 0, ())
    assert (cluster.phase, cluster.known["cpu"], cluster.used["cpu"]) == (ClusterPhase.READY, 8000, 3000)
    assert cluster.source == SOURCE
    assert positions == {SOURCE: 4}


async def test_a_batch_that_another_consumer_has_folded_changes_nothing(here: Hub):
    east = here.agent()
    east.join(east.node(used=3))
    batch = here.unread(SOURCE, 0)
    await ingest(here.store, SOURCE, -1, batch, START)
    before = await image_of(here)

    for expected in (-1, 0, 3):
        with pytest.raises(StaleOffset):
            await ingest(here.store, SOURCE, expected, batch, START)

    assert await image_of(here) == before


async def test_2_of_two_consumers_of_one_partition_only_one_commits(here: Hub):
    east = here.agent()
    east.join(east.node(used=3))
    batch = here.unread(SOURCE, 0)
    results = await asyncio.gather(
        *(ingest(here.store, SOURCE, -1, batch, START) for _ in range(4)), return_exceptions=True
    )

    assert sum(isinstance(result, StaleOffset) for result in results) == 3
    assert (await here.cluster()).revision == 1


async def test_however_a_log_is_cut_into_batches_and_delivered_again_it_is_folded_once(tmp_path: Path):
    images = []
    for seed in (0, 1, 2):
        rng = random.Random(seed)
        path = tmp_path / str(seed)
        path.mkdir()
        async with hub(path) as here:
            east = here.agent()
            east.join(*(east.node(f"n-{index}", used=index) for index in range(5)))
            east.tell(*(east.node(f"n-{index % 5}", used=index % 7) for index in range(40)))
            at = 0
            records = here.unread(SOURCE, 0)
            while at < len(records):
                size = rng.randint(1, 9)
                try:
                    await ingest(here.store, SOURCE, at or -1, records[at : at + size], START)
                except StaleOffset:
                    pytest.fail("nobody else reads")
                with pytest.raises(StaleOffset):
                    await ingest(here.store, SOURCE, at or -1, records[at : at + size], START)
                at += size
            cluster = await here.cluster()
            images.append((cluster.known, cluster.used, cluster.nodes, cluster.place, cluster.reception.next))

    assert images[0] == images[1] == images[2]


async def test_2_4_every_commit_that_touches_a_cluster_moves_its_revision_and_no_other(here: Hub):
    east, west = here.agent("east"), here.agent("west")
    east.join(east.node())
    west.join(west.node())
    await here.fold()
    before = {name: (await here.cluster(name)).revision for name in ("east", "west")}
    east.tell(east.node(used=1))
    await here.fold()

    assert (await here.cluster("east")).revision == before["east"] + 1
    assert (await here.cluster("west")).revision == before["west"]


async def test_1_6_what_is_appended_is_the_one_way_into_the_view(here: Hub):
    east = here.agent()
    east.join(east.node())
    before = await image_of(here)
    await here.fold()

    assert before != await image_of(here)
    assert (await here.cluster()).observed_ms == START


# --- poison ----------------------------------------------------------------------------------------------------------


async def test_poison_is_parked_with_its_reason_in_the_same_transaction_and_is_no_gap(here: Hub):
    east = here.agent()
    east.join(east.node())
    east.poison(b'{"cluster": "east"')
    east.tell(*(east.beat() for _ in range(WINDOW_EVENTS + 2)))
    (report,) = await here.fold()

    async with here.store.reader() as reader:
        (parked,) = await reader.parked(10)
        positions = await reader.positions([SOURCE])
    assert report.parked == (parked.reason,)
    assert (parked.offset, parked.key, parked.value) == (4, "east", b'{"cluster": "east"')
    assert parked.reason
    assert positions == {SOURCE: 5 + WINDOW_EVENTS + 2}
    assert (await here.cluster()).stale == ""


async def test_quantities_that_cannot_be_read_park_their_event_and_no_other(here: Hub):
    east = here.agent()
    bad = replace(east.node("bad"), allocatable={"cpu": "1e1000000"})
    east.join(east.node("n-0"))
    east.tell(bad, east.node("n-1"))
    (report,) = await here.fold()

    assert len(report.parked) == 1
    assert "bad" in report.parked[0]
    assert (await here.cluster()).known["cpu"] == 16_000


async def test_poison_that_is_parked_again_after_a_replay_is_kept_once(here: Hub):
    east = here.agent()
    east.poison()
    batch = here.unread(SOURCE, 0)
    await ingest(here.store, SOURCE, -1, batch, START)
    async with here.store.transaction() as tx:
        await tx.move_position(SOURCE, 1, 0)
    await ingest(here.store, SOURCE, 0, batch, START)

    async with here.store.reader() as reader:
        assert len(await reader.parked(10)) == 1


async def test_a_lost_event_is_a_gap_even_beside_poison(here: Hub):
    east = here.agent()
    east.join(east.node())
    east.stamp()
    east.poison()
    east.tell(*(east.beat() for _ in range(WINDOW_EVENTS + 2)))
    await here.fold()

    assert "missing" in (await here.cluster()).stale


async def test_a_record_in_anothers_topic_is_refused_and_counts_in_nobodys_sequence(here: Hub):
    east, forger = here.agent("east"), here.agent("east", uid="forged", topic=f"{TOPIC}.west")
    east.join(east.node())
    await here.fold()
    before = await here.cluster()
    forger.append(forger.beat(), Stamp("forged", 9, 1))
    forger.append(forger.beat(), Stamp("lease-east", 1, 900))
    reports = await here.fold()

    assert sum(len(report.parked) for report in reports) == 2
    assert await here.cluster() == before


async def test_a_record_under_anothers_key_counts_in_nobodys_sequence(here: Hub):
    east, west = here.agent("east"), here.agent("west")
    east.join(east.node())
    west.join(west.node())
    await here.fold()
    before = await here.cluster("east")
    west.append(west.beat(), Stamp("lease-west", 1, 500), key="east")
    await here.fold()

    assert await here.cluster("east") == before


async def test_records_with_names_that_no_database_takes_are_parked(here: Hub):
    east = here.agent()
    for key in ("", "ea\x00st", "EAST", "e" * 300, "..", "east\n"):
        east.poison(key=key)
    here.log.append_raw(TOPIC, "east", (("ce_id", b""), ("x\x00y", b"\x00")), b"\x00")
    reports = await here.fold()

    assert sum(len(report.parked) for report in reports) == 7
    assert await here.names() == []


# --- history lost ----------------------------------------------------------------------------------------------------


async def test_history_that_the_log_lost_makes_every_cluster_of_the_source_stale(here: Hub):
    east, west = here.agent("east"), here.agent("west", topic=f"{TOPIC}.west")
    east.join(east.node())
    west.join(west.node())
    await here.fold()
    before = (await here.cluster("east")).revision
    await forget_history(here.store, SOURCE, 90, 4)

    async with here.store.reader() as reader:
        positions = await reader.positions([SOURCE])
    cluster = await here.cluster("east")
    assert positions == {SOURCE: 90}
    assert (cluster.stale, cluster.revision) == (f"the log lost events of {SOURCE}", before + 1)
    assert (await here.cluster("west")).stale == ""


async def test_an_image_follows_a_source_that_begins_anew(here: Hub):
    east = here.agent()
    east.join(*(east.node(f"n-{index}") for index in range(20)))
    await here.fold()
    await here.cycle()
    here.log.begin_anew(SOURCE)
    await forget_history(here.store, SOURCE, 0, 22 + 1)
    again = here.agent(epoch=2)
    again.join(again.node("n-0"), again.node("n-1", cores=2))
    await here.fold()
    await here.cycle()

    member = here.scheduler.image.pool.members["east"]
    assert sorted(member.offsets) == ["n-0", "n-1"]


# --- strays ----------------------------------------------------------------------------------------------------------


async def ended(here: Hub) -> tuple[Agent, str]:
    """A placement that ran in east, was deleted, and has given back its claim."""
    east = here.agent()
    east.join(east.node())
    await here.fold()
    workload = await here.create(replicas=2)
    await here.decide()
    await here.delete(workload)
    await here.decide()
    placement = await here.placement()
    east.tell(east.seen(placement.id, gone=True, done=2), east.beat(done=2))
    await here.fold()
    return east, placement.id


async def test_4_3_what_is_seen_of_an_ended_placement_is_answered_by_unwanted_at_a_higher_version(here: Hub):
    east, name = await ended(here)
    before = await here.placement()
    east.tell(east.seen(name, version=1, live=1, done=2))
    await here.fold()
    (order,) = await here.dispatch()

    assert before.released
    assert (order["placement"], order["version"], order["order"]) == (name, before.version + 1, 3)
    assert "replicas" not in order


async def test_4_3_a_pod_alone_is_answered_too(here: Hub):
    east, name = await ended(here)
    east.tell(east.node(used=1, **{name: 1}))
    await here.fold()
    (order,) = await here.dispatch()

    assert (order["placement"], (await here.placement()).bound) == (name, 1)


async def test_4_3_a_stray_is_answered_once_until_that_answer_was_carried_out_and_then_higher_still(here: Hub):
    east, name = await ended(here)
    for _ in range(3):
        east.tell(east.seen(name, version=1, live=1, done=2), east.node(used=1, **{name: 1}))
        await here.fold()
    first = await here.dispatch()
    east.tell(east.seen(name, version=1, live=1, done=3))
    await here.fold()
    second = await here.dispatch()

    assert [order["order"] for order in (*first, *second)] == [3, 4]
    assert second[0]["version"] == first[0]["version"] + 1


async def test_a_node_that_goes_with_pods_of_an_ended_placement_answers_nothing(here: Hub):
    east, name = await ended(here)
    east.tell(east.node(used=1, **{name: 1}))
    await here.fold()
    await here.dispatch()
    east.tell(NodeGone(cluster="east", node="n-0"))
    await here.fold()

    assert await here.dispatch() == []
    assert (await here.placement()).bound == 0


async def test_3_10_a_cluster_that_left_leaves_no_orders_behind_that_would_raise_the_dead(here: Hub):
    east = here.agent()
    east.join(east.node())
    await here.fold()
    await here.create(replicas=2)
    await here.decide()
    await here.create("api", replicas=1)
    await here.cycle()
    east.tell(ClusterLeft(cluster="east"))
    await here.fold()

    async with here.store.transaction() as tx:
        assert await tx.rows_after("east", 0, 10) == []
    assert await here.waiting() == []
    assert all(placement.released for placement in await here.placements())


async def test_3_10_a_cluster_that_leaves_has_its_workloads_planned_again(here: Hub):
    east, west = here.agent("east"), here.agent("west")
    east.join(east.node())
    await here.fold()
    await here.create(replicas=2)
    await here.decide()
    west.join(west.node())
    east.tell(ClusterLeft(cluster="east"))
    await here.fold()
    await here.cycle()
    await here.cycle()

    assert (await here.placement("west")).wanted == 2


# --- what a database may choke on ------------------------------------------------------------------------------------

NODE = b'{"cluster": "east", "node": "%s", "allocatable": {"cpu": "%s"}%s}'
NASTY = (
    b"",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"{}{}",
    b"[" * 100_000,
    NODE % (b"n-\\u0000", b"4", b""),
    NODE % (b"n-\\ud800", b"4", b""),
    NODE % (b"n-1", b"9223372036854775808", b""),
    NODE % (b"n-1", b"1e1000000", b""),
    NODE % (b"n-1", b"4", b', "labels": {"a\\u0000": "b"}'),
    NODE % (b"n-1", b"4", b', "labels": {"a": "\\udfff"}'),
    NODE % (b"n-1", b"4", b', "placements": [{"placement": "p\\u0000", "bound": 1}]'),
    NODE % (b"n-1", b"4", b', "placements": [{"placement": "p", "bound": 9223372036854775808}]'),
    NODE % (b"n-1", b"4", b', "devices": {"gpu": [1e999]}'),
    NODE % (b"x" * 300, b"4", b""),
)


@pytest.fixture
async def on_postgresql(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub on a real PostgreSQL."""
    url = postgres.create_database("poison")
    await migrate(url)
    async with hub(tmp_path) as started:
        store = await open_store(url)
        yield replace_store(started, store)
        await store.close()
    postgres.drop_database("poison")


async def test_nothing_that_a_producer_writes_stops_the_fold(here: Hub):
    await survives(here)


async def test_nothing_that_a_producer_writes_stops_the_fold_on_postgresql(on_postgresql: Hub):
    await survives(on_postgresql)


async def survives(either: Hub) -> None:
    """Fold all that is nasty between two nodes that are sound."""
    east = either.agent()
    east.join(east.node("n-0"))
    for value in NASTY:
        stamp = east.stamp()
        headers = east.headers(east.node(), stamp)
        either.log.append_raw(TOPIC, "east", headers, value)
    for key in ("ea\x00st", "\ufffd", "east\n", "e" * 300):
        either.log.append_raw(TOPIC, key, east.headers(east.node(), Stamp("lease-east", 1, 5)), b"{}")
    either.log.append_raw(TOPIC, "east", (("ce_\x00", b"\x00"), ("\ufffd", b"\xff")), b"\x00")
    east.tell(east.node("n-1"))
    reports = await either.fold()

    async with either.store.reader() as reader:
        parked = await reader.parked(100)
    cluster = await either.cluster()
    assert sum(len(report.parked) for report in reports) == len(parked) == len(NASTY) + 5
    assert (cluster.known["cpu"], cluster.stale, await either.names()) == (16_000, "", ["east"])
