"""Engines as this program needs them: one writer and BEGIN IMMEDIATE on SQLite, READ COMMITTED on PostgreSQL."""

from typing import Any

from sqlalchemy import event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from federation.domain.errors import Invalid

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}


def make_engine(url: str, *, pool_size: int = 10, timeout_seconds: float = 30.0) -> AsyncEngine:
    """An engine for a database URL; the async driver is filled in where the URL names none."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Invalid("DATABASE_URL cannot be read as a database URL", "DATABASE_URL") from error
    backend = parsed.get_backend_name()
    if backend not in DRIVERS:
        raise Invalid(f"DATABASE_URL: {backend!r} is neither sqlite nor postgresql", "DATABASE_URL")
    full = parsed if "+" in parsed.drivername else parsed.set(drivername=DRIVERS[backend])
    if backend == "sqlite":
        return _sqlite(create_async_engine(full, pool_size=pool_size, max_overflow=0, pool_timeout=timeout_seconds))
    return create_async_engine(
        full,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_seconds,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
        connect_args={
            "timeout": 10,
            "command_timeout": timeout_seconds,
            "server_settings": {"idle_in_transaction_session_timeout": "60000", "jit": "off"},
        },
    )


def _sqlite(engine: AsyncEngine) -> AsyncEngine:
    @event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _on_begin(connection: Any) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"))

    return engine
