"""Pools, workloads and requests for the benchmarks of the planner: many shapes, nodes filled unevenly."""

from collections.abc import Sequence

from benchmarks.world import bare_node, cluster_name, ready_cluster
from federation.domain.cluster import Cluster, Node
from federation.domain.resources import add
from federation.domain.workload import Component, PlacementRules, Workload, WorkloadKind, WorkloadSpec
from federation.planner.plan import Request
from federation.planner.pool import Pool

SHAPES = 50
MANIFEST = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"labels": {"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop"}},
    "spec": {
        "selector": {"matchLabels": {"app.kubernetes.io/name": "web"}},
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "example.org/shop/web:1.4.2",
                        "ports": [{"containerPort": 8080, "name": "http"}],
                        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 5},
                        "env": [
                            {"name": "DATABASE_HOST", "value": "db.shop.svc"},
                            {"name": "LOG_LEVEL", "value": "info"},
                        ],
                    }
                ]
            },
        },
    },
}


def mixed_nodes(count: int) -> list[Node]:
    """Nodes of 64 cores of which between none and 47 are used."""
    return [bare_node(number, used_cores=number * 7 % 48) for number in range(count)]


def cluster_of(name: str, nodes: Sequence[Node], now_ms: int = 0) -> Cluster:
    """The row of a cluster with these nodes."""
    known: dict[str, int] = {}
    used: dict[str, int] = {}
    for node in nodes:
        known, used = add(known, node.allocatable), add(used, node.requested)
    return ready_cluster(name, nodes=len(nodes), now_ms=now_ms, known=known, used=used)


def full_pool(clusters: int, nodes: int) -> Pool:
    """*clusters* with *nodes* each, settled."""
    pool, rows = Pool(), mixed_nodes(nodes)
    for number in range(clusters):
        name = cluster_name(number)
        pool.put_cluster(cluster_of(name, rows), silent=False)
        pool.put_nodes(name, rows)
    pool.settle()
    return pool


def spec_of(number: int, replicas: int) -> WorkloadSpec:
    """A Deployment of one of 50 shapes."""
    shape = number % SHAPES
    requests = {"cpu": f"{250 + 125 * (shape % 10)}m", "memory": f"{512 + 256 * (shape // 10)}Mi"}
    return WorkloadSpec(
        name=f"web-{number}",
        team="shop",
        components=(Component(replicas=replicas, requests=requests),),
        rules=PlacementRules(),
        kind=WorkloadKind.DEPLOYMENT,
        api="apps/v1/Deployment",
        manifest=MANIFEST,
        revision="1",
    )


def request_of(number: int, replicas: int) -> Request:
    return Request(workload=Workload(id=f"w-{number:08}", spec=spec_of(number, replicas)))
