"""Builders for tests of the agent: a simulated member, a log in memory, and a loop whose time is only counted."""

import asyncio
import selectors
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from random import Random
from typing import Any

from adapters.memory.cluster import SimulatedCluster
from adapters.memory.cluster_state import Timing
from adapters.memory.gateway import SimulatedGateway, run_cluster
from adapters.memory.log import MemoryLog
from federation.domain.cloudevents import decode_event, decode_record, encode
from federation.domain.events import (
    TYPE_NAMES,
    Action,
    ActionFinished,
    Envelope,
    Event,
    PlacementObserved,
    PlacementUnwanted,
    PlacementWanted,
)
from federation.domain.manifest import deployment_for
from federation.ports import Clock, Message
from federation.services.agent import AgentParts, AgentSettings
from federation.workers.agent import run_agent

START_MS = 1_800_000_000_000


class CountedTime(selectors.DefaultSelector):
    """Instead of waiting it counts the seconds that would have been waited."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen"
            self.now += max(0.0, timeout)
        return ready


class CountedLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self.counted = CountedTime()
        super().__init__(self.counted)

    def time(self) -> float:
        return self.counted.now


class CountedClock:
    """`ports.Clock` on the running loop's time."""

    def now_ms(self) -> int:
        return START_MS + int(asyncio.get_running_loop().time() * 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class NumberedIds:
    """`ports.Ids` that count."""

    def __init__(self) -> None:
        self.last = 0

    def new(self) -> str:
        self.last += 1
        return f"id-{self.last:06d}"


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run an asynchronous test in virtual time; an hour of it is the limit."""

    @wraps(test)
    def run() -> None:
        loop = CountedLoop()
        try:
            loop.run_until_complete(asyncio.wait_for(test(), 3600))
        finally:
            loop.close()

    del run.__wrapped__  # type: ignore[attr-defined]
    return run


class Desk:
    """The hub's side of the log: orders go out, events come in."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.log = MemoryLog(clock)
        self.ids = NumberedIds()

    async def until(self, what: Callable[[], Any], seconds: float = 30) -> Any:
        """The first true answer of *what*."""
        async with asyncio.timeout(seconds):
            while not (answer := what()):
                await self.clock.sleep(0.02)
        return answer

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    # --- what it published -------------------------------------------------------------------------------------------

    def told(self) -> list[tuple[Envelope, Event]]:
        """Every event in the order of the log."""
        found = []
        for record in self.log.held("federation.events"):
            envelope = decode_record(record.key, record.headers)
            found.append((envelope, decode_event(envelope, record.value)))
        return found

    def events(self, kind: type | None = None) -> list[Any]:
        return [event for _, event in self.told() if kind is None or isinstance(event, kind)]

    def sequences(self) -> list[int]:
        return [envelope.stamp.sequence for envelope, _ in self.told() if envelope.stamp]

    def placement(self, placement: str = "p1") -> PlacementObserved | None:
        """What was told of a placement last."""
        return next((e for e in reversed(self.events(PlacementObserved)) if e.placement == placement), None)

    def finished(self, order: int) -> ActionFinished | None:
        return next((event for event in self.events(ActionFinished) if event.order == order), None)

    # --- the hub's orders --------------------------------------------------------------------------------------------

    async def order(self, action: Action) -> None:
        envelope = Envelope(id=self.ids.new(), type=TYPE_NAMES[type(action)], source="/hub")
        await self.order_raw(envelope, encode(action))

    async def order_raw(self, envelope: Envelope, body: bytes) -> None:
        message = Message(topic="federation.actions.east", key="east", envelope=envelope, value=body)
        await self.log.append([message])


class World(Desk):
    """One member, the log, and what was sent over it."""

    def __init__(self, nodes: int = 2, cores: int = 8) -> None:
        super().__init__(CountedClock())
        self.cluster = SimulatedCluster("east", timing=Timing(start=20, stop=20, jitter=5))
        for number in range(nodes):
            self.cluster.add_node(f"n-{number}", {"cpu": str(cores), "memory": "64Gi"})
        self.gateway = SimulatedGateway(self.cluster, self.clock)
        self.calls: list[str] = []
        self.hooks: dict[str, Callable[[], Awaitable[None]]] = {}
        self.gateway.faults.before = self._before

    async def _before(self, verb: str) -> None:
        self.calls.append(verb)
        if verb in self.hooks:
            await self.hooks[verb]()

    # --- the agent ---------------------------------------------------------------------------------------------------

    def parts(self, **settings: Any) -> AgentParts:
        return AgentParts(
            cluster="east",
            gateway=self.gateway,
            log=self.log,
            clock=self.clock,
            ids=self.ids,
            settings=AgentSettings(**settings),
            random=Random(1),
        )

    @asynccontextmanager
    async def running(self, parts: AgentParts | None = None) -> AsyncIterator[None]:
        """The member and an agent, which is told to stop at the end and must do so within seconds."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(run_cluster(self.cluster, self.clock, stop, 0.01))]
        tasks.append(asyncio.create_task(run_agent(parts or self.parts(), stop)))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 10)

    # --- the member --------------------------------------------------------------------------------------------------

    def object(self, name: str = "web") -> Any:
        """The stored object, if there is one."""
        return next((found for found in self.cluster.objects.values() if found.name == name), None)

    def live_pods(self, placement: str = "p1") -> list[Any]:
        return [pod for pod in self.cluster.pods.values() if pod.placement == placement and pod.live]

    def count(self, verb: str) -> int:
        return Counter(self.calls)[verb]


def make_manifest(name: str = "web", **pod: Any) -> dict[str, Any]:
    return deployment_for(name, "example/web:1", 1, {"cpu": "500m"}, pod or None)


def wanted(order: int, version: int | None = None, **fields: Any) -> PlacementWanted:
    """An order for a Deployment of placement p1."""
    base: dict[str, Any] = {
        "generation": 1,
        "placement": "p1",
        "version": order if version is None else version,
        "workload": "web",
        "team": "shop",
        "namespace": "shop",
        "name": "web",
        "revision": "1",
        "replicas": 2,
        "manifest": make_manifest(fields.get("name", "web")),
    }
    return PlacementWanted(order=order, **{**base, **fields})


def unwanted(order: int, version: int | None = None, placement: str = "p1", generation: int = 1) -> PlacementUnwanted:
    return PlacementUnwanted(
        order=order, generation=generation, placement=placement, version=order if version is None else version
    )
