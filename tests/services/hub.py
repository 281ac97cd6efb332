"""A hub on SQLite and a log in memory, moved step by step: what its loops do, without the loops."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from adapters.memory.log import MemoryLog
from adapters.sql.schema import migrate
from adapters.sql.store import SqlStore, open_store
from federation.domain.cloudevents import encode, encode_headers
from federation.domain.cluster import Cluster
from federation.domain.events import (
    TYPE_NAMES,
    BoundPlacement,
    ClusterObserved,
    Envelope,
    Event,
    NodeObserved,
    Orders,
    PlacementObserved,
    ResyncFinished,
    ResyncStarted,
    Stamp,
)
from federation.domain.manifest import deployment_for
from federation.domain.placement import Placement
from federation.domain.records import OutboxRow
from federation.domain.workload import Component, PlacementRules, Workload, WorkloadKind, WorkloadSpec, WorkloadStep
from federation.ports import Record
from federation.services.committing import Done
from federation.services.dispatch import dispatch
from federation.services.image import Image
from federation.services.ingest import Report, ingest
from federation.services.scheduling import Scheduler, Tools, run_cycle

TOPIC = "federation.events"
START = 1_700_000_000_000
DEADLINE_SECONDS = 300.0


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = START

    def now_ms(self) -> int:
        return self.ms

    def advance(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


class Ids:
    """Ids that sort by the order in which they were made."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix, self._last = prefix, 0

    def new(self) -> str:
        self._last += 1
        return f"{self._prefix}{self._last:06}"


async def here(work: Any, *arguments: Any) -> Any:
    """`ports.Compute` at once, in this thread."""
    return work(*arguments)


@dataclass
class Agent:
    """An agent as the log sees it: numbered events of one epoch, appended in order or held back."""

    hub: "Hub"
    cluster: str
    uid: str = ""
    epoch: int = 1
    sequence: int = 0
    topic: str = TOPIC

    def stamp(self) -> Stamp:
        self.sequence += 1
        return Stamp(self.uid or f"lease-{self.cluster}", self.epoch, self.sequence)

    def tell(self, *events: Event) -> None:
        """Number *events* and append them."""
        for event in events:
            self.append(event, self.stamp())

    def append(self, event: Event, stamp: Stamp, **changed: Any) -> None:
        """Append an event under a stamp of the test's choice."""
        headers = self.headers(event, stamp)
        self.hub.log.append_raw(self.topic, changed.get("key", self.cluster), headers, encode(event))

    def headers(self, event: Event, stamp: Stamp) -> tuple[tuple[str, bytes], ...]:
        source = f"/clusters/{self.cluster}/agent"
        return encode_headers(Envelope(id=self.hub.ids.new(), type=TYPE_NAMES[type(event)], source=source, stamp=stamp))

    def poison(self, value: bytes = b"{", *, key: str | None = None) -> Stamp:
        """A record whose body cannot be read, though its sequence can."""
        stamp = self.stamp()
        headers = self.headers(ResyncStarted(cluster=self.cluster, resync="r"), stamp)
        self.hub.log.append_raw(self.topic, self.cluster if key is None else key, headers, value)
        return stamp

    def join(self, *nodes: NodeObserved, done: int = 0, placements: Sequence[PlacementObserved] = ()) -> None:
        """A whole resync, with the heartbeat that makes the cluster one that acts."""
        name = f"r{self.epoch}-{self.sequence}"
        listed = tuple(each.placement for each in placements)
        self.tell(ResyncStarted(cluster=self.cluster, resync=name), *nodes, *placements, self.beat(done))
        self.tell(
            ResyncFinished(
                cluster=self.cluster,
                resync=name,
                generation=1,
                done=done,
                nodes=tuple(each.node for each in nodes),
                placements=listed,
            )
        )

    def beat(self, done: int = 0, **fields: Any) -> ClusterObserved:
        apis = ("apps/v1/Deployment", "apps/v1/StatefulSet", "batch/v1/Job")
        return ClusterObserved(cluster=self.cluster, orders=Orders(generation=1, done=done), **{"apis": apis, **fields})

    def node(self, name: str = "n-0", cores: int = 8, used: int = 0, **bound: int) -> NodeObserved:
        return NodeObserved(
            cluster=self.cluster,
            node=name,
            allocatable={"cpu": str(cores), "pods": "110"},
            requested={"cpu": str(used), "pods": str(used)},
            conditions={"Ready": "True"},
            placements=tuple(BoundPlacement(placement=key, bound=count) for key, count in bound.items() if count),
        )

    def seen(self, placement: str, **fields: Any) -> PlacementObserved:
        return PlacementObserved(cluster=self.cluster, placement=placement, **{"generation": 1, **fields})


@dataclass
class Hub:
    """One process of the hub."""

    store: SqlStore
    clock: Clock
    log: MemoryLog
    ids: Ids = field(default_factory=Ids)
    scheduler: Scheduler = field(default_factory=lambda: Scheduler(Image(silent_after_seconds=30)))

    @property
    def tools(self) -> Tools:
        return Tools(
            store=self.store,
            clock=self.clock,
            ids=self.ids,
            compute=here,
            hold_deadline_seconds=DEADLINE_SECONDS,
        )

    def twin(self, prefix: str) -> "Hub":
        """Another process on the same database and log, with an image of its own."""
        return Hub(store=self.store, clock=self.clock, log=self.log, ids=Ids(prefix))

    def agent(self, cluster: str = "east", **fields: Any) -> Agent:
        return Agent(self, cluster, **fields)

    # --- what the loops do -------------------------------------------------------------------------------------------

    def unread(self, source: str, position: int) -> list[Record]:
        held = [record for record in self.log.held(source.rpartition("/")[0]) if record.source == source]
        return [record for record in held if record.offset >= position]

    async def fold(self, *, at_a_time: int = 500) -> list[Report]:
        """All that is in the log and was not read yet; the consumer then stands at the end."""
        reports = []
        async with self.store.reader() as reader:
            positions = {name: partition.position for name, partition in (await reader.partitions()).items()}
        for source in [name for name in self.log.sources() if name.startswith(TOPIC)]:
            expected = positions.get(source, -1)
            unread = self.unread(source, expected)
            for start in range(0, len(unread), at_a_time):
                batch = unread[start : start + at_a_time]
                reports.append(await ingest(self.store, source, expected, batch, self.clock.now_ms()))
                expected = batch[-1].offset + 1
        async with self.store.transaction() as tx:
            await tx.set_caught_up(self.log.sources(), self.clock.now_ms())
        return reports

    async def cycle(self) -> Done:
        return await run_cycle(self.scheduler, self.tools)

    async def dispatch(self) -> list[dict[str, Any]]:
        """Send what is ready; the bodies of the orders sent now, oldest first."""
        known = {cluster: len(self.orders(cluster)) for cluster in await self.names()}
        await dispatch(self.store, self.log, self.clock, self.ids)
        return [order for cluster in known for order in self.orders(cluster)[known[cluster] :]]

    async def decide(self) -> list[dict[str, Any]]:
        """A cycle, and the orders that come of it."""
        await self.cycle()
        return await self.dispatch()

    # --- what callers do ---------------------------------------------------------------------------------------------

    async def create(self, name: str = "web", replicas: int = 1, **fields: Any) -> Workload:
        component = Component(replicas=replicas, requests=fields.pop("requests", {"cpu": "1"}))
        rules = fields.pop("rules", PlacementRules())
        spec = WorkloadSpec(
            name=name,
            components=(component,),
            rules=rules,
            **{
                "kind": WorkloadKind.DEPLOYMENT,
                "api": "apps/v1/Deployment",
                "manifest": deployment_for(name, "pause", replicas, component.requests),
                "revision": "1",
                **fields,
            },
        )
        workload = Workload(id=self.ids.new(), spec=spec, created_ms=self.clock.now_ms())
        async with self.store.transaction() as tx:
            await tx.add_workload(workload)
        return workload

    async def change(self, workload: Workload, replicas: int, **fields: Any) -> None:
        async with self.store.transaction() as tx:
            before = (await tx.lock_workloads([workload.id]))[workload.id]
            component = replace(before.spec.components[0], replicas=replicas, **fields.pop("component", {}))
            spec = replace(before.spec, components=(component,), **fields)
            changed = before.after(WorkloadStep.CHANGE)
            await tx.save_workloads([replace(changed, spec=spec, version=before.version + 1)])

    async def delete(self, workload: Workload) -> None:
        async with self.store.transaction() as tx:
            before = (await tx.lock_workloads([workload.id]))[workload.id]
            deleting = before.after(WorkloadStep.DELETE)
            await tx.save_workloads([replace(deleting, version=before.version + 1)])

    # --- what is there -----------------------------------------------------------------------------------------------

    async def names(self) -> list[str]:
        async with self.store.reader() as reader:
            return [cluster.name for cluster in await reader.clusters()]

    async def cluster(self, name: str = "east") -> Cluster:
        async with self.store.reader() as reader:
            found = await reader.cluster(name)
        assert found is not None
        return found

    async def workload(self, name: str = "web") -> Workload:
        async with self.store.reader() as reader:
            found = await reader.workload(name, None)
        assert found is not None
        return found

    async def placements(self, cluster: str = "east") -> list[Placement]:
        """All of the cluster, released ones included."""
        async with self.store.transaction() as tx:
            return await tx.placements_in(cluster, living=False)

    async def placement(self, cluster: str = "east") -> Placement:
        (found,) = await self.placements(cluster)
        return found

    async def waiting(self) -> list[OutboxRow]:
        async with self.store.transaction() as tx:
            return await tx.waiting_rows(1000)

    def orders(self, cluster: str = "east") -> list[dict[str, Any]]:
        """The bodies of all orders on the wire to *cluster*, as often as they were sent."""
        return [msgspec.json.decode(record.value) for record in self.log.held(f"federation.actions.{cluster}")]


def replace_store(process: Hub, store: SqlStore) -> Hub:
    """The process on a database of the test's choice."""
    return Hub(store=store, clock=process.clock, log=process.log, ids=process.ids)


@asynccontextmanager
async def hub(tmp_path: Path, *, partitions: int = 1) -> AsyncIterator[Hub]:
    """A hub on an empty database of its own."""
    url = f"sqlite+aiosqlite:///{tmp_path}/federation.db"
    await migrate(url)
    clock = Clock()
    store = await open_store(url)
    try:
        yield Hub(store=store, clock=clock, log=MemoryLog(clock, partitions=partitions))
    finally:
        await store.close()
