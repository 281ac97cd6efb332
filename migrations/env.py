"""Alembic's environment: on the program's own connection, or on FEDERATION_DATABASE_URL for the command line."""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection

from adapters.sql.engine import make_engine
from adapters.sql.tables import metadata


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


async def run_on_url() -> None:
    engine = make_engine(os.environ["FEDERATION_DATABASE_URL"], pool_size=2)
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    asyncio.run(run_on_url())
