"""A process of the system under test. Its ports go through here, so that it can be killed, frozen and started again."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from adapters.memory.cluster import SimulatedCluster
from adapters.memory.cluster_manifests import object_key
from adapters.memory.gateway import SimulatedGateway
from adapters.memory.log import MemoryLog
from adapters.memory.log_groups import LocalConsumer
from adapters.memory.store import MemoryStore
from federation.domain.errors import Conflict, Unavailable
from federation.domain.member import MemberObject, MemberPod, ObjectKey
from federation.domain.records import Orders
from federation.ports import Batch, Consumer, Message, PositionReader, RawMessage
from federation.simulator.virtual import SeededIds, VirtualClock

T = TypeVar("T")
_SESSION_SECONDS = 6.0


class Process:
    """One process, from its start until it is killed; a restart is another."""

    def __init__(self, name: str, rng: random.Random, store: MemoryStore | None = None) -> None:
        self.name = name
        self.rng = rng
        self.store = store
        self.clock = VirtualClock()
        self.ids = SeededIds(self.clock, f"{name}/{rng.random()}")
        self.dead = False
        self._running = asyncio.Event()
        self._running.set()
        self._tasks: list[asyncio.Task[Any]] = []
        self.writes = 0
        self._consumers: list[LocalConsumer] = []
        self._expelled: list[LocalConsumer] = []

    def run(self, work: Awaitable[Any]) -> None:
        """Begin its main loop."""
        self._tasks.append(asyncio.ensure_future(work))

    def reads_by(self, consumer: LocalConsumer) -> None:
        """The broker hears of this process by *consumer*."""
        self._consumers.append(consumer)

    def closes(self, consumer: LocalConsumer) -> None:
        self._consumers.remove(consumer)
        if consumer in self._expelled:
            self._expelled.remove(consumer)
            consumer.rejoin()

    def kill(self) -> None:
        """As by SIGKILL: no clean-up of its own has any effect."""
        self.dead = True
        if self.store is not None:
            self.store.kill()
        for task in self._tasks:
            task.cancel()
        self._running.set()
        self._fall_silent()

    async def ended(self) -> None:
        """Until its tasks are gone."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def frozen(self) -> bool:
        return not self._running.is_set()

    def freeze(self) -> None:
        """As by SIGSTOP: whatever it asks of the world waits. The database gives up what it had begun there."""
        self._running.clear()
        if self.store is not None:
            for connection in list(self.store.inline.connections):
                connection.end()
        self._fall_silent()

    def resume(self) -> None:
        """As by SIGCONT: whatever was under way goes on, late."""
        if self.dead:
            return
        for consumer in self._expelled:
            consumer.rejoin()
        self._expelled.clear()
        self._running.set()

    def _fall_silent(self) -> None:
        """Some time later the broker finds out."""
        asyncio.get_running_loop().call_later(self.rng.uniform(0.5, _SESSION_SECONDS), self._expel)

    def _expel(self) -> None:
        if self.dead or self.frozen:
            for consumer in self._consumers:
                if consumer not in self._expelled:
                    self._expelled.append(consumer)
                    consumer.expel()

    async def reach(self, most_seconds: float = 0.01) -> None:
        """The way to another machine, or back: a moment, or for as long as the process is frozen."""
        await asyncio.sleep(self.rng.uniform(0, most_seconds))
        await self._running.wait()
        if self.dead:
            raise Unavailable(f"process {self.name} is dead")


class ProcessCompute:
    """`ports.Compute`: others get their turn meanwhile, for up to *most_seconds*."""

    def __init__(self, process: Process, most_seconds: float) -> None:
        self._process = process
        self._most_seconds = most_seconds

    async def __call__(self, work: Callable[..., T], *arguments: Any) -> T:
        result = work(*arguments)
        await self._process.reach(self._most_seconds)
        return result


class ProcessLog:
    """`ports.EventLog` as one process reaches it."""

    def __init__(self, log: MemoryLog, process: Process) -> None:
        self._log = log
        self._process = process

    async def append(self, messages: Sequence[Message | RawMessage]) -> None:
        await self._process.reach()
        await self._log.append(messages)
        await self._process.reach()

    async def consume(self, group: str, topics: Sequence[str], positions: PositionReader) -> Consumer:
        await self._process.reach()
        consumer = await self._log.consume(group, topics, positions)
        self._process.reads_by(consumer)
        return ProcessConsumer(consumer, self._process)

    async def close(self) -> None:
        """The log outlives the process."""


class ProcessConsumer:
    """`ports.Consumer` of one process; what it polled may reach it late."""

    def __init__(self, consumer: LocalConsumer, process: Process) -> None:
        self._consumer = consumer
        self._process = process

    async def poll(self, limit: int, wait_seconds: float) -> Batch:
        await self._process.reach(0.001)
        batch = await self._consumer.poll(limit, wait_seconds)
        if batch.records:
            await self._process.reach()
        return batch

    async def hint(self, positions: Mapping[str, int]) -> None:
        await self._consumer.hint(positions)

    async def rewind(self, source: str) -> None:
        await self._consumer.rewind(source)

    async def lag(self) -> Mapping[str, int]:
        return await self._consumer.lag()

    async def close(self) -> None:
        if not self._process.dead:
            self._process.closes(self._consumer)
            await self._consumer.close()


class ProcessGateway(SimulatedGateway):
    """`ports.ClusterGateway` as an agent reaches it. What is sent is on its way: that the agent gives up stops nothing."""

    def __init__(self, cluster: SimulatedCluster, process: Process, clock: VirtualClock) -> None:
        super().__init__(cluster, clock)
        self.process = process
        self.applied: Callable[[str, MemberObject, bool], None] | None = None
        self._sent: set[asyncio.Future[Any]] = set()
        self._known: set[Orders] = {cluster.orders}

    async def apply(self, manifest: Mapping[str, Any], uid: str, resource_version: str) -> MemberObject:
        return await self._on_its_way(self._apply(manifest, uid, resource_version))

    async def _apply(self, manifest: Mapping[str, Any], uid: str, resource_version: str) -> MemberObject:
        term = self.cluster.lease and self.cluster.lease.transitions
        self.process.writes += 1
        try:
            await self._enter("apply")
        finally:
            self.process.writes -= 1
        is_new = self.cluster.find(object_key(manifest)) is None
        found = self.cluster.seen(self.cluster.apply(manifest, uid, resource_version))
        if self.applied is not None:
            late = is_new and term != (self.cluster.lease and self.cluster.lease.transitions)
            self.applied(self.cluster.name, found, late)
        return await self._leave("apply", found)

    async def delete(self, key: ObjectKey, uid: str) -> None:
        await self._on_its_way(super().delete(key, uid))

    async def delete_pod(self, pod: MemberPod) -> None:
        await self._on_its_way(super().delete_pod(pod))

    async def evict(self, pod: MemberPod, grace_seconds: int) -> bool:
        return await self._on_its_way(super().evict(pod, grace_seconds))

    async def load_orders(self) -> Orders:
        orders = await super().load_orders()
        self._known = {orders}
        return orders

    async def store_orders(self, orders: Orders) -> None:
        await self._on_its_way(self._store(orders))

    async def _store(self, orders: Orders) -> None:
        """As on a real member: only while no other agent has stored in between."""
        await self._enter("store_orders")
        if self.cluster.orders not in self._known:
            raise Conflict("another agent has stored in between")
        self._known = {orders}
        self.cluster.orders = orders
        self.cluster.write_meta("orders")
        await self._leave("store_orders", None)

    async def _on_its_way(self, call: Awaitable[T]) -> T:
        sent = asyncio.ensure_future(call)
        self._sent.add(sent)
        sent.add_done_callback(self._arrived)
        return await asyncio.shield(sent)

    def _arrived(self, sent: "asyncio.Future[Any]") -> None:
        self._sent.discard(sent)
        if not sent.cancelled():
            sent.exception()
