"""A planning cycle: where replicas go, what stays, what waits and why."""

from collections.abc import Sequence

from federation.planner.cycle import plan_workloads
from federation.planner.plan import Outcome, Plan, Request
from federation.planner.pool import Pool
from tests.builders import (
    NOW,
    make_cluster,
    make_node,
    make_placement,
    make_pool,
    make_request,
    make_workload,
)


def plan(pool: Pool, *requests: Request) -> Plan:
    return plan_workloads(pool, requests, now_ms=NOW, seed=1, cycle="c-1")


def decide(pool: Pool, request: Request) -> Outcome:
    return plan(pool, request).outcomes[0]


def replicas_of(outcome: Outcome) -> dict[str, int]:
    return {allotment.cluster: allotment.replicas for allotment in outcome.allotments}


def holds_of(outcome: Outcome) -> dict[str, dict[str, int]]:
    return {allotment.cluster: allotment.holds for allotment in outcome.allotments}


def claimed(outcomes: Sequence[Outcome], cluster: str) -> int:
    return sum(sum(a.holds.values()) for outcome in outcomes for a in outcome.allotments if a.cluster == cluster)


def test_replicas_are_divided_by_what_fits():
    pool = make_pool(
        make_cluster("east", cores=6, nodes=1),
        make_cluster("north", cores=8, nodes=1),
        make_cluster("west", cores=10, nodes=1),
    )

    outcome = decide(pool, make_request(make_workload(replicas=12)))

    assert outcome.status == "placed"
    assert replicas_of(outcome) == {"east": 3, "north": 4, "west": 5}
    assert outcome.summary == "12 of 12 replicas in 3 clusters: west 5, north 4, east 3"


def test_holds_name_the_nodes_that_are_left_fullest():
    nodes = [make_node("a", cores=8), make_node("b", cores=3), make_node("c", cores=2)]
    pool = make_pool(make_cluster("east", nodes=nodes))

    outcome = decide(pool, make_request(make_workload(replicas=4)))

    assert holds_of(outcome) == {"east": {"b": 2, "c": 2}}


def test_what_one_decision_takes_the_next_one_does_not_see():
    pool = make_pool(make_cluster("east", cores=4, nodes=1))
    requests = [make_request(make_workload(f"w{index}", replicas=3)) for index in range(2)]

    first, second = plan(pool, *requests).outcomes

    assert (first.status, second.status) == ("placed", "waiting")
    assert second.reasons[0] == "wants 3, fits 1"


def test_a_scale_up_keeps_what_is_there_and_adds_by_room():
    here = make_placement("east", replicas=4)
    pool = make_pool(
        make_cluster("east", cores=4, nodes=1, requested=4), make_cluster("west", cores=8, nodes=1), placements=[here]
    )

    outcome = decide(pool, make_request(make_workload(replicas=6), here))

    assert replicas_of(outcome) == {"east": 4, "west": 2}
    assert holds_of(outcome)["east"] == {}


def test_a_scale_down_shrinks_in_proportion_and_claims_nothing():
    east, west = make_placement("east", replicas=4), make_placement("west", replicas=8)
    pool = make_pool(make_cluster("east"), make_cluster("west"), placements=[east, west])

    outcome = decide(pool, make_request(make_workload(replicas=6), east, west))

    assert replicas_of(outcome) == {"east": 2, "west": 4}
    assert claimed([outcome], "east") == claimed([outcome], "west") == 0


def test_to_scale_to_zero_ends_the_placement():
    here = make_placement("east", replicas=4)
    pool = make_pool(make_cluster("east"), placements=[here])

    outcome = decide(pool, make_request(make_workload(replicas=0), here))

    assert (outcome.status, replicas_of(outcome)) == ("placed", {"east": 0})
