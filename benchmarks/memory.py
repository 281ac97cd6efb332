"""What the scheduler's image of half a million nodes takes: resident memory with it, less before it."""

import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from benchmarks.pool import cluster_of, mixed_nodes
from benchmarks.report import Line, rounded
from benchmarks.world import cluster_name
from federation.domain.cluster import Node
from federation.planner.pool import Pool

GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Size:
    clusters: int = 100
    nodes: int = 5_000


FULL: Final = Size()
TINY: Final = Size(clusters=3, nodes=20)


async def memory(size: Size) -> Line:
    """memory"""
    rows = mixed_nodes(size.nodes)
    before = resident()
    pool = large_pool(size.clusters, rows)
    gc.collect()
    taken = resident() - before
    known = sum(len(member.names) for member in pool.members.values())
    how = f"{known} nodes in {size.clusters} clusters, ten placements bound on each, names of their own; growth of RSS"
    return Line(name="memory", value=rounded(taken / GIB), unit="GiB", conditions=how)


def large_pool(clusters: int, rows: list[Node]) -> Pool:
    """Clusters of nodes like *rows*, each with names and placements of its own."""
    pool = Pool()
    for number in range(clusters):
        name = cluster_name(number)
        pool.put_cluster(cluster_of(name, rows), silent=False)
        pool.put_nodes(name, list(renamed(name, rows)))
    pool.settle()
    return pool


def renamed(cluster: str, rows: list[Node]) -> Iterator[Node]:
    placements = [f"01JD{cluster.upper()}{number:016}" for number in range(len(rows) // 10 + 10)]
    for number, row in enumerate(rows):
        bound = {placements[(number + step) % len(placements)]: {"3": 1} for step in range(10)}
        yield replace(row, name=f"{cluster}-{row.name}", bound=bound)


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
