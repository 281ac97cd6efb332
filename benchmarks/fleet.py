"""Five million nodes on one machine: what the image takes, and what a decision costs when few nodes changed, or more."""

import gc
import statistics
from dataclasses import dataclass
from typing import Final

from benchmarks.memory import GIB, large_pool, resident
from benchmarks.pool import mixed_nodes, request_of
from benchmarks.report import Line, cpu_seconds, percentile, rounded
from benchmarks.world import bare_node, cluster_name
from federation.planner.cycle import plan_workloads
from federation.planner.pool import Pool

SHAPES: Final = 8
REPLICAS: Final = 4


@dataclass(frozen=True, slots=True)
class Size:
    clusters: int = 1_000
    nodes: int = 5_000
    decisions: int = 200


FULL: Final = Size()
TINY: Final = Size(clusters=5, nodes=20, decisions=5)


async def fleet(size: Size) -> Line:
    """fleet"""
    before = resident()
    pool = large_pool(size.clusters, mixed_nodes(size.nodes))
    gc.collect()
    gc.freeze()
    for number in range(SHAPES):
        decided(pool, number)
    few = [after_changes(pool, number, 20, size) for number in range(size.decisions)]
    many = [after_changes(pool, number, 2_000, size) for number in range(size.decisions // 5)]
    taken = (resident() - before) / GIB
    how = (
        f"{size.clusters} clusters × {size.nodes} nodes in {taken:.1f} GiB with {SHAPES} shapes in use, {REPLICAS} replicas; "
        f"each decision after 20 nodes changed, CPU time; median {1000 * statistics.median(few):.1f} ms, "
        f"after 2000 changed {1000 * statistics.median(many):.1f} ms"
    )
    return Line(name="fleet", value=rounded(1000 * percentile(few, 0.99)), unit="ms p99", conditions=how)


def after_changes(pool: Pool, number: int, changed: int, size: Size) -> float:
    """A decision once some nodes of one cluster have changed; telling the image of them is part of it."""
    name = cluster_name(number % size.clusters)
    member = pool.members[name]
    names = member.names[: min(changed, size.nodes)]
    nodes = [bare_node(one, used_cores=(number + one) % 48, name=named) for one, named in enumerate(names)]

    def work() -> None:
        pool.put_nodes(name, nodes)
        decided(pool, number)

    return cpu_seconds(work)


def decided(pool: Pool, number: int) -> None:
    plan_workloads(pool, [request_of(number % SHAPES, REPLICAS)], now_ms=1, seed=1, cycle="cycle")
