"""The store for virtual time: SQLite without a thread of its own, with the faults that tests ask for.

The verbs are those of `adapters.sql`; here is only a connection that answers within the call. A `MemoryDatabase` is the
server; each `MemoryStore` on it is the client of one process, which can be killed. Row locks are not played: writers
follow one another, as on SQLite. It lies in memory as a file where the system offers that, since only a file lets
readers see what was committed while another writes.
"""

import asyncio
import sqlite3
from collections import namedtuple
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

from sqlalchemy import Connection, Engine, Executable, create_engine, event
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from adapters.sql.news import News
from adapters.sql.store import SqlStore
from adapters.sql.tables import metadata

WAIT_SECONDS: Final = 30.0
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108  a directory of our own is made in it
_compiled: dict[Any, Any] = {}


def lost(why: str) -> OperationalError:
    """What a driver raises when its server does not answer."""
    return OperationalError("", {}, Exception(why))


class StoreFaults:
    """Hooks of a database, each with the name of the process that asks. They may wait, and raise `lost`.

    *committed* runs once a commit has had its effect: raising there loses the answer.
    """

    def __init__(self) -> None:
        self.connecting: Callable[[str], Awaitable[None]] | None = None
        self.committing: Callable[[str], Awaitable[None]] | None = None
        self.committed: Callable[[str], Awaitable[None]] | None = None


class MemoryDatabase:
    """One database with its schema. *watch* is called within each commit that changed rows, once it is done."""

    def __init__(self) -> None:
        self.faults = StoreFaults()
        self.watch: Callable[[str], None] | None = None
        self.writing = asyncio.Lock()
        self._directory = TemporaryDirectory(prefix="federation-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)
        path = Path(self._directory.name, "store.db")
        path.write_bytes(_schema())
        self.raw = _connect(str(path))
        self.sync = _engine(str(path))
        self.news = News(cast(AsyncEngine, self.sync))

    async def open(self, *, pool_size: int = 10, owner: str = "") -> "MemoryStore":
        """The store of a process called *owner*."""
        return MemoryStore(InlineEngine(self, pool_size, owner))

    def close(self) -> None:
        """Everything is gone."""
        self.sync.dispose()
        self.raw.close()
        self._directory.cleanup()


class MemoryStore(SqlStore):
    """`ports.Store` of one process. News reach every process of the database, as NOTIFY does."""

    def __init__(self, inline: "InlineEngine") -> None:
        super().__init__(cast(AsyncEngine, inline))
        self.inline = inline
        self.news = inline.database.news

    def kill(self) -> None:
        """The process is no more: what it had begun is rolled back now, and nothing of it has any effect again."""
        self.inline.kill()

    async def close(self) -> None:
        await self.inline.dispose()


class _Pool:
    def __init__(self, engine: "InlineEngine") -> None:
        self._engine = engine

    def checkedout(self) -> int:
        return len(self._engine.connections)


class InlineEngine:
    """What `SqlStore` needs of an `AsyncEngine`."""

    def __init__(self, database: MemoryDatabase, pool_size: int, owner: str) -> None:
        self.database = database
        self.owner = owner
        self.dialect = database.sync.dialect
        self.pool = _Pool(self)
        self.connections: dict[InlineConnection, None] = {}
        self.dead = ""
        self.slots = asyncio.Semaphore(pool_size)

    async def connect(self) -> "InlineConnection":
        self.require_alive()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self.slots.acquire()
        except TimeoutError:
            raise PoolTimeout(f"no connection came free within {WAIT_SECONDS:g} s") from None
        try:
            await call(self.database.faults.connecting, self.owner)
            self.require_alive()
            connection = InlineConnection(self, self.database.sync.connect())
        except BaseException:
            self.slots.release()
            raise
        self.connections[connection] = None
        return connection

    def require_alive(self) -> None:
        if self.dead:
            raise lost(self.dead)

    def kill(self) -> None:
        self.dead = f"process {self.owner} is dead"
        for connection in list(self.connections):
            connection.end()

    async def dispose(self) -> None:
        for connection in list(self.connections):
            connection.end()


class InlineConnection:
    """What `SqlTransaction` and `SqlReader` need of an `AsyncConnection`, on a synchronous one."""

    def __init__(self, engine: InlineEngine, connection: Connection) -> None:
        self.dialect = engine.dialect
        self._engine = engine
        self._connection = connection
        self._writes = False
        self._ended = False

    async def begin(self) -> None:
        """BEGIN IMMEDIATE, when no other process writes."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._engine.database.writing.acquire()
        except TimeoutError:
            raise lost("the database is locked") from None
        if self._ended:
            self._engine.database.writing.release()
            raise lost(self._engine.dead or "the connection was closed")
        self._writes = True
        self._connection.begin()

    async def commit(self) -> None:
        database, owner = self._engine.database, self._engine.owner
        await call(database.faults.committing, owner)
        self._require_open()
        self._connection.commit()
        if database.watch is not None:
            database.watch(owner)
        self._free()
        await call(database.faults.committed, owner)
        self._engine.require_alive()

    async def execute(self, statement: Executable, parameters: Any = None) -> Any:
        self._require_open()
        return self._connection.execute(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = ()) -> "DriverResult":
        """Straight to the driver: most of what a simulation asks for comes this way."""
        self._require_open()
        if not self._connection.in_transaction():
            self._connection.begin()
        cursor = cast(sqlite3.Connection, self._connection.connection.driver_connection).cursor()
        many = bool(parameters) and isinstance(parameters, list)
        try:
            return DriverResult(
                cursor.executemany(statement, parameters) if many else cursor.execute(statement, parameters)
            )
        except sqlite3.IntegrityError as error:
            raise IntegrityError(statement, parameters, error) from error
        except sqlite3.OperationalError as error:
            raise OperationalError(statement, parameters, error) from error

    async def execution_options(self, **options: Any) -> "InlineConnection":
        self._connection = self._connection.execution_options(**options)
        return self

    @asynccontextmanager
    async def begin_nested(self) -> AsyncIterator[None]:
        self._require_open()
        with self._connection.begin_nested():
            yield

    @asynccontextmanager
    async def stream(self, statement: Executable) -> AsyncIterator["_Rows"]:
        self._require_open()
        with self._connection.execute(statement) as result:
            yield _Rows(result)

    async def rollback(self) -> None:
        self._require_open()
        self._connection.rollback()

    async def close(self) -> None:
        self.end()

    def end(self) -> None:
        """Roll back what is open and give the connection up, at once."""
        if self._ended:
            return
        self._ended = True
        self._connection.close()
        self._free()
        self._engine.connections.pop(self, None)
        self._engine.slots.release()

    def _require_open(self) -> None:
        if self._ended:
            raise lost(self._engine.dead or "the connection was closed")

    def _free(self) -> None:
        if self._writes:
            self._writes = False
            self._engine.database.writing.release()


class DriverResult:
    """Rows by attribute, as SQLAlchemy's results have them."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        names = tuple(column[0] for column in cursor.description or ())
        shape = _shape(names)
        self.rowcount = cursor.rowcount
        self._rows = [shape(*row) for row in cursor] if names else []
        cursor.close()

    def fetchall(self) -> list[Any]:
        return self._rows


class _Rows:
    def __init__(self, result: Any) -> None:
        self._result = result

    async def partitions(self, size: int) -> AsyncIterator[Any]:
        for chunk in self._result.partitions(size):
            yield chunk


@cache
def _shape(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names)


async def call(hook: Callable[[str], Awaitable[None]] | None, owner: str) -> None:
    """Let *hook* do its worst, if there is one."""
    if hook is not None:
        await hook(owner)


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    for pragma in ("journal_mode=WAL", "synchronous=OFF", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _engine(path: str) -> Engine:
    engine = create_engine(
        "sqlite://",
        creator=lambda: _connect(path),
        poolclass=QueuePool,
        pool_size=100,
        max_overflow=-1,
        execution_options={"compiled_cache": _compiled},
    )

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Any) -> None:
        begin = connection.get_execution_options().get("begin", "BEGIN IMMEDIATE")
        connection.connection.driver_connection.execute(begin)

    return engine


@cache
def _schema() -> bytes:
    """A database file that holds the schema and no rows; made once, since every seed begins with one."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        connection.commit()
        raw: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        content = raw.serialize()
    engine.dispose()
    return content
