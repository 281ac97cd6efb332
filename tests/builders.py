"""Values for tests, with every part that a test does not speak of filled in soundly."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from federation.domain.cluster import PROVIDER, REGION, ZONE, Cluster, ClusterPhase, Node, Reception
from federation.domain.placement import Ask, AskKind, Placement, Seen
from federation.domain.resources import add
from federation.domain.workload import (
    Component,
    PlacementRules,
    SpreadConstraint,
    Strategy,
    Workload,
    WorkloadKind,
    WorkloadSpec,
)
from federation.planner.plan import Request
from federation.planner.pool import Pool

GIB = 2**30
NOW = 1_700_000_000_000
SOUND = Reception(unsound="")


class Site:
    """A cluster with its nodes; its sums are those of its nodes that are usable."""

    def __init__(self, cluster: Cluster, nodes: Sequence[Node]) -> None:
        known: dict[str, int] = {}
        used: dict[str, int] = {}
        for node in nodes:
            if node.usable and not node.gone:
                known, used = add(known, node.allocatable), add(used, node.requested)
        self.nodes = tuple(nodes)
        self.cluster = replace(cluster, known=known, used=used, nodes=len(nodes))

    @property
    def name(self) -> str:
        return self.cluster.name


def cpu(cores: float) -> dict[str, int]:
    """So many cores, in base units."""
    return {"cpu": int(cores * 1000)}


def make_node(name: str = "n-0", *, cores: float = 4, requested: float = 0, **fields: Any) -> Node:
    """A node of *cores*, 4 GiB each, with 110 pod slots; `gpus=`, `amounts=` add to it."""
    extra: dict[str, int] = dict(fields.pop("amounts", {}))
    gpus = fields.pop("gpus", 0)
    if gpus:
        extra["nvidia.com/gpu"] = gpus
    offered = {"cpu": int(cores * 1000), "memory": int(cores * 4 * GIB), "pods": 110, **extra}
    used = {"cpu": int(requested * 1000), "memory": int(requested * 4 * GIB)} if requested else {}
    labels = {"kubernetes.io/hostname": name, **fields.pop("labels", {})}
    defaults: dict[str, Any] = {"allocatable": offered, "requested": used, "labels": labels}
    return Node(name=name, **{**defaults, **fields})


def make_cluster(
    name: str = "east",
    *,
    cores: float = 8,
    nodes: int | Sequence[Node] = 2,
    requested: float = 0,
    **fields: Any,
) -> Site:
    """A sound, ready cluster of *nodes* equal nodes, *cores* each of which *requested* are used; or of given nodes.

    `region=`, `zone=`, `provider=` are short for the labels.
    """
    labels = dict(fields.pop("labels", {}))
    for short, label in (("region", REGION), ("zone", ZONE), ("provider", PROVIDER)):
        if short in fields:
            labels[label] = fields.pop(short)
    if isinstance(nodes, int):
        nodes = [make_node(f"{name}-{index:03}", cores=cores, requested=requested) for index in range(nodes)]
    defaults: dict[str, Any] = {
        "phase": ClusterPhase.READY,
        "acts": True,
        "apis": ("apps/v1/Deployment", "apps/v1/StatefulSet", "batch/v1/Job"),
        "reception": SOUND,
        "observed_ms": NOW,
        "labels": labels,
    }
    return Site(Cluster(name=name, **{**defaults, **fields}), nodes)


def make_rules(**fields: Any) -> PlacementRules:
    """Rules for placing; `spread=` takes (by, min, max) as well."""
    spread = tuple(
        item
        if isinstance(item, SpreadConstraint)
        else SpreadConstraint(by=item[0], min_groups=item[1], max_groups=item[2])
        for item in fields.pop("spread", ())
    )
    strategy = Strategy(fields.pop("strategy", "dynamic"))
    return PlacementRules(strategy=strategy, spread=spread, **fields)


def make_spec(name: str = "web", *, replicas: int = 1, cores: float = 1, **fields: Any) -> WorkloadSpec:
    """A Deployment of pods of *cores*; `requests=`, `selector=`, `tolerations=` shape them, `rules=` place them."""
    component = Component(
        replicas=replicas,
        requests=fields.pop("requests", {"cpu": f"{int(cores * 1000)}m"}),
        node_selector=fields.pop("selector", {}),
        tolerations=tuple(fields.pop("tolerations", ())),
    )
    rules = fields.pop("rules", None) or make_rules(
        **{
            key: fields.pop(key)
            for key in ("strategy", "spread", "partial", "clusters", "weights", "cluster_tolerations")
            if key in fields
        }
    )
    defaults: dict[str, Any] = {
        "components": (component,),
        "kind": WorkloadKind.DEPLOYMENT,
        "api": "apps/v1/Deployment",
        "manifest": {"kind": "Deployment"},
        "revision": "1",
    }
    return WorkloadSpec(name=name, rules=rules, **{**defaults, **fields})


def make_workload(name: str = "web", **fields: Any) -> Workload:
    """A workload on record; `phase=`, `version=`, `avoid=`, `id=` are its own, the rest is its spec's."""
    names = ("phase", "version", "avoid", "failures", "id", "decided")
    own = {key: fields.pop(key) for key in names if key in fields}
    return Workload(**{"id": f"w-{name}", "created_ms": NOW, **own}, spec=make_spec(name, **fields))


def make_placement(
    cluster: str = "east", *, workload: str = "web", replicas: int = 1, cores: float = 1, **fields: Any
) -> Placement:
    """A placement of *replicas* that all are bound, unless `bound=` says otherwise; `holds=` name what is not."""
    bound = fields.pop("bound", replicas)
    surge, revision = fields.pop("surge", 0), fields.pop("revision", "1")
    request = fields.pop("request", None) or cpu(cores)
    ask = Ask(1, replicas, AskKind.WANTED, 1, surge, revision, request)
    defaults: dict[str, Any] = {
        "id": f"p-{workload}-{cluster}",
        "workload": f"w-{workload}",
        "team": "default",
        "version": 1,
        "asks": (ask,),
        "bound": bound,
        "seen": Seen(version=1, observed=True, revision=revision, desired=replicas, live=bound, ready=bound),
    }
    return Placement(cluster=cluster, **{**defaults, **fields})


def make_request(workload: Workload, *placements: Placement) -> Request:
    """A workload to decide on."""
    return Request(workload=workload, placements=placements)


def make_pool(*sites: Site, placements: Sequence[Placement] = (), silent: Sequence[str] = ()) -> Pool:
    """An image of *sites*; what the placements hold is in the clusters' sums."""
    pool = Pool()
    for site in sites:
        pool.put_cluster(holding(site.cluster, placements), silent=site.name in silent)
        pool.put_nodes(site.name, site.nodes)
    pool.put_placements(placements)
    return pool


def holding(cluster: Cluster, placements: Sequence[Placement]) -> Cluster:
    """The row of *cluster* once it holds what *placements* do."""
    held: Mapping[str, int] = {}
    for placement in placements:
        if placement.cluster == cluster.name:
            held = add(held, placement.held_amounts())
    return replace(cluster, held=dict(held))
