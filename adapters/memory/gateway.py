"""The agent's gateway to a simulated cluster: what a real API server promises, faults and lagging watches included."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from adapters.memory.cluster import KUBERNETES_VERSION, SimulatedCluster
from adapters.memory.cluster_state import DEPLOYMENT, JOB, NODES, OBJECTS, PODS, STATEFUL_SET, SimLease, SimPod
from federation.domain.errors import Conflict, Invalid
from federation.domain.member import (
    Change,
    Listed,
    MemberObject,
    MemberPod,
    NodeChanged,
    NodeDeleted,
    ObjectChanged,
    ObjectDeleted,
    ObjectKey,
    PodChanged,
    PodDeleted,
    Relisted,
)
from federation.domain.records import Orders
from federation.ports import Clock, ClusterFacts, LeaseState, PlacementListing

T = TypeVar("T")
BATCH: Final = 500
MOST_NOTED: Final = 20_000
_QUIET_SECONDS: Final = 30.0
_WATCHED: Final = (NODES, PODS, OBJECTS)
_APIS: Final = ("v1/ConfigMap", "v1/Service", DEPLOYMENT, STATEFUL_SET, JOB)


class Watch:
    """What one subscriber has not been told yet: keys, not contents, so that it is bounded by what there is.

    Beyond *MOST_NOTED* it forgets and lists again, as a watch does that has fallen too far behind.
    """

    def __init__(self) -> None:
        self.noted: dict[tuple[str, str], None] = {}
        self.overflown = False
        self.ready = asyncio.Event()

    def note(self, kind: str, key: str) -> None:
        """Something was touched."""
        if kind not in _WATCHED:
            return
        self.noted[kind, key] = None
        if len(self.noted) > MOST_NOTED:
            self.noted.clear()
            self.overflown = True
        self.ready.set()

    def take(self) -> list[tuple[str, str]]:
        """The next keys to tell of, oldest first."""
        keys = list(islice(self.noted, BATCH))
        for key in keys:
            del self.noted[key]
        if not self.noted:
            self.ready.clear()
        return keys


class Faults:
    """Hooks around each call: *before* it has an effect, *after* it had (an answer that is lost). Both may raise or wait."""

    def __init__(self) -> None:
        self.before: Callable[[str], Awaitable[None]] | None = None
        self.after: Callable[[str], Awaitable[None]] | None = None
        self.watch_lag_seconds = 0.0


class SimulatedGateway:
    """`ports.ClusterGateway` on a `SimulatedCluster`. *commit* makes durable what was written, before it is told."""

    def __init__(self, cluster: SimulatedCluster, clock: Clock, commit: Callable[[], None] | None = None) -> None:
        self.cluster = cluster
        self.faults = Faults()
        self._clock = clock
        self._commit = commit
        self._closed = False
        self._watches: list[Watch] = []

    # --- reading -------------------------------------------------------------------------------------------------

    async def changes(self) -> AsyncIterator[Sequence[Change]]:
        """Everything first, then what changes, in batches."""
        watch = Watch()
        self.cluster.watchers.append(watch)
        self._watches.append(watch)
        try:
            await self._enter("watch")
            for batch in self._listing():
                yield batch
            while not self._closed:
                await self._noted(watch)
                if watch.overflown:
                    watch.overflown = False
                    for batch in self._listing():
                        yield batch
                if keys := watch.take():
                    yield [self._change(kind, key) for kind, key in keys if self._tells(kind, key)]
        finally:
            self.cluster.watchers.remove(watch)
            self._watches.remove(watch)

    async def _noted(self, watch: Watch) -> None:
        try:
            async with asyncio.timeout(_QUIET_SECONDS):
                await watch.ready.wait()
        except TimeoutError:
            return
        if self.faults.watch_lag_seconds:
            await self._clock.sleep(self.faults.watch_lag_seconds)

    def _listing(self) -> Iterable[list[Change]]:
        """What there is at this moment, kind by kind, in batches."""
        everything: list[Change] = []
        for kind, keys in ((NODES, self.cluster.nodes), (PODS, self.cluster.pods), (OBJECTS, self.cluster.objects)):
            told = [self._change(kind, key) for key in keys if self._tells(kind, key)]
            everything += [Relisted(kind), *told, Listed(kind)]
        return [everything[start : start + BATCH] for start in range(0, len(everything), BATCH)]

    def _tells(self, kind: str, key: str) -> bool:
        found = self.cluster.objects.get(key) if kind == OBJECTS else None
        return found is None or bool(found.placement)

    def _change(self, kind: str, key: str) -> Change:
        cluster = self.cluster
        if kind == NODES:
            return NodeChanged(cluster.nodes[key].seen()) if key in cluster.nodes else NodeDeleted(key)
        if kind == PODS:
            return PodChanged(cluster.pods[key].seen()) if key in cluster.pods else PodDeleted(key)
        return ObjectChanged(cluster.seen(cluster.objects[key])) if key in cluster.objects else ObjectDeleted(key)

    async def cluster_facts(self) -> ClusterFacts:
        """Version, kinds and labels."""
        await self._enter("facts")
        return ClusterFacts(kubernetes_version=KUBERNETES_VERSION, apis=_APIS, labels=self.cluster.labels)

    async def read(self, key: ObjectKey) -> MemberObject | None:
        """The object as storage has it now."""
        await self._enter("get")
        found = self.cluster.find(key)
        return await self._leave("get", self.cluster.seen(found) if found else None)

    async def list_placement(self, placement: str) -> PlacementListing:
        """Object, ReplicaSets and pods of one placement, from storage."""
        await self._enter("list")
        cluster = self.cluster
        listing = PlacementListing(
            objects=tuple(cluster.seen(each) for each in cluster.objects.values() if each.placement == placement),
            pods=tuple(pod.seen() for pod in cluster.pods.values() if pod.placement == placement),
            replica_sets=sum(1 for each in cluster.replica_sets.values() if each.template.placement == placement),
        )
        return await self._leave("list", listing)

    # --- writing -------------------------------------------------------------------------------------------------

    async def apply(self, manifest: Mapping[str, Any], uid: str, resource_version: str) -> MemberObject:
        """Server-side apply, preconditioned."""
        await self._enter("apply")
        return await self._leave("apply", self.cluster.seen(self.cluster.apply(manifest, uid, resource_version)))

    async def delete(self, key: ObjectKey, uid: str) -> None:
        """Foreground deletion of that very object."""
        await self._enter("delete")
        self.cluster.delete(key, uid)
        await self._leave("delete", None)

    async def evict(self, pod: MemberPod, grace_seconds: int) -> bool:
        """Evict that very pod, unless its budget forbids it now."""
        await self._enter("evict")
        found = self._that_very(pod)
        allowed = found is None or self._budget_allows(found)
        if found is not None and allowed:
            self.cluster.delete_pod(found, grace_seconds * 1000)
        return await self._leave("evict", allowed)

    async def delete_pod(self, pod: MemberPod) -> None:
        """Delete that very pod."""
        await self._enter("delete_pod")
        found = self._that_very(pod)
        if found is not None:
            self.cluster.delete_pod(found)
        await self._leave("delete_pod", None)

    def _that_very(self, pod: MemberPod) -> SimPod | None:
        uid = self.cluster.pod_uids.get((pod.namespace, pod.name))
        if uid is not None and uid != pod.uid:
            raise Conflict(f"pod {pod.name}: precondition failed: uid is {uid}")
        return self.cluster.pods[uid] if uid else None

    def _budget_allows(self, pod: SimPod) -> bool:
        least = self.cluster.budgets.get(pod.placement)
        if least is None or not pod.ready or pod.deleting:
            return True
        others = self.cluster.pods.values()
        return sum(1 for each in others if each.placement == pod.placement and each.ready and each.live) > least

    async def ensure_namespace(self, namespace: str, team: str) -> None:
        """The namespace is there and belongs to *team*."""
        await self._enter("namespace")
        owner = self.cluster.namespaces.get(namespace)
        if owner and owner != team:
            raise Invalid(f"namespace {namespace} belongs to team {owner}")
        if owner != team:
            self.cluster.namespaces[namespace] = team
            self.cluster.write_meta("namespaces")
        await self._leave("namespace", None)

    async def load_orders(self) -> Orders:
        """What was stored last."""
        await self._enter("load_orders")
        return await self._leave("load_orders", self.cluster.orders)

    async def store_orders(self, orders: Orders) -> None:
        """Keep *orders*, durably."""
        await self._enter("store_orders")
        self.cluster.orders = orders
        self.cluster.write_meta("orders")
        await self._leave("store_orders", None)

    # --- the agents' Lease ---------------------------------------------------------------------------------------

    async def hold_lease(self, holder: str, seconds: float) -> LeaseState | None:
        """Acquire or renew; another's stands in the way until it expires by this clock."""
        await self._enter("lease")
        lease, now = self.cluster.lease, self._clock.now_ms()
        if lease is None:
            lease = self.cluster.lease = SimLease(uid=self.cluster.new_uid(), holder=holder)
        elif lease.holder != holder:
            if lease.holder and now < lease.renewed_ms + lease.seconds * 1000:
                return None
            lease.holder, lease.transitions = holder, lease.transitions + 1
        lease.renewed_ms, lease.seconds = now, float(seconds)
        self.cluster.write_meta("lease")
        return await self._leave("lease", LeaseState(lease.uid, lease.transitions))

    async def drop_lease(self, holder: str) -> None:
        """Let another take it at once."""
        await self._enter("lease")
        lease = self.cluster.lease
        if lease is not None and lease.holder == holder:
            lease.holder = ""
            self.cluster.write_meta("lease")
        await self._leave("lease", None)

    async def close(self) -> None:
        """Ends the watches."""
        self._closed = True
        for watch in self._watches:
            watch.ready.set()

    # --- around each call ----------------------------------------------------------------------------------------

    async def _enter(self, verb: str) -> None:
        if self.faults.before is not None:
            await self.faults.before(verb)
        self.cluster.step(self._clock.now_ms())
        if self._commit is not None:
            self._commit()

    async def _leave(self, verb: str, answer: T) -> T:
        if self._commit is not None:
            self._commit()
        if self.faults.after is not None:
            await self.faults.after(verb)
        return answer


async def run_cluster(cluster: SimulatedCluster, clock: Clock, stop: asyncio.Event, seconds: float = 0.1) -> None:
    """Step *cluster* at its clock's pace until *stop*."""
    while not stop.is_set():
        cluster.step(clock.now_ms())
        await clock.sleep(seconds)
