"""What every store must do: positions by compare-and-set, locks, cursors, queues, news, and no leaks."""

import asyncio
import random
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, Protocol

import pytest
from msgspec.structs import replace

from adapters.sql.store import SqlStore
from federation.domain.cluster import Cluster, Node, Reception
from federation.domain.errors import Conflict, StaleOffset, Unavailable
from federation.domain.placement import Placement
from federation.domain.records import Audit, Cycle, Decision, Explanation, Idempotent, OutboxRow, Parked, Verdict
from federation.domain.workload import Component, Workload, WorkloadPhase, WorkloadSpec
from federation.ports import WorkloadQuery

SOURCE = "federation.events/0"
numbers = count(1)


class Base(Protocol):
    """A database with its schema, and stores opened on it as processes of their own would."""

    async def open(self, *, pool_size: int = 10) -> SqlStore: ...

    async def unreachable(self) -> SqlStore:
        """A store on a database that is not there."""


def make_cluster(name: str = "east", **fields: Any) -> Cluster:
    return Cluster(name=name, **fields)


def make_placement(name: str, *, workload: str = "w", cluster: str = "east", **fields: Any) -> Placement:
    return Placement(id=name, workload=workload, team="shop", cluster=cluster, **fields)


def make_workload(name: str, *, team: str = "shop", priority: int = 0, **fields: Any) -> Workload:
    spec = WorkloadSpec(name=name, team=team, priority=priority, components=(Component(replicas=1),))
    return Workload(id=f"{next(numbers):026}", spec=spec, **fields)


def make_row(cluster: str = "east", **fields: Any) -> OutboxRow:
    return OutboxRow(cluster=cluster, **{"type": "federation.placement.wanted.v1", "doc": {"replicas": 3}, **fields})


async def save(store: SqlStore, *clusters: Cluster) -> None:
    async with store.transaction() as tx:
        await tx.save_clusters(clusters)


async def enqueue(store: SqlStore, *rows: OutboxRow) -> list[OutboxRow]:
    async with store.transaction() as tx:
        await tx.enqueue(rows)
    async with store.transaction() as tx:
        return await tx.waiting_rows(100)


class StoreSuite:
    """Held to SQLite and to PostgreSQL."""

    @pytest.fixture
    async def store(self, base: Base) -> AsyncIterator[SqlStore]:
        store = await base.open()
        yield store
        await store.close()

    @pytest.fixture
    async def other(self, base: Base) -> AsyncIterator[SqlStore]:
        """Another process's store on the same database."""
        store = await base.open()
        yield store
        await store.close()

    # --- positions -----------------------------------------------------------------------------------------------

    async def test_a_position_moves_from_where_it_is_expected_and_from_nowhere_else(self, store: SqlStore):
        async with store.transaction() as tx:
            await tx.move_position(SOURCE, -1, 5)
        async with store.transaction() as tx:
            await tx.move_position(SOURCE, 5, 9)

        for expected in (-1, 5, 8):
            with pytest.raises(StaleOffset):
                async with store.transaction() as tx:
                    await tx.move_position(SOURCE, expected, 11)
        async with store.reader() as reader:
            assert await reader.positions([SOURCE, "other/0"]) == {SOURCE: 9}

    async def test_of_two_that_race_for_a_position_one_commits_and_the_other_is_stale(
        self, store: SqlStore, other: SqlStore
    ):
        async def move(by: SqlStore, to: int) -> int:
            async with by.transaction() as tx:
                await tx.move_position(SOURCE, -1, to)
                await asyncio.sleep(0.05)
                return to

        results = await asyncio.gather(move(store, 5), move(other, 7), return_exceptions=True)

        won = [result for result in results if isinstance(result, int)]
        assert [type(result) for result in results if result not in won] == [StaleOffset]
        async with store.reader() as reader:
            assert await reader.positions([SOURCE]) == {SOURCE: won[0]}

    async def test_what_fails_leaves_nothing_behind(self, store: SqlStore):
        async def fail_at_the_end() -> None:
            async with store.transaction() as tx:
                await tx.move_position(SOURCE, -1, 5)
                await tx.save_clusters([make_cluster()])
                await tx.enqueue([make_row()])
                await tx.park([_parked(1)])
                await tx.move_position("other/0", 3, 4)

        with pytest.raises(StaleOffset):
            await fail_at_the_end()

        async with store.reader() as reader:
            assert await reader.partitions() == {}
            assert await reader.clusters() == []
            assert await reader.parked(10) == []

    async def test_standing_at_the_end_is_noted_for_the_sources_named(self, store: SqlStore):
        async with store.transaction() as tx:
            await tx.move_position(SOURCE, -1, 5)
            await tx.move_position("other/0", -1, 5)
            await tx.set_caught_up([SOURCE], 1234)

        async with store.reader() as reader:
            partitions = await reader.partitions()
        assert (partitions[SOURCE].caught_up_ms, partitions["other/0"].caught_up_ms) == (1234, 0)

    # --- rows ----------------------------------------------------------------------------------------------------

    async def test_a_row_comes_back_as_it_was_written(self, store: SqlStore):
        cluster = make_cluster(
            labels={"zone": "a", "ü\u2028": '"'},
            known={"cpu": 2**62, "memory": -1},
            reception=Reception(uids=("a", "b"), started=(1, 2, 3), missing=("nodes/a",)),
        )
        node = Node(name="n-0", devices={"gpu": (1000, 250)}, bound={"p": {"1": 2}}, place=(1, 2, 3))
        placement = make_placement("p", holds={"": 1, "n-0": 2}, completions=7)
        async with store.transaction() as tx:
            await tx.save_clusters([cluster])
            await tx.save_nodes(SOURCE, 3, [("east", node)])
            await tx.save_placements([(placement, 4)])

        async with store.transaction() as tx:
            assert await tx.lock_clusters(["east"]) == {"east": cluster}
            assert await tx.nodes([("east", "n-0"), ("west", "n-0")]) == {("east", "n-0"): node}
            assert await tx.placements(["p", "q"]) == {"p": placement}
            assert await tx.node_places("east") == {"n-0": node}

    async def test_rows_that_are_there_are_replaced_and_those_that_are_not_are_added(self, store: SqlStore):
        await save(store, make_cluster("east", revision=1), make_cluster("west", revision=1))
        await save(store, make_cluster("west", revision=2), make_cluster("north", revision=1))

        async with store.reader() as reader:
            assert await reader.cluster_revisions() == {"east": 1, "west": 2, "north": 1}

    async def test_clusters_heard_of_before_stay_as_they_are(self, store: SqlStore):
        await save(store, make_cluster("east", revision=7, source=SOURCE))
        async with store.transaction() as tx:
            await tx.add_clusters(["east", "west", "west"])

        async with store.transaction() as tx:
            found = await tx.lock_clusters(["west", "east", "nowhere"])
            assert await tx.clusters_of(SOURCE) == ["east"]
        assert {name: cluster.revision for name, cluster in found.items()} == {"east": 7, "west": 0}

    async def test_nothing_asked_for_is_nothing_found(self, store: SqlStore):
        async with store.transaction() as tx:
            assert await tx.lock_clusters([]) == {}
            assert await tx.lock_workloads([]) == {}
            assert await tx.nodes([]) == {}
            assert await tx.placements([]) == {}
            assert await tx.placements_of([]) == {}
            await tx.save_clusters([])
            await tx.save_nodes(SOURCE, 1, [])
            await tx.save_placements([])
            await tx.enqueue([])
            await tx.park([])
            await tx.mark_sent([], 1)

    async def test_placements_of_a_cluster_are_the_living_ones_unless_all_are_asked_for(self, store: SqlStore):
        rows = [
            (make_placement("a"), 1),
            (make_placement("b", released=True), 1),
            (make_placement("c", cluster="west"), 1),
        ]
        async with store.transaction() as tx:
            await tx.save_placements(rows)
            living = await tx.placements_in("east")
            everything = await tx.placements_in("east", living=False)
            grouped = await tx.placements_of(["w", "none"])

        assert [each.id for each in living] == ["a"]
        assert [each.id for each in everything] == ["a", "b"]
        assert {name: [each.id for each in found] for name, found in grouped.items()} == {"w": ["a", "c"], "none": []}

    # --- locks ---------------------------------------------------------------------------------------------------

    async def test_locks_serialise_those_who_read_and_then_write(self, store: SqlStore, other: SqlStore):
        await save(store, make_cluster("a"), make_cluster("b"))

        async def raise_both(by: SqlStore, names: list[str]) -> None:
            for _ in range(20):
                async with by.transaction() as tx:
                    found = await tx.lock_clusters(names)
                    await asyncio.sleep(0)
                    await tx.save_clusters([replace(each, revision=each.revision + 1) for each in found.values()])

        await asyncio.gather(*(raise_both(by, names) for by in (store, other) for names in (["a", "b"], ["b", "a"])))

        async with store.reader() as reader:
            assert await reader.cluster_revisions() == {"a": 80, "b": 80}

    async def test_readers_do_not_wait_for_writers(self, store: SqlStore, other: SqlStore):
        await save(store, make_cluster("a", revision=1))

        async with store.transaction() as tx:
            found = await tx.lock_clusters(["a"])
            await tx.save_clusters([replace(found["a"], revision=2)])
            async with asyncio.timeout(5), other.reader() as reader:
                before = await reader.cluster_revisions()

        assert before == {"a": 1}

    # --- cursors -------------------------------------------------------------------------------------------------

    async def test_nodes_are_read_from_the_next_offset_on_tombstones_included(self, store: SqlStore):
        async with store.transaction() as tx:
            await tx.move_position(SOURCE, -1, 8)
            await tx.save_nodes(SOURCE, 4, [("east", Node(name="n-0")), ("east", Node(name="n-1"))])
            await tx.save_nodes(SOURCE, 7, [("east", Node(name="n-1", gone=True))])

        assert await self._changed(store, {}) == {"n-0": False, "n-1": True}
        assert await self._changed(store, {SOURCE: 7}) == {"n-1": True}
        assert await self._changed(store, {SOURCE: 8}) == {}

    async def test_a_source_without_a_cursor_is_read_whole(self, store: SqlStore):
        async with store.transaction() as tx:
            for source in (SOURCE, "late/0"):
                await tx.move_position(source, -1, 3)
                await tx.save_nodes(source, 2, [(source[:4], Node(name=source))])

        assert set(await self._changed(store, {SOURCE: 3})) == {"late/0"}

    async def test_many_nodes_come_in_pieces_and_all_of_them(self, store: SqlStore):
        async with store.transaction() as tx:
            await tx.move_position(SOURCE, -1, 2)
            await tx.save_nodes(SOURCE, 1, [("east", Node(name=f"n-{index:05}")) for index in range(11_000)])

        async with store.reader() as reader:
            sizes = [len(chunk) async for chunk in reader.nodes_changed({})]
            page = await reader.nodes_in("east", "n-00499", 3)
        assert sum(sizes) == 11_000
        assert max(sizes) <= 5_000
        assert [node.name for node in page] == ["n-00500", "n-00501", "n-00502"]

    async def test_placements_are_read_above_the_revision_seen_released_ones_included(self, store: SqlStore):
        async with store.transaction() as tx:
            rows = [(make_placement("a"), 3), (make_placement("b", released=True), 5)]
            await tx.save_placements([*rows, (make_placement("c", cluster="west"), 9)])

        async with store.reader() as reader:
            first = await reader.placements_changed({})
            since = await reader.placements_changed({"east": 3})
            unseen = await reader.placements_changed({"east": 5, "west": -1})
        assert [(each.id, revision) for each, revision in sorted(first, key=lambda row: row[0].id)] == [
            ("a", 3),
            ("c", 9),
        ]
        assert [each.id for each, _ in since] == ["b"]
        assert [each.id for each, _ in unseen] == ["c"]

    # --- workloads -----------------------------------------------------------------------------------------------

    async def test_the_queue_is_by_priority_and_then_by_age(self, store: SqlStore):
        low, old, new = make_workload("low"), make_workload("old", priority=5), make_workload("new", priority=5)
        decided = replace(make_workload("decided"), decided=1)
        woken = replace(make_workload("woken", priority=9), decided=1, wake="a node went")
        async with store.transaction() as tx:
            for workload in (new, decided, low, woken, old):
                await tx.add_workload(workload)

        async with store.reader() as reader:
            queue = await reader.queue(10)
            first = await reader.queue(2)
        assert [each.spec.name for each in queue] == ["woken", "old", "new", "low"]
        assert [each.spec.name for each in first] == ["woken", "old"]

    async def test_two_workloads_of_a_team_do_not_share_a_name(self, store: SqlStore):
        async with store.transaction() as tx:
            await tx.add_workload(make_workload("web"))
            await tx.add_workload(make_workload("web", team="other"))

        with pytest.raises(Conflict, match="web"):
            async with store.transaction() as tx:
                await tx.add_workload(make_workload("web"))

    async def test_a_refused_name_leaves_the_transaction_usable(self, store: SqlStore):
        async with store.transaction() as tx:
            await tx.add_workload(make_workload("web"))
        async with store.transaction() as tx:
            with pytest.raises(Conflict):
                await tx.add_workload(make_workload("web"))
            await tx.add_workload(make_workload("api"))

        async with store.reader() as reader:
            assert [each.spec.name for each in await reader.workloads(WorkloadQuery())] == ["web", "api"]

    async def test_workloads_are_found_by_id_by_name_and_page_by_page(self, store: SqlStore):
        mine, theirs = make_workload("web"), make_workload("web", team="other")
        waiting = make_workload("big", phase=WorkloadPhase.WAITING, decided=1)
        async with store.transaction() as tx:
            for workload in (mine, theirs, waiting):
                await tx.add_workload(workload)

        async with store.reader() as reader:
            assert await reader.workload(mine.id, None) == mine
            assert await reader.workload("web", "other") == theirs
            assert await reader.workload(mine.id, "other") is None
            page = await reader.workloads(WorkloadQuery(team="shop", limit=1))
            rest = await reader.workloads(WorkloadQuery(team="shop", after=page[0].id))
            waits = await reader.workloads_waiting("", 10)
        assert [each.id for each in (*page, *rest)] == [mine.id, waiting.id]
        assert waits == [waiting]

    async def test_a_removed_workload_makes_room_for_its_name(self, store: SqlStore):
        first = make_workload("web")
        async with store.transaction() as tx:
            await tx.add_workload(first)
            await tx.remove_workloads([first.id])
            await tx.add_workload(make_workload("web"))

        async with store.reader() as reader:
            assert await reader.workloads_by_id([first.id]) == []

    async def test_a_decision_comes_back_with_the_explanation_that_it_shares(self, store: SqlStore):
        cycle = Cycle(id="c", at_ms=1, seed=2, planner="1", offsets={SOURCE: 3}, revisions={"east": 4})
        explanation = Explanation(id="c.0", cycle="c", at_ms=1, verdicts=(Verdict("east", "feasible", fits=3),))
        decisions = [_decision("d-1", "w-1"), _decision("d-2", "w-1")]
        async with store.transaction() as tx:
            await tx.record_cycle(cycle, decisions, [explanation])

        async with store.reader() as reader:
            assert await reader.decision("d-1") == (decisions[0], explanation)
            assert await reader.decision("none") is None
            assert [each.id for each in await reader.decisions_of("w-1", 10)] == ["d-2", "d-1"]

    # --- the outbox ----------------------------------------------------------------------------------------------

    async def test_rows_wait_without_a_number_oldest_first_and_those_with_a_precondition_not_at_all(
        self, store: SqlStore
    ):
        rows = await enqueue(
            store, make_row(placement="a"), make_row(waits_for="loan-1"), make_row("west", placement="b")
        )

        assert [row.placement for row in rows] == ["a", "b"]
        assert [row.number for row in rows] == [0, 0]

    async def test_numbered_rows_are_sent_in_order_of_their_numbers(self, store: SqlStore):
        rows = await enqueue(store, *(make_row(name) for name in ("west", "east", "east")))
        async with store.transaction() as tx:
            await tx.number_rows([replace(row, number=9 - index, generation=2) for index, row in enumerate(rows)])

        async with store.transaction() as tx:
            to_send = await tx.rows_to_send(10)
            assert await tx.waiting_rows(10) == []
            await tx.mark_sent([row.id for row in to_send], 77)
            assert await tx.rows_to_send(10) == []
            after = await tx.rows_after("east", 7, 10)
        assert [(row.cluster, row.number, row.generation) for row in to_send] == [
            ("east", 7, 2),
            ("east", 8, 2),
            ("west", 9, 2),
        ]
        assert [(row.number, row.sent_ms, row.doc) for row in after] == [(8, 77, {"replicas": 3})]

    async def test_confirmed_rows_go_and_waiting_ones_stay(self, store: SqlStore):
        rows = await enqueue(store, make_row(), make_row(), make_row(), make_row("west"))
        async with store.transaction() as tx:
            await tx.number_rows([replace(row, number=index) for index, row in enumerate(rows[:2], 1)])
            await tx.forget_rows("east", 1)

        async with store.transaction() as tx:
            assert [row.number for row in await tx.rows_after("east", 0, 10)] == [2]
            assert len(await tx.waiting_rows(10)) == 2

    async def test_only_rows_that_have_no_number_can_be_taken_back(self, store: SqlStore):
        rows = await enqueue(store, make_row(placement="p"), make_row(placement="p"), make_row(placement="q"))
        async with store.transaction() as tx:
            await tx.number_rows([replace(rows[0], number=1)])
            assert await tx.cancel_waiting("p") == 1

        async with store.transaction() as tx:
            assert [row.placement for row in await tx.waiting_rows(10)] == ["q"]
            assert [row.number for row in await tx.rows_to_send(10)] == [1]

    # --- what else is kept ---------------------------------------------------------------------------------------

    async def test_an_answer_is_remembered_under_its_key_and_team(self, store: SqlStore):
        answer = Idempotent(team="shop", key="k", body="hash", status=201, answer=b"\x00\xff", at_ms=5)
        async with store.transaction() as tx:
            await tx.remember(answer)

        async with store.transaction() as tx:
            assert await tx.idempotent("shop", "k") == answer
            assert await tx.idempotent("other", "k") is None

    async def test_the_generation_starts_at_one_and_is_kept(self, store: SqlStore, other: SqlStore):
        async with store.transaction() as tx:
            first = await tx.generation()
            await tx.set_generation(1_700_000_000)

        async with other.transaction() as tx:
            assert (first, await tx.generation()) == (1, 1_700_000_000)

    async def test_the_audit_takes_what_it_is_given(self, store: SqlStore):
        entry = Audit(at_ms=1, who="ann", what="workload.create", target="w", outcome="done", after={"n": None})
        async with store.transaction() as tx:
            await tx.audit(entry)
            await tx.audit(entry)

    async def test_a_lease_is_held_by_one_until_it_ends_or_is_dropped(self, store: SqlStore, other: SqlStore):
        assert await self._take(store, "a", 1_000)
        assert not await self._take(other, "b", 5_000)
        assert await self._take(store, "a", 9_000)
        assert not await self._take(other, "b", 18_999)
        assert await self._take(other, "b", 19_000)
        assert not await self._take(store, "a", 20_000)

        async with store.transaction() as tx:
            await tx.drop_lease("scheduler", "a")
        assert not await self._take(store, "a", 20_000)
        async with other.transaction() as tx:
            await tx.drop_lease("scheduler", "b")
        assert await self._take(store, "a", 20_000)

    async def test_of_many_that_want_a_free_lease_one_gets_it(self, store: SqlStore, other: SqlStore):
        takes = [self._take(by, f"{index}", 1_000) for index, by in enumerate([store, other] * 5)]

        assert sum(await asyncio.gather(*takes)) == 1

    async def test_a_parked_event_is_kept_as_it_came_and_once(self, store: SqlStore):
        async with store.transaction() as tx:
            await tx.park([_parked(1), _parked(2)])
            await tx.park([_parked(2)])

        async with store.reader() as reader:
            found = await reader.parked(10)
        assert sorted(found, key=lambda each: each.offset) == [_parked(1), _parked(2)]

    async def test_parked_events_are_told_once(self, store: SqlStore):
        async with store.transaction() as tx:
            await tx.park([_parked(1), _parked(2)])
        async with store.transaction() as tx:
            untold = await tx.parked_untold(1)
            await tx.mark_told(untold, 99)

        async with store.transaction() as tx:
            assert {each.offset for each in await tx.parked_untold(10)} == {1, 2} - {untold[0].offset}

    async def test_leases_of_callers_that_ran_out_are_found(self, store: SqlStore):
        over, later = make_workload("over", lease_until_ms=50), make_workload("later", lease_until_ms=51)
        async with store.transaction() as tx:
            for workload in (over, later, make_workload("without")):
                await tx.add_workload(workload)
            assert await tx.expired(50, 10) == [over.id]

    async def test_rows_older_than_the_retention_go_a_batch_at_a_time(self, store: SqlStore):
        async with store.transaction() as tx:
            await tx.park([_parked(offset) for offset in range(5)])
            await tx.record_cycle(Cycle(id="c", at_ms=1, seed=1, planner="1", offsets={}, revisions={}), [], [])
            gone = [await tx.prune(100, 3), await tx.prune(100, 3), await tx.prune(100, 3)]

        assert gone == [4, 2, 0]

    async def test_what_is_counted_is_what_is_there(self, store: SqlStore):
        async with store.transaction() as tx:
            await tx.add_workload(make_workload("web"))
            await tx.save_placements([(make_placement("a"), 1), (make_placement("b", released=True), 1)])
            await tx.enqueue([make_row()])

        async with store.reader() as reader:
            counts = await reader.counts()
        assert (counts["workloads.pending"], counts["placements"], counts["outbox"]) == (1, 1, 1)

    # --- news ----------------------------------------------------------------------------------------------------

    async def test_who_waits_hears_of_a_commit_and_of_none_that_failed(self, store: SqlStore):
        async def add(name: str, divisor: int) -> None:
            async with store.transaction() as tx:
                await tx.add_workload(make_workload(name, decided=1 // divisor - 1))

        await asyncio.sleep(0.3)
        waiting = asyncio.create_task(store.changed("queue", 5, "w"))
        await asyncio.sleep(0.05)
        await add("web", 1)
        heard = await waiting
        with pytest.raises(ZeroDivisionError):
            await add("api", 0)

        assert heard
        assert not await store.changed("queue", 0.1, "w")

    async def test_news_of_one_channel_wake_nobody_on_another(self, store: SqlStore):
        await asyncio.sleep(0.3)
        for channel in ("queue", "outbox"):
            assert not await store.changed(channel, 0.01, "w")
        await enqueue(store, make_row())

        assert not await store.changed("queue", 0.1, "w")
        assert await store.changed("outbox", 5, "w")

    async def test_what_was_committed_between_two_waits_counts_at_once(self, store: SqlStore):
        await asyncio.sleep(0.3)
        await store.changed("view", 0.01, "w")
        await save(store, make_cluster())

        async with asyncio.timeout(1):
            assert await store.changed("view", 30, "w")
        assert not await store.changed("view", 0.01, "w")

    # --- trouble -------------------------------------------------------------------------------------------------

    async def test_cancelled_transactions_leak_no_connection(self, store: SqlStore):
        rng = random.Random(7)
        await save(store, make_cluster())

        async def work(tag: int) -> None:
            async with store.transaction() as tx:
                await tx.lock_clusters(["east"])
                await tx.save_placements([(make_placement(f"p-{tag}"), tag)])
                await asyncio.sleep(0.002)
                await tx.enqueue([make_row()])

        for start in range(0, 200, 20):
            tasks = [asyncio.create_task(work(tag)) for tag in range(start, start + 20)]
            await asyncio.sleep(rng.uniform(0, 0.01))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        assert store.committed().in_use == 0
        async with asyncio.timeout(5):
            await save(store, make_cluster(revision=9))

    async def test_cancelled_readers_leak_no_connection(self, store: SqlStore):
        async def read() -> None:
            async with store.reader() as reader:
                await reader.clusters()
                await asyncio.sleep(0.002)
                await reader.partitions()

        for _ in range(20):
            tasks = [asyncio.create_task(read()) for _ in range(10)]
            await asyncio.sleep(random.Random(_).uniform(0, 0.005))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        assert store.committed().in_use == 0

    async def test_an_unreachable_database_is_unavailable_within_its_time_limit(self, base: Base):
        store = await base.unreachable()

        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                async with store.reader() as reader:
                    await reader.clusters()
            with pytest.raises(Unavailable):
                async with store.transaction() as tx:
                    await tx.generation()
            await store.close()

    async def test_errors_of_the_caller_pass_through_as_they_are(self, store: SqlStore):
        with pytest.raises(KeyError):
            async with store.transaction():
                raise KeyError("mine")

        async def take_too_long() -> None:
            async with store.transaction() as tx, asyncio.timeout(0.01):
                await tx.generation()
                await asyncio.sleep(5)

        with pytest.raises(TimeoutError):
            await take_too_long()
        assert store.committed().in_use == 0

    # --- means ---------------------------------------------------------------------------------------------------

    async def _changed(self, store: SqlStore, after: dict[str, int]) -> dict[str, bool]:
        async with store.reader() as reader:
            chunks = [chunk async for chunk in reader.nodes_changed(after)]
        return {node.name: node.gone for chunk in chunks for _, node in chunk}

    async def _take(self, store: SqlStore, holder: str, now_ms: int) -> bool:
        async with store.transaction() as tx:
            return await tx.take_lease("scheduler", holder, now_ms, 10.0)


def _parked(offset: int) -> Parked:
    return Parked(
        source=SOURCE,
        offset=offset,
        at_ms=7,
        reason="the body is empty",
        key="east",
        headers=(("ce_id", b"\x00\xff"), ("other", b"")),
        value=b"\x00 not JSON \xff",
    )


def _decision(name: str, workload: str) -> Decision:
    spec = WorkloadSpec(name="web", components=(Component(replicas=1),))
    return Decision(
        id=name,
        workload=workload,
        cycle="c",
        explanation="c.0",
        at_ms=1,
        version=1,
        total=1,
        spec=spec,
        outcome="placed",
        placed={"east": 1},
        previous={},
    )
