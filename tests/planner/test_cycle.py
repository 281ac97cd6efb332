"""A planning cycle: where replicas go, what stays, what waits and why."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from federation.domain.cluster import REGION, ClusterPhase
from federation.domain.placement import Ask, AskKind, Placement
from federation.domain.records import Decision
from federation.domain.resources import parse_needed
from federation.domain.workload import ClusterSelection, Component, Weight, Workload
from federation.planner.cycle import could_fit, plan_workloads
from federation.planner.explain import merge, recompute
from federation.planner.plan import Outcome, Plan, Request
from federation.planner.pool import Pool
from tests.builders import (
    NOW,
    cpu,
    holding,
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


def test_a_cordoned_cluster_keeps_what_runs_and_takes_nothing_new():
    here = make_placement("east", replicas=2)
    pool = make_pool(make_cluster("east", cordoned=True), make_cluster("west"), placements=[here])

    outcome = decide(pool, make_request(make_workload(replicas=5), here))

    assert replicas_of(outcome) == {"east": 2, "west": 3}


def test_nothing_is_moved_on_silence_alone():
    here = make_placement("east", replicas=2)
    pool = make_pool(make_cluster("east"), make_cluster("west"), placements=[here], silent=["east"])

    outcome = decide(pool, make_request(make_workload(replicas=2), here))

    assert replicas_of(outcome) == {"east": 2}


def test_what_ran_in_a_cluster_that_left_is_placed_elsewhere():
    here = make_placement("east", replicas=2)
    pool = make_pool(make_cluster("east", phase=ClusterPhase.LEFT), make_cluster("west"), placements=[here])

    outcome = decide(pool, make_request(make_workload(replicas=2), here))

    assert replicas_of(outcome) == {"east": 0, "west": 2}


def test_what_runs_where_it_is_no_longer_selected_moves():
    here = make_placement("east", replicas=2)
    pool = make_pool(make_cluster("east"), make_cluster("west"), placements=[here])
    workload = make_workload(replicas=2, clusters=ClusterSelection(names=("west",)))

    outcome = decide(pool, make_request(workload, here))

    assert replicas_of(outcome) == {"east": 0, "west": 2}


def test_it_stays_where_it_is_no_longer_selected_while_nothing_else_fits():
    here = make_placement("east", replicas=9)
    pool = make_pool(make_cluster("east"), make_cluster("west", nodes=1), placements=[here])
    workload = make_workload(replicas=9, clusters=ClusterSelection(names=("west",)))

    outcome = decide(pool, make_request(workload, here))

    assert (outcome.status, replicas_of(outcome)) == ("waiting", {"east": 9})


def test_a_workload_avoids_for_a_while_the_cluster_that_failed_it():
    pool = make_pool(make_cluster("east", cores=8), make_cluster("west", cores=4))

    avoiding = decide(pool, make_request(make_workload(avoid={"east": NOW + 1})))
    later = decide(pool, make_request(make_workload(avoid={"east": NOW})))

    assert (replicas_of(avoiding), replicas_of(later)) == ({"west": 1}, {"east": 1})


def test_what_does_not_fit_waits_if_the_caller_wants_all_or_none():
    pool = make_pool(make_cluster("east", cores=4, nodes=1), make_cluster("west", cordoned=True))

    outcome = decide(pool, make_request(make_workload(replicas=6)))

    assert (outcome.status, outcome.allotments) == ("waiting", ())
    assert (
        outcome.summary
        == "0 of 6 placed: 1 cluster refused (cordoned: 1); most that fits: 4 in east; would fit if west were not cordoned"
    )


def test_what_fits_is_placed_if_the_caller_takes_less():
    pool = make_pool(make_cluster("east", cores=4, nodes=1))

    outcome = decide(pool, make_request(make_workload(replicas=6, partial="allow")))

    assert (outcome.status, replicas_of(outcome)) == ("partial", {"east": 4})
    assert outcome.reasons == ("wants 6, fits 4; 2 wait",)


def test_less_than_the_caller_has_a_use_for_is_not_placed():
    pool = make_pool(make_cluster("east", cores=4, nodes=1))

    outcomes = [decide(pool, make_request(make_workload(replicas=6, partial=f"min {least}"))) for least in (4, 5)]

    assert [outcome.status for outcome in outcomes] == ["partial", "waiting"]


def test_a_copy_goes_to_every_cluster():
    pool = make_pool(make_cluster("east"), make_cluster("west"))

    outcome = decide(pool, make_request(make_workload(replicas=3, strategy="duplicated")))

    assert replicas_of(outcome) == {"east": 3, "west": 3}


def test_copies_that_do_not_fit_everywhere_say_where():
    pool = make_pool(make_cluster("east", cores=5, nodes=1), make_cluster("west", cores=40, nodes=1))

    outcome = decide(pool, make_request(make_workload(replicas=30, strategy="duplicated")))

    assert (outcome.status, outcome.reasons[0]) == ("waiting", "east wants 30, fits 5")


def test_static_shares_follow_the_largest_matching_weight():
    pool = make_pool(make_cluster("east", region="eu"), make_cluster("north"), make_cluster("west"))
    weights = (
        Weight(clusters=ClusterSelection(names=("east", "north")), weight=2),
        Weight(clusters=ClusterSelection(labels={REGION: "eu"}), weight=3),
        Weight(weight=1),
    )

    outcome = decide(pool, make_request(make_workload(replicas=13, strategy="static", weights=weights)))

    assert replicas_of(outcome) == {"east": 7, "north": 4, "west": 2}


def test_a_static_share_that_does_not_fit_is_an_answer():
    pool = make_pool(make_cluster("east", cores=2, nodes=1), make_cluster("west"))

    outcome = decide(pool, make_request(make_workload(replicas=8, strategy="static")))

    assert (outcome.status, outcome.reasons[0]) == ("waiting", "east wants 4, fits 2")


def test_aggregated_replicas_take_the_fewest_clusters():
    pool = make_pool(
        make_cluster("east", cores=6, nodes=1),
        make_cluster("north", cores=8, nodes=1),
        make_cluster("west", cores=10, nodes=1),
    )

    outcome = decide(pool, make_request(make_workload(replicas=12, strategy="aggregated")))

    assert replicas_of(outcome) == {"north": 5, "west": 7}


def test_what_must_stay_together_goes_to_the_roomiest_cluster():
    pool = make_pool(make_cluster("east", cores=4, nodes=1), make_cluster("west", cores=6, nodes=1))

    outcome = decide(pool, make_request(make_workload(replicas=4, single=True)))

    assert replicas_of(outcome) == {"west": 4}


def test_what_must_stay_together_is_not_moved_to_grow():
    here = make_placement("east", replicas=4)
    pool = make_pool(
        make_cluster("east", cores=4, nodes=1, requested=4), make_cluster("west", cores=9, nodes=1), placements=[here]
    )

    outcome = decide(pool, make_request(make_workload(replicas=5, single=True), here))

    assert (outcome.status, replicas_of(outcome)) == ("waiting", {"east": 4})


def test_replicas_are_spread_over_as_many_regions_as_asked():
    big, small = make_cluster("east", region="eu", cores=32), make_cluster("west", region="us", cores=1, nodes=1)
    pool = make_pool(big, small)

    outcome = decide(pool, make_request(make_workload(replicas=8, spread=[("region", 2, None)])))

    assert replicas_of(outcome) == {"east": 7, "west": 1}


def test_at_most_so_many_regions_are_used():
    pool = make_pool(make_cluster("a", region="eu"), make_cluster("b", region="eu"), make_cluster("c", region="us"))

    outcome = decide(pool, make_request(make_workload(replicas=8, spread=[("region", 1, 1)])))

    assert replicas_of(outcome) == {"a": 4, "b": 4}


def test_a_replica_claimed_once_is_not_claimed_again():
    held = make_placement("east", replicas=4, bound=1, holds={"east-000": 3})
    pool = make_pool(make_cluster("east", cores=8, nodes=1, requested=1), placements=[held])

    outcome = decide(pool, make_request(make_workload(replicas=6), held))

    assert holds_of(outcome) == {"east": {"east-000": 2}}


def test_the_plan_names_the_clusters_that_take_more_and_what_it_was_based_on():
    here = make_placement("west", replicas=2)
    pool = make_pool(make_cluster("east", decisions=7), make_cluster("west", cordoned=True), placements=[here])

    result = plan(pool, make_request(make_workload(replicas=3), here))

    assert (result.raised, result.seed) == ({"east": 7}, 1)


# --- rollouts --------------------------------------------------------------------------------------------------------


def test_a_new_revision_adds_as_many_pods_as_it_may():
    here = make_placement("east", replicas=4)
    pool = make_pool(make_cluster("east", cores=8, nodes=1, requested=4), placements=[here])

    outcome = decide(pool, make_request(make_workload(replicas=4, revision="2", surge=2), here))

    assert [(a.replicas, a.surge, a.holds) for a in outcome.allotments] == [(4, 2, {"east-000": 2})]


def test_a_new_revision_adds_fewer_pods_where_fewer_fit():
    here = make_placement("east", replicas=4)
    pool = make_pool(make_cluster("east", cores=5, nodes=1, requested=4), placements=[here])

    outcome = decide(pool, make_request(make_workload(replicas=4, revision="2", surge=2), here))

    assert [(a.replicas, a.surge) for a in outcome.allotments] == [(4, 1)]


def test_each_cluster_has_its_part_of_the_surge():
    east, west = make_placement("east", replicas=6), make_placement("west", replicas=2)
    pool = make_pool(make_cluster("east", requested=3), make_cluster("west", requested=1), placements=[east, west])

    outcome = decide(pool, make_request(make_workload(replicas=8, revision="2", surge=2), east, west))

    assert [(a.cluster, a.surge) for a in outcome.allotments] == [("east", 2), ("west", 1)]


def test_a_new_revision_that_must_add_a_pod_waits_for_room():
    here = make_placement("east", replicas=4)
    pool = make_pool(make_cluster("east", cores=4, nodes=1, requested=4), placements=[here])

    outcome = decide(pool, make_request(make_workload(replicas=4, revision="2", surge=2), here))

    assert (outcome.status, replicas_of(outcome)) == ("waiting", {"east": 4})
    assert outcome.reasons == ("east: rollout waits: no room for 1 more pod",)


def test_a_larger_request_is_rolled_out_where_the_nodes_bear_it():
    node = make_node("a", cores=10, requested=4, bound={"p-web-east": {"1": 4}})
    here = make_placement("east", replicas=4)
    pool = make_pool(make_cluster("east", nodes=[node]), placements=[here])

    outcome = decide(pool, make_request(make_workload(replicas=4, cores=2, revision="2", surge=1), here))

    assert [(a.replicas, a.surge, a.holds) for a in outcome.allotments] == [(4, 1, {"a": 1})]


def test_a_larger_request_that_does_not_fit_in_place_goes_elsewhere():
    node = make_node("a", cores=6, requested=4, bound={"p-web-east": {"1": 4}})
    here = make_placement("east", replicas=4)
    pool = make_pool(make_cluster("east", nodes=[node]), make_cluster("west", cores=8, nodes=1), placements=[here])

    outcome = decide(pool, make_request(make_workload(replicas=4, cores=2, revision="2", surge=1), here))

    assert replicas_of(outcome) == {"east": 0, "west": 4}


def test_a_larger_request_that_fits_nowhere_waits_and_says_so():
    node = make_node("a", cores=6, requested=4, bound={"p-web-east": {"1": 4}})
    here = make_placement("east", replicas=4)
    pool = make_pool(make_cluster("east", nodes=[node]), placements=[here])

    outcome = decide(pool, make_request(make_workload(replicas=4, cores=2, revision="2", surge=1), here))

    assert (outcome.status, replicas_of(outcome)) == ("waiting", {"east": 4})


def test_a_larger_request_waits_where_the_cluster_as_a_whole_owes():
    nodes = [
        make_node("a", cores=10, requested=4, bound={"p-web-east": {"1": 4}}),
        make_node("b", cores=4, requested=6),
    ]
    here = make_placement("east", replicas=4)
    pool = make_pool(make_cluster("east", nodes=nodes), placements=[here])

    outcome = decide(pool, make_request(make_workload(replicas=4, cores=2, revision="2", surge=1), here))

    assert (outcome.status, replicas_of(outcome)) == ("waiting", {"east": 4})


def test_a_larger_request_waits_where_no_node_bears_it():
    nodes = [make_node(name, cores=2.5, requested=1, bound={"p-web-east": {"1": 1}}) for name in "abcd"]
    here = make_placement("east", replicas=4)
    pool = make_pool(make_cluster("east", nodes=nodes), placements=[here])

    in_place = decide(pool, make_request(make_workload(replicas=4, cores=2, revision="2", surge=0), here))
    surging = decide(pool, make_request(make_workload(replicas=4, cores=2, revision="2", surge=1), here))

    assert (in_place.status, surging.status) == ("placed", "waiting")


def test_the_growth_of_a_rollout_is_not_given_to_the_next():
    node = make_node("a", cores=10, requested=4, bound={"p-web-east": {"1": 4}})
    here = make_placement("east", replicas=4)
    pool = make_pool(make_cluster("east", nodes=[node]), placements=[here])
    rolling = make_request(make_workload(replicas=4, cores=2, revision="2", surge=1), here)

    first, second = plan(pool, rolling, make_request(make_workload("api"))).outcomes

    assert (first.status, second.status) == ("placed", "waiting")


def test_a_rollout_under_way_is_left_alone():
    here = make_placement("east", replicas=4, surge=1, bound=4, holds={"east-000": 1})
    pool = make_pool(make_cluster("east", cores=5, nodes=1, requested=4), placements=[here])

    outcome = decide(pool, make_request(make_workload(replicas=4, surge=1), here))

    assert [(a.replicas, a.surge, a.holds) for a in outcome.allotments] == [(4, 1, {})]


# --- waking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partial", "free", "worth"),
    [("never", 4, False), ("never", 5, True), ("allow", 1, True), ("allow", 0, False), ("min 3", 2, False)],
)
def test_a_waiting_workload_is_woken_only_if_more_of_it_would_be_placed(partial, free, worth):
    pool = make_pool(make_cluster("east", cores=8, nodes=1, requested=8 - free))
    before = contents(pool)

    woken = could_fit(pool, make_request(make_workload(replicas=5, partial=partial)))

    assert (woken, contents(pool)) == (worth, before)


def test_a_remainder_is_woken_only_by_more_room():
    here = make_placement("east", replicas=3)
    pool = make_pool(make_cluster("east", cores=3, nodes=1, requested=3), placements=[here])
    waiting = make_request(make_workload(replicas=5, partial="allow"), here)
    full = could_fit(pool, waiting)
    site = make_cluster("west", cores=1, nodes=1)
    pool.put_cluster(site.cluster, silent=False)
    pool.put_nodes("west", site.nodes)

    assert (full, could_fit(pool, waiting)) == (False, True)


def test_a_rollout_that_waits_is_woken_by_room_for_its_surge():
    here = make_placement("east", replicas=3)
    waiting = make_request(make_workload(replicas=3, revision="2", surge=1), here)
    pools = [make_pool(make_cluster("east", cores=cores, nodes=1, requested=3), placements=[here]) for cores in (3, 4)]

    assert [could_fit(pool, waiting) for pool in pools] == [False, True]


# --- several components ----------------------------------------------------------------------------------------------


def make_set(*parts: tuple[str, int, float], **fields: Any) -> Workload:
    """A workload of several components: (name, replicas, cores)."""
    components = tuple(
        Component(name=name, replicas=replicas, requests={"cpu": f"{int(cores * 1000)}m"})
        for name, replicas, cores in parts
    )
    return make_workload(components=components, **fields)


def by_component(outcome: Outcome) -> dict[tuple[str, str], int]:
    return {(a.cluster, a.component): a.replicas for a in outcome.allotments}


def test_all_components_go_to_one_cluster():
    pool = make_pool(make_cluster("east", cores=4, nodes=1), make_cluster("west", cores=9, nodes=1))

    outcome = decide(pool, make_request(make_set(("db", 1, 3), ("web", 4, 1))))

    assert by_component(outcome) == {("west", "db"): 1, ("west", "web"): 4}
    assert outcome.summary == "5 of 5 replicas in 1 cluster: west 5"


def test_a_set_is_not_placed_where_its_components_fit_only_alone():
    pool = make_pool(make_cluster("east", cores=4, nodes=1), make_cluster("west", cores=4, nodes=1))
    before = contents(pool)

    outcome = decide(pool, make_request(make_set(("db", 1, 3), ("web", 2, 1))))

    assert (outcome.status, outcome.allotments) == ("waiting", ())
    assert contents(pool) == before


def test_a_set_stays_where_it_is_when_it_grows():
    db, web = (make_placement("east", id=f"p-{name}", component=name, replicas=1) for name in ("db", "web"))
    pool = make_pool(
        make_cluster("east", cores=4, nodes=1, requested=2), make_cluster("west", cores=40), placements=[db, web]
    )

    grown = decide(pool, make_request(make_set(("db", 1, 1), ("web", 3, 1)), db, web))
    too_large = decide(pool, make_request(make_set(("db", 1, 1), ("web", 4, 1)), db, web))

    assert by_component(grown) == {("east", "db"): 1, ("east", "web"): 3}
    assert (too_large.status, by_component(too_large)) == ("waiting", {("east", "db"): 1, ("east", "web"): 1})


# --- properties ------------------------------------------------------------------------------------------------------

REGIONS = ("eu", "us", None)
sites = st.lists(
    st.tuples(
        st.sampled_from(("a", "b", "c", "d", "e")),
        st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), max_size=4),
        st.sampled_from(REGIONS),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda site: site[0],
)
works = st.lists(
    st.tuples(
        st.integers(0, 14),
        st.sampled_from((0.5, 1, 2, 3)),
        st.sampled_from(("dynamic", "dynamic", "aggregated", "static", "duplicated")),
        st.sampled_from(((), (), (("region", 2, None),), (("cluster", 1, 2),), (("cluster", 2, 3), ("region", 1, 1)))),
        st.sampled_from(("never", "allow", "min 3")),
        st.booleans(),
        st.dictionaries(st.sampled_from(("a", "b", "c")), st.integers(0, 4), max_size=2),
    ),
    max_size=6,
)


def build(site_rows, work_rows, order=1):
    """A pool, and requests whose placements hold what they have on the first node by name."""
    requests, placements = [], []
    known = {name: nodes for name, nodes, _, _ in site_rows if nodes}
    for index, (replicas, cores, strategy, spread, partial, single, previous) in enumerate(work_rows):
        workload = make_workload(
            f"w{index}",
            replicas=replicas,
            cores=cores,
            strategy=strategy,
            spread=spread,
            partial=partial,
            single=single and not previous,
        )
        mine = [
            make_placement(
                cluster, workload=f"w{index}", replicas=count, cores=cores, bound=0, holds={f"{cluster}-n0": count}
            )
            for cluster, count in previous.items()
            if cluster in known
        ]
        placements += mine
        requests.append(make_request(workload, *mine))
    clusters = [
        make_cluster(
            name,
            nodes=[
                make_node(f"{name}-n{at}", cores=cores, requested=min(cores, used))
                for at, (cores, used) in enumerate(nodes)
            ],
            cordoned=cordoned,
            **({"region": region} if region else {}),
        )
        for name, nodes, region, cordoned in site_rows
    ]
    return make_pool(*clusters[::order], placements=placements[::order]), requests


def contents(pool: Pool) -> dict[str, object]:
    """What an image says of every node and cluster."""
    pool.settle()
    return {
        name: (
            tuple(member.names),
            pool.table.free[:, member.start : member.end].tolist(),
            pool.room[:, member.id].tolist(),
            bool(pool.tight[member.id]),
        )
        for name, member in sorted(pool.members.items())
    }


@settings(max_examples=300, deadline=None)
@given(sites, works)
def test_nothing_is_given_twice(site_rows, work_rows):
    pool, requests = build(site_rows, work_rows)
    before = contents(pool)

    result = plan(pool, *requests)

    claims: Counter[tuple[str, str]] = Counter()
    for request, outcome in zip(requests, result.outcomes, strict=True):
        millis = parse_needed(request.workload.spec.components[0].requests)["cpu"]
        for allotment in outcome.allotments:
            claimed_before = sum(p.claim for p in request.placements if p.cluster == allotment.cluster)
            assert sum(allotment.holds.values()) == max(0, allotment.replicas - claimed_before)
            for node, count in allotment.holds.items():
                claims[allotment.cluster, node] += count * millis
    cpu_row = pool.table.rows["cpu"]
    for name, (names, free, room, _) in before.items():
        for at, node in enumerate(names):
            assert claims[name, node] == 0 or claims[name, node] <= free[cpu_row][at]
        total = sum(amount for (cluster, _), amount in claims.items() if cluster == name)
        assert total == 0 or total <= room[cpu_row]


@settings(max_examples=200, deadline=None)
@given(sites, works)
def test_the_same_goes_in_and_the_same_comes_out_and_the_pool_is_left_as_it_was(site_rows, work_rows):
    pool, requests = build(site_rows, work_rows)
    other, _ = build(site_rows, work_rows, order=-1)
    before = contents(pool)

    first, again, elsewhere = plan(pool, *requests), plan(pool, *requests), plan(other, *requests)

    assert first == again == elsewhere
    assert contents(pool) == before


@settings(max_examples=300, deadline=None)
@given(sites, works)
def test_minima_and_maxima_of_groups_hold_after_dividing(site_rows, work_rows):
    pool, requests = build(site_rows, work_rows)

    result = plan(pool, *requests)

    for request, outcome in zip(requests, result.outcomes, strict=True):
        used = [a.cluster for a in outcome.allotments if a.replicas]
        rules = request.workload.spec.rules
        if outcome.status == "waiting" or not used or rules.strategy == "static" or request.workload.spec.single:
            continue
        for constraint in rules.spread:
            groups = {pool.members[name].cluster.group(constraint.by) for name in used}
            assert constraint.min_groups <= len(groups) <= (constraint.max_groups or len(groups))


@settings(max_examples=200, deadline=None)
@given(sites, works)
def test_a_plan_carried_out_and_asked_again_changes_nothing(site_rows, work_rows):
    pool, requests = build(site_rows, work_rows)
    outcomes = plan(pool, *requests).outcomes
    done = [carried_out(request, outcome) for request, outcome in zip(requests, outcomes, strict=True)]
    sums: dict[str, list[Placement]] = {}
    for request in done:
        for placement in request.placements:
            sums.setdefault(placement.cluster, []).append(placement)
    for name, member in list(pool.members.items()):
        pool.put_cluster(holding(member.cluster, sums.get(name, [])), silent=False)
    pool.put_placements([placement for request in done for placement in request.placements])

    again = plan(pool, *done).outcomes

    for before, after in zip(outcomes, again, strict=True):
        if before.status == "placed":
            wanted = {name: count for name, count in replicas_of(before).items() if count}
            assert {name: count for name, count in replicas_of(after).items() if count} == wanted
            assert not any(allotment.holds for allotment in after.allotments)


def carried_out(request: Request, outcome: Outcome) -> Request:
    """The request once the outcome is committed: claims raised, holds named."""
    before = {placement.cluster: placement for placement in request.placements}
    cores = parse_needed(request.workload.spec.components[0].requests)["cpu"] / 1000
    after = []
    for allotment in outcome.allotments:
        old = before.pop(allotment.cluster, None)
        if old is None:
            old = make_placement(
                allotment.cluster, workload=request.workload.spec.name, replicas=0, cores=cores, bound=0
            )
        holds = Counter(old.holds) + Counter(allotment.holds)
        kind = AskKind.WANTED if allotment.replicas else AskKind.GONE
        ask = structs.replace(old.asks[-1], version=2, replicas=allotment.replicas, kind=kind)
        after.append(structs.replace(old.asking(ask), holds=dict(holds)))
    return Request(workload=request.workload, placements=(*before.values(), *after))


@settings(max_examples=300, deadline=None)
@given(sites, works)
def test_every_decision_can_be_computed_again_from_its_verdicts(site_rows, work_rows):
    pool, requests = build(site_rows, work_rows)

    result = plan(pool, *requests)

    explanations = {explanation.id: explanation for explanation in result.explanations}
    for request, outcome in zip(requests, result.outcomes, strict=True):
        decision = decision_of(outcome, request)
        verdicts = merge(decision, explanations[outcome.explanation])
        assert [verdict.cluster for verdict in verdicts] == sorted(pool.members)
        assert {v.cluster: v.wanted for v in verdicts if v.wanted} == decision.placed
        assert recompute(request.workload.spec, verdicts) == decision.placed


def decision_of(outcome: Outcome, request: Request) -> Decision:
    """What is stored of an outcome."""
    return Decision(
        id="d-1",
        workload=outcome.workload,
        cycle="c-1",
        explanation=outcome.explanation,
        at_ms=NOW,
        version=outcome.version,
        total=request.workload.spec.replicas,
        spec=request.workload.spec,
        outcome=outcome.status,
        placed={name: count for name, count in replicas_of(outcome).items() if count},
        previous={},
        own=outcome.own,
        reasons=outcome.reasons,
        summary=outcome.summary,
    )


changes = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 6),
        st.sampled_from((0.5, 1, 1.5, 2)),
        st.integers(0, 2),
        st.sampled_from(("1", "2")),
        st.sampled_from(("never", "allow")),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(changes, st.integers(0, 8), st.integers(0, 8), st.integers(0, 3))
def test_a_committed_plan_leaves_no_excess_where_it_raises(rows, spare_east, spare_west, owed):
    requests, bound = [], {"east": {}, "west": {}}
    for index, (east, west, replicas, cores, surge, revision, partial, rolling) in enumerate(rows):
        mine = []
        for cluster, count in (("east", east), ("west", west)):
            placement = make_placement(cluster, workload=f"w{index}", replicas=count)
            if rolling and count:
                ask = structs.replace(placement.asks[0], version=2, requests=cpu(1.5), revision="2")
                placement = placement.asking(ask)
            if count:
                mine.append(placement)
                bound[cluster][placement.id] = {"1": count}
        workload = make_workload(
            f"w{index}", replicas=replicas, cores=cores, surge=surge, revision=revision, partial=partial
        )
        requests.append(make_request(workload, *mine))
    held = [placement for request in requests for placement in request.placements]
    sites = []
    for name, spare in (("east", spare_east), ("west", spare_west)):
        used = sum(sum(revisions.values()) for revisions in bound[name].values())
        nodes = [
            make_node(f"{name}-0", cores=used + spare, requested=used, bound=bound[name]),
            make_node(f"{name}-1", cores=2, requested=owed),
        ]
        sites.append(make_cluster(name, nodes=nodes))
    pool = make_pool(*sites, placements=held)
    before = contents(pool)

    outcomes = plan(pool, *requests).outcomes

    assert contents(pool) == before
    after = [
        placement
        for request, outcome in zip(requests, outcomes, strict=True)
        for placement in committed(request, outcome)
    ]
    for name, member in pool.members.items():
        old = {p.id: p.claimed_amounts().get("cpu", 0) for p in held}
        rises = any(p.cluster == name and p.claimed_amounts().get("cpu", 0) > old.get(p.id, 0) for p in after)
        assert not rises or "cpu" not in holding(member.cluster, after).excess()


def committed(request: Request, outcome: Outcome) -> list[Placement]:
    """The placements of the request as a commit of the outcome writes them."""
    spec, before = request.workload.spec, {placement.cluster: placement for placement in request.placements}
    for allotment in outcome.allotments if outcome.status != "waiting" else ():
        old = before.get(allotment.cluster) or make_placement(
            allotment.cluster, workload=spec.name, replicas=0, cores=0
        )
        kind = AskKind.WANTED if allotment.replicas else AskKind.GONE
        request = parse_needed(spec.components[0].requests) if allotment.replicas else {}
        ask = Ask(old.version + 1, allotment.replicas, kind, 0, allotment.surge, spec.revision, request)
        last = old.asks[-1]
        if (last.replicas, last.revision, last.requests) != (ask.replicas, ask.revision, ask.requests):
            after = old.asking(ask)
            assert sum(allotment.holds.values()) == max(0, after.held - old.held)
            before[allotment.cluster] = after.holding(allotment.holds, NOW, old.held)
    return list(before.values())
