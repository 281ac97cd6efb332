"""The schema's migrations, run by Alembic on the program's own engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from adapters.sql.engine import make_engine
from federation.domain.errors import Conflict, Unavailable

MIGRATION_LOCK: Final = 6_303_411
MIGRATIONS: Final = Path(__file__).resolve().parents[2] / "migrations"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection, revision: str) -> None:
    if connection.dialect.name == "postgresql":
        # Several replicas may start at once: one upgrades, the others find it done. SQLite has one writer anyhow.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    command.upgrade(_config(connection), revision)


async def migrate(url: str, revision: str = "head") -> None:
    """Bring the database at *url* to *revision*; doing it again changes nothing."""
    engine = make_engine(url, pool_size=2)
    try:
        async with _answering(), engine.begin() as connection:
            await connection.run_sync(_upgrade, revision)
    finally:
        await engine.dispose()


async def require_current(engine: AsyncEngine) -> None:
    """Raise Conflict unless the schema is the one that this program was made for."""
    async with _answering(), engine.connect() as connection:
        found = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    wanted = await asyncio.to_thread(lambda: ScriptDirectory.from_config(_config()).get_current_head())
    if found != wanted:
        raise Conflict(f"the database's schema is {found or 'not there'}, not {wanted}: run `federation migrate`")


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """A database that is not there is told in a line: this is where a program that starts first asks for it."""
    try:
        yield
    except (OperationalError, InterfaceError, OSError, TimeoutError) as error:
        raise Unavailable(f"the database cannot be used: {str(error).partition(chr(10))[0][:300]}") from error
