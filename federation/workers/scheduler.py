"""The scheduler's loop: one leads by a lease and others stand by; cycles are woken by what changed."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from federation.services.metrics import CONFLICTS, CYCLE, DECISIONS, HELD, VIEW_AGE
from federation.services.scheduling import Scheduler, Tools, run_cycle
from federation.workers.leading import LEASE_SECONDS, give_up, leads
from federation.workers.supervisor import Health, first_of, pause, take_turns

LEASE: Final = "scheduler"
IDLE_SECONDS: Final = 1.0
VIEW_EVERY_SECONDS: Final = 0.2
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SchedulerLoop:
    """A scheduler and its claim to lead. A second leader would do no harm: the guards of a commit see to that."""

    scheduler: Scheduler
    tools: Tools
    health: Health
    holder: str
    _leads: bool | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until *stop*; the lease is given up at the end, so that another leads at once."""
        try:
            await take_turns("scheduler", partial(self._turn, stop), stop, self.health)
        finally:
            await asyncio.shield(give_up(self.tools.store, LEASE, self.holder))

    async def _turn(self, stop: asyncio.Event) -> None:
        now_leads = await leads(self.tools.store, self.tools.clock, LEASE, self.holder)
        if now_leads != self._leads:
            self._leads = now_leads
            _log.info("leads" if now_leads else "stands by", lease=LEASE, holder=self.holder)
        if not now_leads:
            await pause(stop, LEASE_SECONDS / 5)
            return
        with CYCLE.time():
            done = await run_cycle(self.scheduler, self.tools)
        for decision in done.decided:
            DECISIONS.labels(decision.outcome).inc()
            _log.info("decided", workload=decision.workload, decision=decision.id, summary=decision.summary)
        CONFLICTS.inc(len(done.dropped))
        self._measure()
        if not done.decided and not done.dropped:
            await self._wait(stop)

    def _measure(self) -> None:
        image, now_ms = self.scheduler.image, self.tools.clock.now_ms()
        HELD.set(sum(placement.held for placement in image.held.values()))
        for name, cluster in image.clusters.items():
            VIEW_AGE.labels(name).set(max(0, now_ms - cluster.observed_ms) / 1000)

    async def _wait(self, stop: asyncio.Event) -> None:
        """Until something is queued, or for a short while: then the view is looked at."""
        queued = self.tools.store.changed("queue", IDLE_SECONDS, self.holder)
        await first_of(IDLE_SECONDS, queued, stop.wait(), self._view_changed())

    async def _view_changed(self) -> None:
        """News of the view come with every batch of events: they wake a cycle at most so often."""
        await asyncio.sleep(VIEW_EVERY_SECONDS)
        await self.tools.store.changed("view", IDLE_SECONDS, self.holder)
