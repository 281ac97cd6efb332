"""The store: transactions, readers and the news that something was committed, on SQLite or PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from adapters.sql.engine import make_engine
from adapters.sql.news import News
from adapters.sql.reader import SqlReader
from adapters.sql.transaction import SqlTransaction
from federation.domain.errors import Unavailable
from federation.domain.records import Committed


class SqlStore:
    """`ports.Store` on one engine. SQLite has one writer at a time; PostgreSQL's row locks do the rest."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.news = News(engine)
        self._writer = asyncio.Lock()
        self._committed = 0
        self._abandoned: set[asyncio.Future[Any]] = set()
        self._is_sqlite = engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlTransaction]:
        channels: set[str] = set()
        if not self._is_sqlite:
            async with self._transacting(channels) as transaction:
                yield transaction
        else:
            async with self._writer, self._transacting(channels) as transaction:
                yield transaction
        self._committed += 1
        self.news.tell(channels)

    @asynccontextmanager
    async def _transacting(self, channels: set[str]) -> AsyncIterator[SqlTransaction]:
        async with self._connected() as connection:
            await connection.begin()
            yield SqlTransaction(connection, channels)
            await self.news.announce(connection, channels)
            await connection.commit()

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[SqlReader]:
        async with self._connected() as connection:
            await connection.execution_options(begin="BEGIN")
            yield SqlReader(connection)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection that goes back whole whatever happens: closing it (which rolls back) is shielded (F15)."""
        try:
            connection = await self._connect()
        except (OperationalError, InterfaceError, PoolTimeout, OSError, TimeoutError) as error:
            raise Unavailable(f"the database cannot be reached: {_first_line(error)}") from error
        try:
            yield connection
        except (OperationalError, InterfaceError, ConnectionError) as error:
            raise Unavailable(f"the database did not answer: {_first_line(error)}") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise Unavailable(f"the database connection was lost: {_first_line(error)}") from error
            raise
        finally:
            closing = asyncio.ensure_future(_close(connection))
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                await asyncio.wait([closing], timeout=10)
                raise

    async def _connect(self) -> AsyncConnection:
        """Out of reach of a cancelled caller: a driver cancelled while it connects leaves what nobody closes (F15)."""
        connecting = asyncio.ensure_future(_opened(self.engine))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            self._abandoned.add(connecting)
            connecting.add_done_callback(self._give_back)
            raise

    def _give_back(self, connecting: asyncio.Future[AsyncConnection]) -> None:
        self._abandoned.discard(connecting)
        if not connecting.cancelled() and connecting.exception() is None:
            closing = asyncio.ensure_future(_close(connecting.result()))
            self._abandoned.add(closing)
            closing.add_done_callback(self._abandoned.discard)

    async def changed(self, channel: str, wait_seconds: float, who: str = "") -> bool:
        return await self.news.wait(channel, wait_seconds, who)

    def committed(self) -> Committed:
        pool = self.engine.pool
        return Committed(transactions=self._committed, in_use=getattr(pool, "checkedout", lambda: 0)())

    async def ping(self) -> None:
        """Raise Unavailable unless the database answers."""
        async with self.reader() as reader:
            await reader.partitions()

    async def close(self) -> None:
        await self.news.close()
        for _ in ("connecting", "closing"):
            if self._abandoned:
                await asyncio.wait({*self._abandoned}, timeout=10)
        await self.engine.dispose()


async def open_store(url: str, *, pool_size: int = 10) -> SqlStore:
    """A store on *url*, whose schema is there already (`adapters.sql.schema.migrate`)."""
    store = SqlStore(make_engine(url, pool_size=pool_size))
    await store.news.start()
    return store


async def _opened(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()


async def _close(connection: AsyncConnection) -> None:
    with suppress(OperationalError, InterfaceError, OSError):
        await connection.close()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
