"""The dispatcher's loop: orders leave as they become ready, and are repeated until their agent has confirmed them."""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from federation.domain.errors import Unavailable
from federation.ports import Clock, EventLog, Ids, Store
from federation.services.dispatch import ask_for_resyncs, dispatch, repeat
from federation.services.metrics import ORDERS
from federation.workers.scheduler import give_up, leads
from federation.workers.supervisor import Health, back_off, pause

LEASE: Final = "dispatcher"
IDLE_SECONDS: Final = 1.0
REPEAT_EVERY_SECONDS: Final = 2.0
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class DispatcherLoop:
    """Sends orders while it holds its lease; two would send the same orders twice, to no effect."""

    store: Store
    log: EventLog
    clock: Clock
    ids: Ids
    health: Health
    holder: str
    _repeated_ms: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until *stop*."""
        failures = 0
        try:
            while not stop.is_set():
                try:
                    await self._turn(stop)
                    failures = 0
                    self.health.well("dispatcher")
                except Unavailable as error:
                    failures += 1
                    self.health.ill("dispatcher", str(error))
                    _log.warning("dispatch waits", error=str(error), failures=failures)
                    await pause(stop, back_off(failures))
        finally:
            await asyncio.shield(give_up(self.store, LEASE, self.holder))

    async def _turn(self, stop: asyncio.Event) -> None:
        if not await leads(self.store, self.clock, LEASE, self.holder):
            await pause(stop, IDLE_SECONDS)
            return
        sent = await dispatch(self.store, self.log, self.clock, self.ids)
        ORDERS.labels("first").inc(sent)
        now_ms = self.clock.now_ms()
        if abs(now_ms - self._repeated_ms) >= REPEAT_EVERY_SECONDS * 1000:
            self._repeated_ms = now_ms
            await ask_for_resyncs(self.store, self.clock)
            ORDERS.labels("repeated").inc(await repeat(self.store, self.log, self.clock, self.ids))
        if not sent:
            await self._wait(stop)

    async def _wait(self, stop: asyncio.Event) -> None:
        waits = [
            asyncio.ensure_future(self.store.changed("outbox", IDLE_SECONDS, self.holder)),
            asyncio.ensure_future(stop.wait()),
        ]
        _, pending = await asyncio.wait(waits, timeout=IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
