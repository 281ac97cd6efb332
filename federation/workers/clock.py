"""The clock's loop: what time alone brings about, a few times a minute, by whoever holds the lease."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from federation.ports import Clock, EventLog, Store
from federation.services.upkeep import BATCH, expire_leases, prune, tell_parked
from federation.workers.leading import give_up, leads
from federation.workers.supervisor import Health, pause, take_turns

LEASE: Final = "clock"
PERIOD_SECONDS: Final = 2.0
PRUNE_EVERY_SECONDS: Final = 60.0
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ClockLoop:
    """Looks at the time while it holds its lease."""

    store: Store
    log: EventLog
    clock: Clock
    health: Health
    holder: str
    _pruned_ms: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until *stop*."""
        try:
            await take_turns("clock", partial(self._turn, stop), stop, self.health)
        finally:
            await asyncio.shield(give_up(self.store, LEASE, self.holder))

    async def _turn(self, stop: asyncio.Event) -> None:
        if await leads(self.store, self.clock, LEASE, self.holder):
            await self._look()
        await pause(stop, PERIOD_SECONDS)

    async def _look(self) -> None:
        for name in await expire_leases(self.store, self.clock):
            _log.info("workload's lease ran out", name=name)
        await tell_parked(self.store, self.log, self.clock)
        await self._prune()

    async def _prune(self) -> None:
        """Now and then, since what is kept however old is looked at each time; at once while there is more to go."""
        now_ms = self.clock.now_ms()
        if now_ms - self._pruned_ms >= PRUNE_EVERY_SECONDS * 1000:
            gone = await prune(self.store, self.clock)
            self._pruned_ms = 0 if gone >= BATCH else now_ms
