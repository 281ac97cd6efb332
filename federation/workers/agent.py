"""The agent of one member cluster: holds its Lease, watches, publishes, and carries out orders, until told to stop.

Many may run for one cluster; one is active. Whatever fails, it goes on: calls are tried again with back-off, and a
term that breaks down is followed by a new one with a new holder identity, so that no sequence is ever used twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Any, Final, TypeVar

import structlog

from federation.domain.errors import FederationError
from federation.domain.inventory import Inventory
from federation.domain.member import Change
from federation.ports import LeaseState
from federation.services.agent import (
    AgentCounts,
    AgentParts,
    AgentSettings,
    AgentState,
    Fence,
    limited,
    wait_for,
)
from federation.services.observe import Observer
from federation.services.orders import OrderCarrier
from federation.services.publish import Publisher
from federation.services.readings import PlacementReader

T = TypeVar("T")

__all__ = ["AgentCounts", "AgentParts", "AgentSettings", "run_agent"]

CHANGES_AT_ONCE: Final = 500
_DROP_SECONDS: Final = 2.0
_AFTER_BREAKDOWN_SECONDS: Final = 1.0
_log = structlog.get_logger(__name__)


async def run_agent(agent: AgentParts, stop: asyncio.Event) -> None:
    """Stand by, serve a term whenever the Lease is ours, and let it go at *stop*."""
    while not stop.is_set():
        holder, fence = f"{agent.ids.new()}-{token_hex(4)}", Fence(agent.settings)
        epoch = await _acquire(agent, holder, fence, stop)
        if epoch is not None:
            agent.counts.terms += 1
            _log.info("term begins", cluster=agent.cluster, uid=epoch.uid, transitions=epoch.transitions)
            await _Term(agent, holder, epoch, fence).run(stop)
            await wait_for(stop, _AFTER_BREAKDOWN_SECONDS)


async def _acquire(agent: AgentParts, holder: str, fence: Fence, stop: asyncio.Event) -> LeaseState | None:
    """The epoch once the Lease is ours; None when *stop* came first."""
    told = False
    while not stop.is_set():
        started = asyncio.get_running_loop().time()
        try:
            epoch = await _hold(agent, holder)
        except FederationError:
            epoch = None
        else:
            if epoch is None and not told:
                told = True
                _log.info("stands by", cluster=agent.cluster)
        if epoch is not None:
            fence.renewed(started)
            return epoch
        await wait_for(stop, agent.settings.renew_seconds * agent.random.uniform(0.5, 1.0))
    return None


async def _hold(agent: AgentParts, holder: str) -> LeaseState | None:
    try:
        held = agent.gateway.hold_lease(holder, agent.settings.lease_seconds)
        return await limited(held, agent.settings.call_seconds)
    except (FederationError, OSError) as error:
        agent.counts.lease_failures += 1
        _log.warning("the Lease does not answer", cluster=agent.cluster, error=str(error))
        raise FederationError(str(error)) from error


class _Term:
    """One epoch: from the Lease acquired to the Lease lost, a breakdown, or the end."""

    def __init__(self, agent: AgentParts, holder: str, epoch: LeaseState, fence: Fence) -> None:
        self._agent = agent
        self._holder = holder
        self._epoch = epoch
        self._fence = fence
        self._state = AgentState(inventory=Inventory(agent.cluster))
        self._carrier: OrderCarrier | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until the Lease is lost or *stop* is set; nothing of the term is left running."""
        serving = asyncio.create_task(self._serve())
        tasks: list[asyncio.Task[Any]] = [serving, asyncio.create_task(self._renew()), asyncio.create_task(stop.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writes = self._carrier is not None and self._carrier.writes
            self._fence.drop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._note_breakdowns(tasks)
        if not writes:
            await self._let_go()

    def _note_breakdowns(self, tasks: "Sequence[asyncio.Task[Any]]") -> None:
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._agent.counts.errors += 1
                _log.error("a term broke down", cluster=self._agent.cluster, exc_info=error)

    async def _let_go(self) -> None:
        """Let another take over at once. Not while a write may still land: then the Lease runs out by itself."""
        with suppress(FederationError, OSError):
            await limited(self._agent.gateway.drop_lease(self._holder), _DROP_SECONDS)

    async def _renew(self) -> None:
        """Keep the Lease; return when it is another's, or ours in another epoch."""
        settings, loop = self._agent.settings, asyncio.get_running_loop()
        pause = settings.renew_seconds
        while True:
            await asyncio.sleep(pause)
            started = loop.time()
            try:
                held = await _hold(self._agent, self._holder)
            except FederationError:
                pause = min(1.0, settings.renew_seconds)
                continue
            if held != self._epoch:
                self._fence.drop()
                _log.warning("the Lease was lost", cluster=self._agent.cluster)
                return
            self._fence.renewed(started)
            pause = settings.renew_seconds

    async def _serve(self) -> None:
        agent, state = self._agent, self._state
        state.orders = await self._persistently(agent.gateway.load_orders)
        state.facts = await self._persistently(agent.gateway.cluster_facts)
        reader = PlacementReader(agent, state)
        observer = Observer(agent, state, Publisher(agent, self._epoch, self._fence), reader)
        carrier = self._carrier = OrderCarrier(agent, state, self._fence)
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._watch())
            loops.create_task(self._keep_facts())
            loops.create_task(observer.run())
            loops.create_task(carrier.consume())
            loops.create_task(carrier.carry())
            for _ in range(agent.settings.readers):
                loops.create_task(reader.work())

    async def _persistently(self, call: Callable[[], Awaitable[T]]) -> T:
        """The answer of *call*, however long the API server is away."""
        tries = 0
        while True:
            try:
                return await limited(call(), self._agent.settings.call_seconds)
            except (FederationError, OSError) as error:
                tries += 1
                _log.warning("the API server does not answer", cluster=self._agent.cluster, error=str(error))
                await asyncio.sleep(self._agent.back_off(tries))

    async def _keep_facts(self) -> None:
        while True:
            await asyncio.sleep(self._agent.settings.facts_seconds)
            self._state.facts = await self._persistently(self._agent.gateway.cluster_facts)

    async def _watch(self) -> None:
        """Feed the inventory, list and watch again when it breaks."""
        tries = 0
        while True:
            self._state.inventory.blind.clear()
            try:
                async for changes in self._agent.gateway.changes():
                    await self._take_in(changes)
                    tries = 0
                    self._note_sight(blind=bool(self._state.inventory.blind))
            except (FederationError, OSError) as error:
                _log.warning("the watch broke", cluster=self._agent.cluster, error=str(error))
            tries += 1
            self._agent.counts.watch_failures += 1
            self._note_sight(blind=True)
            await asyncio.sleep(self._agent.back_off(tries))

    def _note_sight(self, *, blind: bool) -> None:
        """Since when something is not seen: an agent that is blind for long must not vouch for what it saw last."""
        if not blind:
            self._state.blind_since = None
        elif self._state.blind_since is None:
            self._state.blind_since = asyncio.get_running_loop().time()

    async def _take_in(self, changes: Sequence[Change]) -> None:
        """In pieces, so that a listing of a large cluster does not hold up the loop."""
        for start in range(0, len(changes), CHANGES_AT_ONCE):
            self._state.inventory.apply(changes[start : start + CHANGES_AT_ONCE])
            self._state.wake.set()
            await asyncio.sleep(0)
