"""One planning cycle: a window of workloads in turn, each lessening what the next one sees; nothing is changed for good."""

from collections.abc import Sequence
from typing import Final

from federation.planner.candidates import Part
from federation.planner.deciding import Planning
from federation.planner.estimate import estimates_of
from federation.planner.plan import Plan, Request
from federation.planner.pool import Pool

_END_OF_TIME: Final = 2**62


def plan_workloads(pool: Pool, requests: Sequence[Request], *, now_ms: int, seed: int, cycle: str) -> Plan:
    """What is to become of each workload. The pool is left as it was."""
    parts = [prepare(pool, request) for request in requests]
    pool.settle()
    planning = Planning(pool, now_ms, cycle)
    try:
        outcomes = tuple([planning.decide(request, each) for request, each in zip(requests, parts, strict=True)])
    finally:
        planning.claims.undo()
    raised = {name: pool.decisions_of(name) for name in sorted(planning.claims.raised)}
    return Plan(outcomes=outcomes, explanations=tuple(planning.explanations.made), raised=raised, seed=seed)


def could_fit(pool: Pool, request: Request) -> bool:
    """Whether it is worth while to plan a waiting workload again: more of it would be placed, or its rollout begin.

    Whether the time to avoid a cluster is over is not asked: the plan will see.
    """
    parts = prepare(pool, request)
    pool.settle()
    planning = Planning(pool, _END_OF_TIME, "")
    try:
        return planning.would_change(request, parts)
    finally:
        planning.claims.undo()


def prepare(pool: Pool, request: Request) -> tuple[Part, ...]:
    """The request's components; every column that deciding on it may need is there from then on."""
    spec, estimates = request.workload.spec, estimates_of(pool)
    parts = tuple([Part(each.name, each.replicas, estimates.shape(each)) for each in spec.components])
    for placement in request.placements:
        for name in placement.request:
            pool.row(name)
    return parts
