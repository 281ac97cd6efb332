"""Migrations bring an empty database to what the tables say, and leave one that is there already alone."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from adapters.sql.engine import make_engine
from adapters.sql.schema import migrate, require_current
from adapters.sql.store import open_store
from adapters.sql.tables import metadata
from federation.domain.cluster import Cluster
from federation.domain.errors import Conflict
from tests.testbed.postgres import Postgres

numbers = count(1)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(url, pool_size=2)
    try:
        yield engine
    finally:
        await engine.dispose()


async def asked(url: str, question: Any) -> Any:
    async with opened(url) as engine, engine.connect() as connection:
        return await connection.run_sync(question)


def differences(connection: Connection) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))


class MigrationSuite:
    """Held to both databases."""

    async def test_an_upgrade_from_nothing_is_what_the_tables_say(self, url: str):
        await migrate(url)

        assert await asked(url, differences) == []

    async def test_indexes_of_the_cursors_are_there_from_the_first_migration_on(self, url: str):
        await migrate(url, "0001")

        def indexed(connection: Connection) -> set[tuple[str, ...]]:
            tables = ("nodes", "placements", "workloads", "outbox")
            found = [index for table in tables for index in inspect(connection).get_indexes(table)]
            return {tuple(str(column) for column in index["column_names"]) for index in found}

        indexes = await asked(url, indexed)
        assert {("source", "position"), ("cluster", "revision"), ("queued", "priority", "id")} <= indexes

    async def test_an_upgrade_of_what_is_current_changes_nothing(self, url: str):
        await migrate(url)
        store = await open_store(url)
        async with store.transaction() as tx:
            await tx.save_clusters([Cluster(name="east", revision=7)])
        await store.close()

        await migrate(url)

        store = await open_store(url)
        async with store.reader() as reader:
            assert await reader.cluster_revisions() == {"east": 7}
        await store.close()
        assert await asked(url, differences) == []

    async def test_a_schema_that_is_not_there_is_said_with_what_to_do(self, url: str):
        async with opened(url) as engine:
            with pytest.raises(Conflict, match="federation migrate"):
                await require_current(engine)
        await migrate(url)

        async with opened(url) as engine:
            await require_current(engine)

    async def test_several_processes_may_upgrade_at_once(self, url: str):
        program = f"import asyncio; from adapters.sql.schema import migrate; asyncio.run(migrate({url!r}))"
        processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", program) for _ in range(3)]

        async with asyncio.timeout(60):
            assert [await process.wait() for process in processes] == [0, 0, 0]
        assert await asked(url, differences) == []


class TestSqlite(MigrationSuite):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite+aiosqlite:///{tmp_path}/federation.db"


class TestPostgres(MigrationSuite):
    @pytest.fixture
    def url(self, postgres: Postgres) -> str:
        return postgres.create_database(f"migration_{next(numbers)}")


async def test_every_table_is_strict_on_sqlite(tmp_path: Path):
    url = f"sqlite+aiosqlite:///{tmp_path}/federation.db"
    await migrate(url)

    def strictness(connection: Connection) -> dict[str, int]:
        rows = connection.execute(text("SELECT name, strict FROM pragma_table_list WHERE schema = 'main'"))
        return {name: strict for name, strict in rows if not name.startswith(("sqlite_", "alembic_"))}

    found = await asked(url, strictness)
    assert set(found) == set(metadata.tables)
    assert set(found.values()) == {1}


async def test_sqlite_runs_with_a_write_ahead_log_and_full_sync(tmp_path: Path):
    url = f"sqlite+aiosqlite:///{tmp_path}/federation.db"
    await migrate(url)

    def modes(connection: Connection) -> tuple[Any, ...]:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return tuple(connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas)

    assert await asked(url, modes) == ("wal", 2, 1, 30_000)
