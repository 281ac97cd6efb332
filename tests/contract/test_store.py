"""The contract of the store, held to SQLite and to a real PostgreSQL, and what only one of them can get wrong."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import text

from adapters.memory.store import MemoryDatabase, lost
from adapters.sql.engine import make_engine
from adapters.sql.schema import migrate
from adapters.sql.store import SqlStore, open_store
from federation.domain.errors import Invalid, Unavailable
from tests.contract.store_builders import all_given_back, make_cluster, make_workload, save
from tests.contract.store_suite import StoreSuite
from tests.testbed.postgres import Postgres
from tests.testbed.processes import free_port

numbers = count(1)


class UrlBase:
    """A database by its address."""

    def __init__(self, url: str, nowhere: str) -> None:
        self.url, self._nowhere = url, nowhere

    async def open(self, *, pool_size: int = 10) -> SqlStore:
        return await open_store(self.url, pool_size=pool_size)

    async def unreachable(self) -> SqlStore:
        return await open_store(self._nowhere)


class TestSqlite(StoreSuite):
    @pytest.fixture
    async def base(self, tmp_path: Path) -> UrlBase:
        url = f"sqlite+aiosqlite:///{tmp_path}/federation.db"
        await migrate(url)
        return UrlBase(url, f"sqlite+aiosqlite:///{tmp_path}/nowhere/federation.db")

    async def test_another_process_that_writes_is_waited_for(self, store: SqlStore, other: SqlStore):
        async def slow() -> None:
            async with store.transaction() as tx:
                await tx.save_clusters([make_cluster("a")])
                await asyncio.sleep(0.3)

        await asyncio.gather(slow(), save(other, make_cluster("b")))

        async with store.reader() as reader:
            assert set(await reader.cluster_revisions()) == {"a", "b"}

    async def test_2_1_who_reads_and_then_writes_is_never_told_that_the_database_is_locked(
        self, store: SqlStore, other: SqlStore
    ):
        async def count_up(by: SqlStore) -> None:
            for _ in range(30):
                async with by.transaction() as tx:
                    generation = await tx.generation()
                    await asyncio.sleep(0)
                    await tx.set_generation(generation + 1)

        await asyncio.gather(count_up(store), count_up(other))

        async with store.transaction() as tx:
            assert await tx.generation() == 61

    async def test_readers_cancelled_while_they_connect_leave_no_file_open(self, store: SqlStore):
        async def read() -> None:
            async with store.reader() as reader:
                await reader.partitions()

        gc.collect()
        gc.disable()
        try:
            for round_ in range(20):
                tasks = [asyncio.create_task(read()) for _ in range(20)]
                await asyncio.sleep(0.0005 * (round_ % 10))
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await all_given_back(store)
            opened = open_files("federation.db")
        finally:
            gc.enable()

        # Each connection of the pool has the file, its log and the index of that.
        assert len(opened) <= 3 * 10

    async def test_text_in_a_number_and_numbers_that_are_none_are_refused(self, store: SqlStore):
        for value in ("'many'", "1.5"):
            with pytest.raises(Exception, match=r"cannot store|datatype"):
                async with store.transaction() as tx:
                    await tx.connection.execute(text(f"INSERT INTO partitions VALUES ('x', {value}, 0, 0)"))


class MemoryBase:
    """The twin for virtual time."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()

    async def open(self, *, pool_size: int = 10) -> SqlStore:
        return await self.database.open(pool_size=pool_size)

    async def unreachable(self) -> SqlStore:
        async def refuse(_owner: str) -> None:
            raise lost("connection refused")

        self.database.faults.connecting = refuse
        return await self.database.open()


class TestMemory(StoreSuite):
    @pytest.fixture
    async def base(self) -> AsyncIterator[MemoryBase]:
        base = MemoryBase()
        yield base
        base.database.close()

    async def test_a_commit_whose_answer_is_lost_has_its_effect(self, base: MemoryBase, store: SqlStore):
        async def lose(_owner: str) -> None:
            raise lost("the answer was lost")

        base.database.faults.committed = lose
        with pytest.raises(Unavailable):
            await save(store, make_cluster("a"))

        async with store.reader() as reader:
            assert set(await reader.cluster_revisions()) == {"a"}

    async def test_what_a_killed_process_had_begun_is_rolled_back_and_it_has_no_effect_again(
        self, base: MemoryBase, store: SqlStore
    ):
        victim = await base.database.open(owner="victim")

        async def die_at_work() -> None:
            async with victim.transaction() as tx:
                await tx.save_clusters([make_cluster("a")])
                victim.kill()
                await save(store, make_cluster("b"))

        with pytest.raises(Unavailable):
            await die_at_work()
        with pytest.raises(Unavailable):
            await save(victim, make_cluster("c"))

        async with store.reader() as reader:
            assert set(await reader.cluster_revisions()) == {"b"}
        assert victim.committed().in_use == 0


class TestPostgres(StoreSuite):
    @pytest.fixture
    async def base(self, postgres: Postgres) -> AsyncIterator[UrlBase]:
        name = f"store_{next(numbers)}"
        url = postgres.create_database(name)
        await migrate(url)
        yield UrlBase(url, f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/none")
        postgres.drop_database(name)

    async def test_2_1_transactions_read_what_is_committed(self, store: SqlStore):
        async with store.transaction() as tx:
            level = (await tx.connection.execute(text("SHOW transaction_isolation"))).scalar()

        assert level == "read committed"

    async def test_2_1_who_waits_for_a_lock_sees_what_its_holder_wrote(self, store: SqlStore, other: SqlStore):
        await save(store, make_cluster("a", revision=1))
        locked = asyncio.Event()

        async def hold() -> None:
            async with store.transaction() as tx:
                await tx.lock_clusters(["a"])
                locked.set()
                await asyncio.sleep(0.2)
                await tx.save_clusters([make_cluster("a", revision=7)])

        async def wait() -> int:
            async with other.transaction() as tx:
                await tx.generation()
                await locked.wait()
                return (await tx.lock_clusters(["a"]))["a"].revision

        _, seen = await asyncio.gather(hold(), wait())
        assert seen == 7

    async def test_news_reach_another_process(self, store: SqlStore, other: SqlStore):
        await asyncio.sleep(0.5)
        waiting = asyncio.create_task(other.changed("queue", 5, "w"))
        await asyncio.sleep(0.1)
        async with store.transaction() as tx:
            await tx.add_workload(make_workload("web"))

        async with asyncio.timeout(2):
            assert await waiting

    async def test_news_are_heard_again_after_the_connection_was_cut(
        self, base: UrlBase, store: SqlStore, other: SqlStore, postgres: Postgres
    ):
        await asyncio.sleep(0.5)
        cut(postgres, base)
        await asyncio.sleep(2)
        await other.changed("queue", 0.01, "w")
        waiting = asyncio.create_task(other.changed("queue", 5, "w"))
        await asyncio.sleep(0.1)
        async with store.transaction() as tx:
            await tx.add_workload(make_workload("web"))

        assert await waiting

    async def test_a_connection_cut_in_the_middle_is_unavailable_and_the_next_one_works(
        self, base: UrlBase, store: SqlStore, postgres: Postgres
    ):
        async def lose_it() -> None:
            async with store.transaction() as tx:
                await tx.save_clusters([make_cluster()])
                cut(postgres, base)
                await tx.generation()

        with pytest.raises(Unavailable):
            await lose_it()
        await save(store, make_cluster("west"))
        async with store.reader() as reader:
            assert set(await reader.cluster_revisions()) == {"west"}
        assert store.committed().in_use == 0

    async def test_a_statement_that_takes_too_long_is_unavailable(self, base: UrlBase):
        store = SqlStore(make_engine(base.url, timeout_seconds=0.5))

        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                async with store.transaction() as tx:
                    await tx.connection.execute(text("SELECT pg_sleep(30)"))
            await store.close()

    async def test_a_pool_that_is_used_up_is_unavailable_within_its_limit(self, base: UrlBase):
        store = SqlStore(make_engine(base.url, pool_size=1, timeout_seconds=0.5))

        async with asyncio.timeout(5), store.transaction():
            with pytest.raises(Unavailable):
                async with store.reader():
                    pass
        await store.close()

    async def test_a_deadlock_is_broken_and_one_of_the_two_may_try_again(self, store: SqlStore, other: SqlStore):
        await save(store, make_cluster("a"), make_cluster("b"))

        async def lock_one_by_one(by: SqlStore, names: list[str]) -> None:
            async with by.transaction() as tx:
                for name in names:
                    await tx.lock_clusters([name])
                    await asyncio.sleep(0.2)

        results = await asyncio.gather(
            lock_one_by_one(store, ["a", "b"]), lock_one_by_one(other, ["b", "a"]), return_exceptions=True
        )

        assert sorted(type(result) for result in results if result) == [Unavailable]

    async def test_cancelled_transactions_are_rolled_back_on_the_server(
        self, base: UrlBase, store: SqlStore, postgres: Postgres
    ):
        async def hang() -> None:
            async with store.transaction() as tx:
                await tx.save_clusters([make_cluster()])
                await asyncio.sleep(60)

        tasks = [asyncio.create_task(hang()) for _ in range(5)]
        await asyncio.sleep(0.3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        database = base.url.rpartition("/")[2]
        open_ones = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND state LIKE 'idle in %'"
        assert postgres.sql(open_ones) == "0"
        async with store.reader() as reader:
            assert await reader.clusters() == []


@pytest.mark.parametrize("url", ["mysql://x/y", "no url", "", "sqlite", "postgresql+psycopg2://x"])
def test_an_address_that_leads_to_no_known_database_is_refused(url: str):
    with pytest.raises(Invalid, match="DATABASE_URL"):
        make_engine(url)


@pytest.mark.parametrize("url", ["mysql://u:geheim@h/d", "postgresql://u:geheim@h:x/d", "u:geheim@h"])
def test_a_refused_address_does_not_show_its_password(url: str):
    with pytest.raises(Invalid) as refused:
        make_engine(url)

    assert "geheim" not in str(refused.value)
    assert refused.value.__cause__ is None


def open_files(name: str) -> list[str]:
    """The files of that name that this process has open."""
    opened = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            opened.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in opened if name in path]


def cut(postgres: Postgres, base: UrlBase) -> None:
    """Cut every connection to the database."""
    database = base.url.rpartition("/")[2]
    postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
