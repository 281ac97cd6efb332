"""The members that benchmarks look at: clusters of equal nodes with placements on them, and what their agents tell."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from federation.domain.cloudevents import encode
from federation.domain.cluster import Cluster, ClusterPhase, Node, Reception
from federation.domain.events import TYPE_NAMES, BoundPlacement, Envelope, Event, NodeObserved, ResyncStarted, Stamp
from federation.domain.folding import with_holds
from federation.domain.placement import Ask, AskKind, Placement
from federation.domain.projection import read_event
from federation.domain.resources import add
from federation.ports import Message, Store

GIB = 2**30
EPOCH = "0f8fad5b-d9cd-469f-a165-70867728950e"
PER_NODE = 10
REPLICAS = 150
GPUS = "nvidia.com/gpu"


def cluster_name(number: int) -> str:
    return f"c-{number:04}"


def node_name(number: int) -> str:
    return f"n-{number:05}"


@dataclass(slots=True)
class Agent:
    """One member as its agent tells of it: every event is a whole node, and each moves one replica.

    Every placement stands on as many nodes as there are in the cluster ÷ ten, and holds replicas that are not bound.
    """

    name: str
    nodes: int
    sequence: int = 0
    bound: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bound = [[1] * PER_NODE for _ in range(self.nodes)]

    @property
    def placements(self) -> int:
        return max(PER_NODE, self.nodes // PER_NODE)

    def placement(self, number: int) -> str:
        return f"01JD{self.name.upper().replace('-', ''):0>8}{number:0>14}"

    def on(self, node: int) -> list[int]:
        """The placements that stand on a node."""
        return [(node + step * self.placements // PER_NODE) % self.placements for step in range(PER_NODE)]

    def opening(self) -> Message:
        """The first event of an epoch."""
        return self.message(ResyncStarted(cluster=self.name, resync="first"), "resync")

    def move(self, node: int, which: int) -> Message:
        """One replica of one placement comes to a node, or goes."""
        counts = self.bound[node]
        counts[which] = 3 - counts[which]
        return self.observed(node)

    def observed(self, node: int) -> Message:
        return self.message(self.event(node), f"nodes/{node_name(node)}")

    def event(self, node: int) -> NodeObserved:
        counts, name = self.bound[node], node_name(node)
        pods = sum(counts)
        return NodeObserved(
            cluster=self.name,
            node=name,
            conditions={"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"},
            allocatable={"cpu": "63770m", "memory": "255Gi", "pods": "110", "ephemeral-storage": "900Gi", GPUS: "8"},
            requested={"cpu": f"{pods * 500 + 750}m", "memory": f"{pods + 2}Gi", "pods": str(pods + 9), GPUS: "2"},
            used={"cpu": f"{pods * 431 + node % 97}m", "memory": f"{pods * 900 + node % 89}Mi"},
            devices={GPUS: (1000, 1000, 1000, 1000, 1000, 1000, 250, 0)},
            labels=labels_of(name, node),
            placements=tuple(
                BoundPlacement(placement=self.placement(number), revision="3", bound=count)
                for number, count in zip(self.on(node), counts, strict=True)
            ),
        )

    def message(self, event: Event, subject: str) -> Message:
        self.sequence += 1
        kind = TYPE_NAMES[type(event)]
        envelope = Envelope(
            id=f"01JD{self.name}{self.sequence:016}",
            type=kind,
            source=f"/clusters/{self.name}/agent",
            subject=subject,
            time="2026-01-01T00:00:00Z",
            stamp=Stamp(EPOCH, 1, self.sequence),
        )
        return Message(topic="federation.events", key=self.name, envelope=envelope, value=encode(event))

    def placement_rows(self) -> Iterator[Placement]:
        """The placements on record, of which every pod that stands is bound and the rest is held."""
        ask = Ask(1, REPLICAS, AskKind.WANTED, 1, 0, "3", {"cpu": 500, "memory": GIB})
        bound = Counter(number for node in range(self.nodes) for number in self.on(node))
        for number in range(self.placements):
            held = max(0, REPLICAS - bound[number])
            yield Placement(
                id=self.placement(number),
                workload=f"w-{self.name}-{number}",
                team="shop",
                cluster=self.name,
                version=1,
                asks=(ask,),
                bound=bound[number],
                holds={node_name(node): 1 for node in range(held)},
                created_ms=1,
            )

    def node_rows(self) -> list[Node]:
        """The nodes on record, as they were told before this epoch."""
        return [read_event(self.event(node), Stamp(EPOCH, 1, 0), 0).content for node in range(self.nodes)]

    def cluster_row(self, nodes: Sequence[Node], placements: Sequence[Placement]) -> Cluster:
        known: dict[str, int] = {}
        used: dict[str, int] = {}
        for node in nodes:
            known, used = add(known, node.allocatable), add(used, node.requested)
        cluster = ready_cluster(self.name, nodes=len(nodes), known=known, used=used)
        for placement in placements:
            cluster = with_holds(cluster, None, placement)
        return cluster


async def record(store: Store, agents: Sequence[Agent]) -> None:
    """Put on record what the agents have told until now."""
    for agent in agents:
        nodes, placements = agent.node_rows(), list(agent.placement_rows())
        async with store.transaction() as transaction:
            await transaction.save_clusters([agent.cluster_row(nodes, placements)])
            await transaction.save_nodes("federation.events/0", 0, [(agent.name, node) for node in nodes])
            await transaction.save_placements([(placement, 1) for placement in placements])


def labels_of(name: str, node: int) -> dict[str, str]:
    """The labels that a node of a cloud provider bears."""
    return {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": "a2-highgpu-8g",
        "topology.kubernetes.io/region": "europe-west4",
        "topology.kubernetes.io/zone": f"europe-west4-{'abc'[node % 3]}",
        "cloud.google.com/gke-nodepool": "gpu-pool-1",
        "cloud.google.com/machine-family": "a2",
        "cloud.google.com/gke-accelerator": "nvidia-tesla-a100",
        "cloud.google.com/gke-boot-disk": "pd-balanced",
        "cloud.google.com/gke-container-runtime": "containerd",
        "cloud.google.com/gke-gpu-driver-version": "latest",
        "cloud.google.com/gke-max-pods-per-node": "110",
        "cloud.google.com/gke-os-distribution": "cos",
        "topology.gke.io/zone": f"europe-west4-{'abc'[node % 3]}",
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB",
    }


def updates(agents: list[Agent], count: int, seed: int) -> Iterator[Message]:
    """What changes, anywhere."""
    chance = random.Random(seed)
    for _ in range(count):
        agent = chance.choice(agents)
        yield agent.move(chance.randrange(agent.nodes), chance.randrange(PER_NODE))


def ready_cluster(name: str, *, nodes: int = 0, now_ms: int = 0, **fields: object) -> Cluster:
    """A cluster that has told all of itself."""
    sound = Reception(unsound="", finished=(1, 1, 1))
    base = Cluster(name=name, phase=ClusterPhase.READY, acts=True, reception=sound, observed_ms=now_ms, nodes=nodes)
    return replace(base, apis=("apps/v1/Deployment", "batch/v1/Job"), **fields)


def bare_node(number: int, *, cores: int = 64, used_cores: int = 0, name: str = "") -> Node:
    """A node as the planner sees it."""
    return Node(
        name=name or node_name(number),
        allocatable={"cpu": cores * 1000, "memory": cores * 4 * GIB, "pods": 110, GPUS: 8},
        requested={"cpu": used_cores * 1000, "memory": used_cores * 4 * GIB, "pods": used_cores},
        labels=labels_of(name or node_name(number), number),
        place=(1, 1, number + 1),
    )
