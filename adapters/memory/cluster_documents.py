"""A simulated cluster as documents: what changed since it was last kept, and a cluster made from what was kept."""

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from adapters.memory.cluster import SimulatedCluster
from adapters.memory.cluster_state import (
    META,
    NODES,
    OBJECTS,
    PODS,
    REPLICA_SETS,
    PodShape,
    SimLease,
    SimNode,
    SimObject,
    SimPod,
    SimReplicaSet,
)
from federation.domain.records import Orders

Document = tuple[str, str, bytes | None]
"""(kind, key, content); no content: it is no more."""


class State(Struct, kw_only=True):
    """What there is once in a cluster, and changes with every write."""

    now_ms: int
    rv: int
    orders: Orders
    lease: SimLease | None
    namespaces: dict[str, str]


_TYPES: dict[str, type[Struct]] = {
    NODES: SimNode,
    PODS: SimPod,
    OBJECTS: SimObject,
    REPLICA_SETS: SimReplicaSet,
    META: State,
}


class Journal:
    """A watcher that remembers what was touched until it has been kept."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._noted: set[tuple[str, str]] = set()
        cluster.watchers.append(self)

    def note(self, kind: str, key: str) -> None:
        """Something was touched."""
        if kind != META:
            self._noted.add((kind, key))
        self._noted.add((META, ""))

    def note_all(self) -> None:
        """Everything there is was touched."""
        for kind, stored in _stored(self._cluster).items():
            for key in stored:
                self.note(kind, key)
        self.note(META, "")

    def pending(self) -> list[Document]:
        """What is to be kept."""
        stored = _stored(self._cluster)
        return [(kind, key, _encoded(stored[kind].get(key))) for kind, key in self._noted]

    def kept(self) -> None:
        """All that was pending is safe."""
        self._noted.clear()

    def __bool__(self) -> bool:
        return bool(self._noted)


def _stored(cluster: SimulatedCluster) -> dict[str, dict[str, Struct]]:
    state = State(
        now_ms=cluster.now_ms,
        rv=cluster.rv,
        orders=cluster.orders,
        lease=cluster.lease,
        namespaces=cluster.namespaces,
    )
    return {
        NODES: {**cluster.nodes},
        PODS: {**cluster.pods},
        OBJECTS: {**cluster.objects},
        REPLICA_SETS: {**cluster.replica_sets},
        META: {"": state},
    }


def _encoded(found: Struct | None) -> bytes | None:
    return None if found is None else msgspec.json.encode(found)


def restore(cluster: SimulatedCluster, documents: Iterable[tuple[str, bytes]]) -> None:
    """Fill a new, empty cluster from (kind, content); its parts look at everything again."""
    found = list(_decoded(documents))
    for each in found:
        if isinstance(each, State):
            cluster.now_ms, cluster.rv, cluster.orders = each.now_ms, each.rv, each.orders
            cluster.lease, cluster.namespaces = each.lease, each.namespaces
    cluster.rng.seed(f"{cluster.name}/{cluster.rv}")
    for each in found:
        if isinstance(each, SimNode):
            cluster.nodes[each.name] = each
        elif isinstance(each, SimObject):
            cluster.objects[each.uid], cluster.uids[each.key] = each, each.uid
    for made in sorted((each for each in found if isinstance(each, SimReplicaSet)), key=lambda each: each.created):
        cluster.adopt_set(made)
    shapes: dict[bytes, PodShape] = {}
    for pod in sorted((each for each in found if isinstance(each, SimPod)), key=lambda each: each.created):
        pod.shape = shapes.setdefault(msgspec.json.encode(pod.shape), pod.shape)
        cluster.adopt_pod(pod)
    cluster.resume()


def _decoded(documents: Iterable[tuple[str, bytes]]) -> Iterator[Struct]:
    decoders = {kind: msgspec.json.Decoder(type_) for kind, type_ in _TYPES.items()}
    for kind, content in documents:
        yield decoders[kind].decode(content)
