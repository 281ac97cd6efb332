"""What the loops of one agent share: its parts and settings, the fence of its Lease, and the state of one term.

A term is the time in which one Lease is held without a break: one epoch of events. All of it lives on one event loop.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeVar

from federation.domain.cloudevents import EVENTS_TOPIC
from federation.domain.errors import Unavailable
from federation.domain.events import ActionFinished, Shortage, Taint
from federation.domain.inventory import Inventory
from federation.domain.records import Orders
from federation.ports import Clock, ClusterFacts, ClusterGateway, EventLog, Ids

T = TypeVar("T")

DEFAULT_KINDS: Final = frozenset({"apps/v1/Deployment", "apps/v1/StatefulSet", "batch/v1/Job"})
MAX_REFUSALS: Final = 10_000
MAX_FINISHED: Final = 1_000
_FENCE_POLL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """How an agent behaves. *namespaces* None allows all but the system's own; *patience* is for what is terminating."""

    heartbeat_seconds: float = 10.0
    kind: str = "ordinary"
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    events_topic: str = EVENTS_TOPIC
    kinds: frozenset[str] = DEFAULT_KINDS
    namespaces: frozenset[str] | None = None
    lease_seconds: float = 15.0
    renew_seconds: float = 5.0
    call_seconds: float = 8.0
    append_seconds: float = 30.0
    coalesce_seconds: float = 0.1
    node_seconds: float = 1.0
    reading_seconds: float = 1.0
    facts_seconds: float = 60.0
    patience_seconds: float = 120.0
    tries: int = 30
    longest_back_off_seconds: float = 10.0
    orders_at_once: int = 8
    readers: int = 4


@dataclass(slots=True)
class AgentCounts:
    """What an agent has done, for gauges and logs."""

    published: int = 0
    append_failures: int = 0
    events_dropped: int = 0
    watch_failures: int = 0
    reading_failures: int = 0
    lease_failures: int = 0
    terms: int = 0
    applied: int = 0
    refused: int = 0
    failed: int = 0
    unreadable: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentParts:
    """All that an agent is made of."""

    cluster: str
    gateway: ClusterGateway
    log: EventLog
    clock: Clock
    ids: Ids
    settings: AgentSettings = field(default_factory=AgentSettings)
    counts: AgentCounts = field(default_factory=AgentCounts)
    random: Random = field(default_factory=Random)

    def back_off(self, tries: int, longest_seconds: float | None = None) -> float:
        """How long to wait after so many failures: doubling, jittered so that agents do not fall into step."""
        most = self.settings.longest_back_off_seconds if longest_seconds is None else longest_seconds
        doubled: float = 0.05 * 2.0 ** min(tries, 20)
        return min(most, doubled) * self.random.uniform(0.5, 1.0)


class Fence:
    """Whether this process may still publish and write. Time is the event loop's, which no clock change moves.

    A call begun while the fence holds is over before another can take the Lease: it holds for the Lease's time less
    the longest call, counted from the *start* of the last successful renewal (protocol 4.3).
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._valid_seconds = settings.lease_seconds - settings.call_seconds
        self._until = 0.0
        self._renewal = asyncio.Event()

    def renewed(self, started: float) -> None:
        """A renewal that began at *started* has succeeded."""
        self._until = max(self._until, started + self._valid_seconds)
        self._renewal.set()

    def drop(self) -> None:
        """The Lease is another's."""
        self._until = 0.0

    @property
    def holds(self) -> bool:
        return asyncio.get_running_loop().time() < self._until

    async def wait(self) -> None:
        """Return once it holds; whoever owns the task cancels it when the Lease is lost for good."""
        while not self.holds:
            self._renewal.clear()
            await wait_for(self._renewal, _FENCE_POLL_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An order that was not carried out: which version of the placement, and what to say of it."""

    version: int
    shortage: Shortage


@dataclass(slots=True)
class AgentState:
    """What observing and acting share in one term.

    *tracked* are placements seen or acted on here and not yet shown to be gone by the server; *forced* those that
    must be read from the server and told, whether anything changed or not. *blind_since* is when the watch failed.
    """

    inventory: Inventory
    orders: Orders = field(default_factory=Orders)
    facts: ClusterFacts = field(default_factory=ClusterFacts)
    tracked: set[str] = field(default_factory=set)
    forced: set[str] = field(default_factory=set)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    finished: deque[ActionFinished] = field(default_factory=lambda: deque(maxlen=MAX_FINISHED))
    resync_wanted: bool = False
    blind_since: float | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def refuse(self, placement: str, refusal: Refusal) -> None:
        """Remember why an order was not carried out, until a newer one is."""
        self.refusals.pop(placement, None)
        self.refusals[placement] = refusal
        if len(self.refusals) > MAX_REFUSALS:
            del self.refusals[next(iter(self.refusals))]


async def limited(call: Awaitable[T], seconds: float) -> T:
    """The answer of *call*, or Unavailable when it takes too long."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise Unavailable(f"no answer within {seconds:g} s") from None


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Whether *event* was set within *seconds*."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return False
    return True
