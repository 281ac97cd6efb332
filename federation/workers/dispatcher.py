"""The dispatcher's loop: orders leave as they become ready, and are repeated until their agent has confirmed them."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Final

from federation.ports import Clock, EventLog, Ids, Store
from federation.services.dispatch import ask_for_resyncs, dispatch, repeat
from federation.services.metrics import ORDERS
from federation.workers.leading import give_up, leads
from federation.workers.supervisor import Health, first_of, pause, take_turns

LEASE: Final = "dispatcher"
IDLE_SECONDS: Final = 1.0
REPEAT_EVERY_SECONDS: Final = 2.0


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
        try:
            await take_turns("dispatcher", partial(self._turn, stop), stop, self.health)
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
            await first_of(IDLE_SECONDS, self.store.changed("outbox", IDLE_SECONDS, self.holder), stop.wait())
