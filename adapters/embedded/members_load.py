"""What goes on in a simulated member besides our placements: other people's pods, and nodes that fail.

Nothing is remembered here: what to do next follows from the cluster as it is, the time of day and a seed.
"""

import math
import random
from typing import Final

from msgspec import Struct

from adapters.memory.cluster import SimulatedCluster
from adapters.memory.cluster_state import PodShape, SimPod, Tolerance

GIB: Final = 2**30
GPU: Final = "nvidia.com/gpu"
NAMESPACE: Final = "others"
_OVERSIZED: Final = "oversized-"
_DAY_MS: Final = 3_600_000
_SHAPES: Final = (
    PodShape(requests={"cpu": 250, "memory": GIB // 2}),
    PodShape(requests={"cpu": 500, "memory": GIB}),
    PodShape(requests={"cpu": 1000, "memory": 4 * GIB}),
    PodShape(requests={"cpu": 2000, "memory": 4 * GIB}),
    PodShape(requests={"cpu": 4000, "memory": 16 * GIB}),
)
_TRAINING: Final = PodShape(
    requests={"cpu": 4000, "memory": 16 * GIB, GPU: 1}, tolerations=(Tolerance(key="gpu", operator="Exists"),)
)
_TOO_BIG: Final = PodShape(requests={"cpu": 200_000, "memory": 800 * GIB})


class Weather(Struct, frozen=True, kw_only=True):
    """How lively it is. *load* is the middle share of cpu that others take; the chances are per tick (2 s)."""

    load: float = 0.45
    swing: float = 0.2
    churn: float = 0.3
    oversized: float = 0.01
    relief: float = 0.03
    failure: float = 0.001
    recovery: float = 0.02


CALM: Final = Weather(load=0, swing=0, churn=0, oversized=0, relief=0, failure=0)


class Background:
    """One member's other life."""

    def __init__(self, cluster: SimulatedCluster, weather: Weather, seed: int) -> None:
        self._cluster = cluster
        self._weather = weather
        self._rng = random.Random(f"{cluster.name}/{seed}/{cluster.rv}")
        phases = random.Random(f"{cluster.name}/{seed}/phases")
        self._phases = [phases.uniform(0, math.tau) for _ in range(3)]
        cluster.namespaces.setdefault(NAMESPACE, "")

    def target(self, now_ms: int) -> float:
        """The share of cpu that others want now: an hour stands for a day, with slower and faster waves on it."""
        turn = math.tau * now_ms / _DAY_MS
        waves = (1.0, 0.4, 2.3), (0.6, 0.25, 0.15)
        swing = sum(
            size * math.sin(speed * turn + phase) for speed, size, phase in zip(*waves, self._phases, strict=True)
        )
        return max(0.0, self._weather.load + self._weather.swing * swing)

    def fill(self, now_ms: int) -> None:
        """Bring a new member to its load at once."""
        self._toward(self.target(now_ms), most=100_000)

    def tick(self, now_ms: int) -> None:
        """A small step of everything."""
        self._toward(self.target(now_ms), most=3)
        self._churn()
        self._oversized()
        self._nodes()

    def _toward(self, share: float, most: int) -> None:
        capacity = sum(node.amounts.get("cpu", 0) for node in self._cluster.nodes.values())
        pods = self._pods()
        used = sum(pod.shape.requests["cpu"] for pod in pods)
        for _ in range(most):
            if used < share * capacity - 4000:
                used += self._add().shape.requests["cpu"]
            elif used > share * capacity + 4000 and pods:
                gone = pods.pop(self._rng.randrange(len(pods)))
                used -= gone.shape.requests["cpu"]
                self._cluster.delete_pod(gone)
            else:
                return

    def _pods(self) -> list[SimPod]:
        everyone = self._cluster.pods_of.get("", {}).values()
        return [pod for pod in everyone if pod.namespace == NAMESPACE and pod.live and not _is_oversized(pod)]

    def _add(self) -> SimPod:
        has_gpus = any(GPU in node.amounts for node in self._cluster.nodes.values())
        training = has_gpus and self._rng.random() < 0.05
        return self._cluster.add_foreign_pod(_TRAINING if training else self._rng.choice(_SHAPES), NAMESPACE)

    def _churn(self) -> None:
        pods = self._pods()
        if pods and self._rng.random() < self._weather.churn:
            self._cluster.delete_pod(self._rng.choice(pods))
            self._add()

    def _oversized(self) -> None:
        """Now and then someone asks for what no node has."""
        standing = [pod for pod in self._cluster.pods_of.get("", {}).values() if _is_oversized(pod)]
        if standing and self._rng.random() < self._weather.relief:
            self._cluster.delete_pod(standing[0])
        elif not standing and self._rng.random() < self._weather.oversized:
            self._cluster.add_foreign_pod(_TOO_BIG, NAMESPACE, f"{_OVERSIZED}{self._cluster.rv}")

    def _nodes(self) -> None:
        """At most one node is lost at a time."""
        lost = [node.name for node in self._cluster.nodes.values() if node.lost_ms]
        if lost and self._rng.random() < self._weather.recovery:
            self._cluster.recover_node(lost[0])
        elif not lost and self._rng.random() < self._weather.failure:
            self._cluster.fail_node(self._rng.choice(list(self._cluster.nodes)))


def _is_oversized(pod: SimPod) -> bool:
    return pod.name.startswith(_OVERSIZED)
