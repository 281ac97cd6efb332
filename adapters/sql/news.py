"""The news that something was committed: an event in this process, LISTEN/NOTIFY between processes on PostgreSQL.

News only hasten: whoever waits also looks again when its time is up, so that a lost notification costs latency only.
"""

import asyncio
from contextlib import suppress
from secrets import token_hex
from typing import Any

import asyncpg
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

CHANNELS = ("queue", "outbox", "view")
_log = structlog.get_logger(__name__)


class News:
    """Waiters by channel, woken by commits of this process and, on PostgreSQL, of all others."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._counts = dict.fromkeys(CHANNELS, 0)
        self._seen: dict[tuple[str, Any], int] = {}
        self._waiters: dict[str, set[asyncio.Future[None]]] = {channel: set() for channel in CHANNELS}
        self._name = token_hex(8)
        self._listens = engine.dialect.name == "postgresql"
        self._task: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        if self._listens:
            self._task = asyncio.create_task(self._listen(), name="news")

    async def announce(self, connection: AsyncConnection, channels: set[str]) -> None:
        """Inside the transaction: other processes hear of it when it commits."""
        if self._listens and channels:
            calls = ", ".join(f"pg_notify('federation_{channel}', :teller)" for channel in sorted(channels))
            await connection.execute(text(f"SELECT {calls}"), {"teller": self._name})

    def tell(self, channels: set[str]) -> None:
        for channel in channels:
            self._counts[channel] += 1
            waiters, self._waiters[channel] = self._waiters[channel], set()
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait(self, channel: str, seconds: float, who: str = "") -> bool:
        """True once there are news on *channel* since *who* (or the calling task) last waited."""
        caller = (channel, who or asyncio.current_task())
        seen = self._seen.get(caller, self._counts[channel])
        if seen == self._counts[channel]:
            await self._wake(channel, seconds)
        self._remember(caller)
        return seen != self._counts[channel]

    async def _wake(self, channel: str, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[channel].add(waiter)
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            self._waiters[channel].discard(waiter)

    def _remember(self, caller: tuple[str, Any]) -> None:
        if len(self._seen) > 1_000:
            self._seen = {
                key: count for key, count in self._seen.items() if isinstance(key[1], str) or not key[1].done()
            }
        self._seen[caller] = self._counts[caller[0]]

    async def _listen(self) -> None:
        while not self._stopped.is_set():
            try:
                await self._hear()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                _log.warning("news are not heard, polling goes on", error=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), timeout=1)

    async def _hear(self) -> None:
        url = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = await asyncpg.connect(url, timeout=10)
        over = asyncio.Event()
        connection.add_termination_listener(lambda _: over.set())
        try:
            for channel in CHANNELS:
                await connection.add_listener(f"federation_{channel}", self._heard)
            self.tell(set(CHANNELS))
            while not over.is_set():
                await connection.execute("SELECT 1", timeout=10)
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), timeout=15)
        finally:
            await connection.close(timeout=5)

    def _heard(self, _connection: Any, _pid: int, channel: str, teller: str) -> None:
        """What this process committed itself was told at once."""
        if teller != self._name:
            self.tell({channel.removeprefix("federation_")})

    async def close(self) -> None:
        self._stopped.set()
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5)
