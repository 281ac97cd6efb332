"""What a decision says of itself: a verdict for each cluster, one sentence, and the same counts when computed again."""

from collections import Counter

from msgspec import structs

from federation.domain.cluster import ClusterPhase
from federation.domain.events import Taint
from federation.domain.records import Decision, Verdict
from federation.domain.workload import Component, WorkloadPhase
from federation.planner.cycle import plan_workloads
from federation.planner.explain import merge, recompute
from federation.planner.plan import Outcome, Request
from federation.planner.pool import Pool
from tests.builders import NOW, make_cluster, make_node, make_placement, make_pool, make_request, make_workload


def decide(pool: Pool, *requests: Request, now_ms: int = NOW) -> tuple[Outcome, dict[str, Verdict]]:
    """The last outcome and its verdicts by cluster."""
    plan = plan_workloads(pool, requests, now_ms=now_ms, seed=1, cycle="c")
    outcome, spec = plan.outcomes[-1], requests[-1].workload.spec
    explanation = next(each for each in plan.explanations if each.id == outcome.explanation)
    placed = Counter({a.cluster: 0 for a in outcome.allotments})
    for allotment in outcome.allotments:
        placed[allotment.cluster] += allotment.replicas
    placed = +placed
    decision = Decision(
        id="d",
        workload="w",
        cycle="c",
        explanation=explanation.id,
        at_ms=NOW,
        version=1,
        total=spec.replicas,
        spec=spec,
        outcome=outcome.status,
        placed=placed,
        previous={},
        own=outcome.own,
    )
    verdicts = merge(decision, explanation)
    assert recompute(spec, verdicts) == placed
    return outcome, {verdict.cluster: verdict for verdict in verdicts}


def test_every_cluster_has_a_verdict_with_its_numbers():
    here = make_placement("east", replicas=2)
    pool = make_pool(
        make_cluster("east", cores=4, nodes=1, requested=2, observed_ms=NOW - 1500),
        make_cluster("north", cores=8, nodes=1),
        make_cluster("south", cores=1, nodes=1, requested=1),
        make_cluster("west", cordoned=True),
        placements=[here],
    )

    _, verdicts = decide(pool, make_request(make_workload(replicas=3), here))

    assert verdicts["east"] == Verdict("east", "chosen", "", 2, 2, 2, 100, 1.5)
    assert verdicts["north"] == Verdict("north", "chosen", "", 1, 8, 0, 0, 0.0)
    assert verdicts["south"].reason == "insufficient cpu: wants 1 on one node, largest free is 0"
    assert verdicts["west"] == Verdict("west", "refused", "cordoned: takes nothing new", 0, 16, 0, 0, 0.0)


def test_a_cluster_that_could_have_been_used_is_feasible_and_the_runner_up():
    pool = make_pool(make_cluster("east", cores=8), make_cluster("south", cores=3, nodes=2))

    outcome, verdicts = decide(pool, make_request(make_workload()))

    assert verdicts["south"].verdict == "feasible"
    assert outcome.summary == "1 of 1 replicas in 1 cluster: east 1; runner-up south (fits 6)"


def test_the_resource_that_binds_is_named_with_the_largest_that_is_free():
    pool = make_pool(make_cluster("east", nodes=[make_node("a", gpus=4), make_node("b", gpus=2)]))

    _, verdicts = decide(pool, make_request(make_workload(requests={"cpu": "1", "nvidia.com/gpu": "8"})))

    assert verdicts["east"].reason == "insufficient nvidia.com/gpu: wants 8 on one node, largest free is 4"


def test_what_is_free_behind_a_taint_is_said_to_be_there():
    tainted = make_node("b", gpus=8, taints=(Taint(key="gpu", effect="NoSchedule"),))
    pool = make_pool(make_cluster("east", nodes=[make_node("a"), tainted]))

    _, verdicts = decide(pool, make_request(make_workload(requests={"cpu": "1", "nvidia.com/gpu": "4"})))

    assert verdicts["east"].reason == (
        "insufficient nvidia.com/gpu: wants 4 on one node, largest free is 0; "
        "more is free, but taint gpu:NoSchedule is not tolerated"
    )


def test_a_resource_that_nobody_offers_is_named():
    outcome, verdicts = decide(make_pool(make_cluster("east")), make_request(make_workload(requests={"a.b/c": "1"})))

    assert verdicts["east"].reason == "insufficient a.b/c: no node offers it"
    assert outcome.summary == "0 of 1 placed: 1 cluster refused (insufficient a.b/c: 1)"


def test_enough_of_each_but_never_together_is_said():
    nodes = [make_node("a", cores=0.5, gpus=2), make_node("b", cores=4)]
    pool = make_pool(make_cluster("east", nodes=nodes))

    _, verdicts = decide(pool, make_request(make_workload(requests={"cpu": "4", "nvidia.com/gpu": "2"})))

    assert verdicts["east"].reason == "insufficient cpu and nvidia.com/gpu together on one node"


def test_a_selector_that_no_node_matches_is_named():
    _, verdicts = decide(make_pool(make_cluster("east")), make_request(make_workload(selector={"disk": "ssd"})))

    assert verdicts["east"].reason == "no node admits it: labels do not match disk=ssd"


def test_a_taint_that_every_node_bears_is_named():
    pool = make_pool(make_cluster("east", nodes=[make_node("a", taints=(Taint(key="infra"),))]))

    _, verdicts = decide(pool, make_request(make_workload()))

    assert verdicts["east"].reason == "no node admits it: taint infra:NoSchedule is not tolerated"


def test_a_debt_of_the_cluster_as_a_whole_is_named():
    pool = make_pool(make_cluster("east", nodes=[make_node("a", cores=4, requested=8), make_node("b", cores=4)]))

    _, verdicts = decide(pool, make_request(make_workload()))

    assert verdicts["east"].reason == "insufficient cpu: wants 1, the cluster as a whole has 0 left"


def test_what_earlier_decisions_took_shows_in_later_ones():
    pool = make_pool(make_cluster("east", cores=4, nodes=1), make_cluster("west", cores=3, nodes=1))
    first, second = (make_request(make_workload(name, replicas=4, strategy="aggregated")) for name in ("a", "b"))

    _, alone = decide(pool, first)
    outcome, verdicts = decide(pool, first, second)

    assert (alone["east"].fits, alone["west"].fits) == (4, 3)
    assert (verdicts["east"].fits, verdicts["east"].reason) == (0, "full: decisions of this cycle took the rest")
    assert outcome.status == "waiting"


def test_decisions_of_one_shape_share_an_explanation():
    pool = make_pool(make_cluster("east"), make_cluster("west"))
    requests = [make_request(make_workload(f"w{index}")) for index in range(5)]

    plan = plan_workloads(pool, requests, now_ms=NOW, seed=1, cycle="c")

    assert {outcome.explanation for outcome in plan.outcomes} == {"c.0"}
    assert len(plan.explanations) == 1


def test_groups_stand_in_the_verdicts_of_what_is_spread():
    pool = make_pool(make_cluster("east", region="eu, =;1"), make_cluster("west", region="us"))

    _, verdicts = decide(pool, make_request(make_workload(replicas=2, spread=[("region", 2, None)])))

    assert verdicts["east"].reason == "region=eu%2C%20%3D%3B1"
    assert verdicts["west"].reason == "region=us"


def test_the_place_that_is_left_says_why():
    here = make_placement("east", replicas=2)
    pool = make_pool(make_cluster("east", phase=ClusterPhase.LEFT), make_cluster("west"), placements=[here])

    _, verdicts = decide(pool, make_request(make_workload(replicas=2), here))

    assert verdicts["east"].reason == "left the federation; 2 replicas were there"


def test_a_rollout_that_waits_is_computed_again_as_such():
    here = make_placement("east", replicas=4)
    pool = make_pool(make_cluster("east", cores=4, nodes=1, requested=4), make_cluster("west"), placements=[here])

    outcome, verdicts = decide(pool, make_request(make_workload(replicas=4, revision="2", surge=1), here))

    assert outcome.summary == "4 of 4 stay as they are: east cannot take what is asked for"
    assert verdicts["east"].reason == "rollout waits: no room for 1 more pod"


def test_what_is_deleted_ends_everywhere():
    here = make_placement("east", replicas=2)
    pool = make_pool(make_cluster("east"), placements=[here])

    outcome, _ = decide(pool, make_request(make_workload(replicas=2, phase=WorkloadPhase.DELETING), here))

    assert [(a.cluster, a.replicas) for a in outcome.allotments] == [("east", 0)]


def test_the_smallest_change_that_would_have_helped_is_named():
    pool = make_pool(make_cluster("east", cores=4, nodes=1), make_cluster("west", cores=1, nodes=1, cordoned=True))

    outcome, _ = decide(pool, make_request(make_workload(replicas=9)))

    assert outcome.summary.endswith("most that fits: 4 in east; would fit with 4 replicas")


def test_a_changed_verdict_changes_the_counts():
    pool = make_pool(make_cluster("east", cores=8, nodes=1), make_cluster("west", cores=4, nodes=1))
    _, verdicts = decide(pool, make_request(make_workload(replicas=3)))

    altered = [structs.replace(verdict, fits=4) for verdict in verdicts.values()]

    assert recompute(make_workload(replicas=3).spec, altered) == {"east": 2, "west": 1}


def test_a_set_of_components_is_computed_again():
    parts = (Component(name="db", replicas=1, requests={"cpu": "3"}), Component(name="web", replicas=2))
    pool = make_pool(make_cluster("east", cores=2), make_cluster("north", cores=2, nodes=1), make_cluster("west"))

    outcome, verdicts = decide(pool, make_request(make_workload(components=parts)))

    assert outcome.summary == "3 of 3 replicas in 1 cluster: west 3"
    assert (verdicts["west"].wanted, verdicts["west"].verdict) == (3, "chosen")
    assert verdicts["east"].reason == "db: insufficient cpu: wants 3 on one node, largest free is 2"
