"""One decision on all nodes, beside numpy's floor division over the same columns: what no exact planner can avoid."""

import gc
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.pool import full_pool, request_of
from benchmarks.report import Line, cpu_seconds, percentile, rounded
from benchmarks.world import bare_node, cluster_name
from federation.planner.cycle import plan_workloads
from federation.planner.pool import Pool

REPLICAS: Final = 4
CHANGED: Final = 20


@dataclass(frozen=True, slots=True)
class Size:
    clusters: int = 100
    nodes: int = 5_000
    decisions: int = 300


FULL: Final = Size()
TINY: Final = Size(clusters=3, nodes=20, decisions=10)


async def decide(size: Size) -> Line:
    """decide"""
    pool = full_pool(size.clusters, size.nodes)
    ours, theirs = [], []
    for number in range(60):
        decided(pool, number)
    gc.collect()
    for number in range(size.decisions):
        divisor = (250 + number, 512 * 2**20, 1, 1)
        change(pool, number, size)
        theirs.append(cpu_seconds(lambda: divided(pool, divisor)))  # noqa: B023
        ours.append(cpu_seconds(lambda: decided(pool, number)))  # noqa: B023
    mine, other = percentile(ours, 0.99) * 1000, percentile(theirs, 0.99) * 1000
    return Line(
        name="decide",
        value=rounded(mine),
        unit="ms p99",
        yardstick=rounded(other),
        ratio=rounded(mine / other),
        conditions=(
            f"{size.clusters} clusters × {size.nodes} nodes, {REPLICAS} replicas, {size.decisions} decisions of 50 shapes, "
            f"each a plan of its own after {CHANGED} nodes changed, CPU time; yardstick: numpy floor division over the four columns and their least"
        ),
    )


def change(pool: Pool, number: int, size: Size) -> None:
    """What is used on some nodes of one cluster changes."""
    rows = [bare_node((number * CHANGED + one) % size.nodes, used_cores=(number + one) % 48) for one in range(CHANGED)]
    pool.put_nodes(cluster_name(number % size.clusters), rows)


def decided(pool: Pool, number: int) -> None:
    plan_workloads(pool, [request_of(number, REPLICAS)], now_ms=1, seed=1, cycle="cycle")


def divided(pool: Pool, divisor: tuple[int, ...]) -> int:
    table = pool.table
    rows = [table.rows[name] for name in ("cpu", "memory", "pods", "nvidia.com/gpu")]
    least = table.free[rows[0], : table.end] // divisor[0]
    for row, amount in zip(rows[1:], divisor[1:], strict=True):
        np.minimum(least, table.free[row, : table.end] // amount, out=least)
    return int(least.sum())
