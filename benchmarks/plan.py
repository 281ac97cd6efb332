"""The pure planner alone, node-exact: each decision holds on named nodes and lessens what the next one sees."""

import statistics
from dataclasses import dataclass
from typing import Final

from benchmarks.pool import SHAPES, full_pool, request_of
from benchmarks.report import Line, cpu_seconds, rounded
from federation.planner.cycle import plan_workloads
from federation.planner.plan import PLACED


@dataclass(frozen=True, slots=True)
class Size:
    """*shrink* divides clusters, nodes and decisions alike."""

    shrink: int = 1
    rounds: int = 5


FULL: Final = Size()
TINY: Final = Size(shrink=50, rounds=1)


async def one(size: Size) -> Line:
    """plan.one"""
    return measure("plan.one", size, (100, 1_000), (5_000, 1))


async def hundred(size: Size) -> Line:
    """plan.hundred"""
    return measure("plan.hundred", size, (100, 1_000), (500, 100))


async def wide(size: Size) -> Line:
    """plan.wide"""
    return measure("plan.wide", size, (1_000, 1_000), (200, 100))


def measure(name: str, size: Size, scale: tuple[int, int], work: tuple[int, int]) -> Line:
    clusters, nodes = (max(2, number // size.shrink) for number in scale)
    decisions, replicas = max(5, work[0] // size.shrink), work[1]
    pool = full_pool(clusters, nodes)
    requests = [request_of(number, replicas) for number in range(decisions)]

    def plan() -> None:
        made = plan_workloads(pool, requests, now_ms=1, seed=1, cycle="cycle")
        assert all(outcome.status == PLACED for outcome in made.outcomes)

    plan()
    rates = [decisions / cpu_seconds(plan) for _ in range(size.rounds)]
    return Line(
        name=name,
        value=rounded(statistics.median(rates)),
        unit="decisions/s",
        conditions=(
            f"{clusters} clusters × {nodes} nodes, {replicas} replicas each by dynamic weight, {SHAPES} shapes, "
            f"{decisions} decisions a cycle, CPU time of one core, median of {size.rounds}"
        ),
    )
