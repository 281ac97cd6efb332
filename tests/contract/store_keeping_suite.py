"""What a store keeps beside the view: orders, answers, leases, parked events; the news of it; and trouble."""

import asyncio
import random

import pytest
from msgspec.structs import replace

from adapters.sql.store import SqlStore
from federation.domain.errors import Unavailable
from federation.domain.records import Audit, Cycle, Idempotent
from tests.contract.store_builders import (
    Base,
    all_given_back,
    enqueue,
    make_cluster,
    make_parked,
    make_placement,
    make_row,
    make_workload,
    save,
)


class KeepingSuite:
    """The second half of the store's contract."""

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
            await tx.park([make_parked(1), make_parked(2)])
            await tx.park([make_parked(2)])

        async with store.reader() as reader:
            found = await reader.parked(10)
        assert sorted(found, key=lambda each: each.offset) == [make_parked(1), make_parked(2)]

    async def test_parked_events_are_told_once(self, store: SqlStore):
        async with store.transaction() as tx:
            await tx.park([make_parked(1), make_parked(2)])
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
            await tx.park([make_parked(offset) for offset in range(5)])
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

        await all_given_back(store)
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

        await all_given_back(store)

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

    async def _take(self, store: SqlStore, holder: str, now_ms: int) -> bool:
        async with store.transaction() as tx:
            return await tx.take_lease("scheduler", holder, now_ms, 10.0)
