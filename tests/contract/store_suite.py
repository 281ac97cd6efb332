"""What every store must do: positions by compare-and-set, locks, cursors, queues, news, and no leaks."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from adapters.sql.store import SqlStore
from federation.domain.cluster import Node, Reception
from federation.domain.errors import Conflict, StaleOffset
from federation.domain.records import Cycle, Explanation, Verdict
from federation.domain.workload import WorkloadPhase
from federation.ports import WorkloadQuery
from tests.contract.store_builders import (
    SOURCE,
    Base,
    make_cluster,
    make_decision,
    make_parked,
    make_placement,
    make_row,
    make_workload,
    save,
)
from tests.contract.store_keeping_suite import KeepingSuite


class StoreSuite(KeepingSuite):
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
                await tx.park([make_parked(1)])
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
        decisions = [make_decision("d-1", "w-1"), make_decision("d-2", "w-1")]
        async with store.transaction() as tx:
            await tx.record_cycle(cycle, decisions, [explanation])

        async with store.reader() as reader:
            assert await reader.decision("d-1") == (decisions[0], explanation)
            assert await reader.decision("none") is None
            assert [each.id for each in await reader.decisions_of("w-1", 10)] == ["d-2", "d-1"]

    async def _changed(self, store: SqlStore, after: dict[str, int]) -> dict[str, bool]:
        async with store.reader() as reader:
            chunks = [chunk async for chunk in reader.nodes_changed(after)]
        return {node.name: node.gone for chunk in chunks for _, node in chunk}
