"""Engines as this program needs them: one writer and BEGIN IMMEDIATE on SQLite, READ COMMITTED on PostgreSQL."""

from typing import Any, Final

from sqlalchemy import URL, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from federation.domain.errors import Invalid, Unavailable

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}

PASSING: Final = frozenset({"08", "40", "53", "55", "57", "58"})
"""Classes of errors that pass: connection, rollback (deadlock, serialisation), resources, locks, operator, system."""


def make_engine(url: str, *, pool_size: int = 10, timeout_seconds: float = 30.0) -> AsyncEngine:
    """An engine for a database URL; the async driver is filled in where the URL names none."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Without its cause: that repeats the address, which may hold a password.
        raise Invalid("DATABASE_URL cannot be read as a database URL", "DATABASE_URL") from None
    backend = parsed.get_backend_name()
    if parsed.drivername not in {backend, DRIVERS.get(backend)} or backend not in DRIVERS:
        raise Invalid(f"DATABASE_URL: {parsed.drivername!r} is neither sqlite nor postgresql", "DATABASE_URL")
    full = parsed.set(drivername=DRIVERS[backend])
    if backend == "sqlite":
        return _sqlite(create_async_engine(full, pool_size=pool_size, max_overflow=0, pool_timeout=timeout_seconds))
    return _postgresql(full, pool_size, timeout_seconds)


def _postgresql(url: URL, pool_size: int, timeout_seconds: float) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_seconds,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
        connect_args={
            "timeout": 10,
            "command_timeout": timeout_seconds,
            # A process that freezes in a transaction holds up all others for so long, whoever leads meanwhile.
            "server_settings": {"idle_in_transaction_session_timeout": "20000", "jit": "off"},
        },
    )

    @event.listens_for(engine.sync_engine, "handle_error")
    def _on_error(context: ExceptionContext) -> None:
        error = context.original_exception
        state = str(getattr(error, "sqlstate", None) or "")
        if isinstance(error, TimeoutError) or state[:2] in PASSING:
            raise Unavailable(f"the database could not do it now: {state or 'no answer in time'}") from error

    return engine


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
