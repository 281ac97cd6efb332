"""Protocol section 3: each rule by the interleaving that it came from."""

from msgspec.structs import replace

from federation.domain.cluster import Node
from federation.domain.events import Autoscaler, BoundPlacement, UnboundPods
from federation.domain.placement import Ask, AskKind, Placement
from tests.domain.builders_core import CPU, NOW, Teller, World, ask, gone_ask, heartbeat, node, placed, seen

LATER = NOW + 60_000


def world_with(*placements: Placement) -> tuple[World, Teller]:
    """A cluster of two nodes of eight cores, all told, with these placements committed; what is bound is on n-0."""
    world, agent = World.holding(*placements), Teller()
    bound = {each.id: each.bound for each in placements if each.bound}
    world.view.put_node(Node(name="n-0", bound={name: {"": count} for name, count in bound.items()}))
    told = node("n-0", used=sum(bound.values()), bound=bound)
    world.hear(agent.resync(told, node("n-1"), heartbeat(done=0)))
    return world, agent


def running(replicas: int, **fields: object) -> Placement:
    """A placement whose first version is in force, all of it bound on n-0."""
    bound = placed(replicas, **fields).with_bound("n-0", replicas, NOW)  # type: ignore[arg-type]
    told = seen(version=1, observed=True, desired=replicas, live=replicas, updated=replicas, done=1)
    return bound.observing(told, NOW)


# --- 3.1 -------------------------------------------------------------------------------------------------------------


def test_3_1_applied_is_only_receipt_and_supersedes_nothing():
    world, agent = world_with(running(3).asking(ask(2, 1, order=2)))
    world.hear([agent.tell(seen(version=2, observed=False, desired=1, live=3, done=2))])

    assert world.placement().claim == 3


def test_3_1_a_version_is_superseded_once_its_successor_is_in_force_and_no_more_pods_live():
    world, agent = world_with(running(3).asking(ask(2, 1, order=2)))
    world.hear([agent.tell(seen(version=2, observed=True, desired=1, live=2, done=2))])
    two_live = world.placement().claim
    world.hear([agent.tell(seen(version=2, observed=True, desired=1, live=1, updated=1, done=2))])

    assert (two_live, world.placement().claim) == (3, 1)


def test_3_1_a_version_that_was_overtaken_keeps_its_claim_until_a_successor_is_seen_in_force():
    world, agent = world_with(placed(5).asking(ask(2, 1, order=2)).asking(ask(3, 2, order=3)))
    world.hear([agent.tell(seen(version=1, observed=True, desired=5, live=5, done=1))])
    first = world.placement().claim
    world.hear([agent.tell(seen(version=3, observed=True, desired=2, live=2, updated=2, done=3))])

    assert (first, world.placement().claim) == (5, 2)


def test_3_1_a_claim_is_never_below_the_live_pods_last_seen_unbound_included():
    world, agent = world_with(running(1))
    world.hear([agent.tell(seen(version=1, observed=True, desired=1, live=4, bound=1, done=1))])

    assert (world.placement().claim, world.placement().held) == (4, 3)


def test_3_1_an_ended_placement_gives_back_only_after_done_reached_its_last_order():
    world, agent = world_with(placed(3).asking(gone_ask(2, order=8)))
    world.hear([agent.tell(seen(gone=True, done=7))])
    early = (world.placement().released, world.placement().claim)
    world.hear([agent.tell(seen(gone=True, done=8))])

    assert early == (False, 3)
    assert (world.placement().released, world.cluster.held) == (True, {})


def test_3_1_an_order_that_waits_for_its_number_is_not_done_whatever_the_agent_has_done():
    world, agent = world_with(placed(3).asking(gone_ask(2, order=0)))
    world.hear([agent.tell(seen(gone=True, done=99))])

    assert world.placement().claim == 3


def test_3_1_what_an_agent_did_for_an_older_generation_of_the_hub_gives_nothing_back():
    world, agent = world_with(placed(3).asking(gone_ask(2, order=8)))
    world.view.generation = 2
    world.hear([agent.tell(seen(gone=True, done=300, generation=1))])
    older = world.placement().claim
    world.hear([agent.tell(seen(gone=True, done=8, generation=2))])

    assert (older, world.placement().claim) == (3, 0)


def test_3_1_pods_that_still_end_keep_the_claim_of_an_ended_placement():
    world, agent = world_with(running(3).asking(gone_ask(2, order=8)))
    world.hear([agent.tell(seen(gone=False, live=0, done=8))])

    assert world.placement().claim == 3


def test_3_1_done_alone_gives_nothing_back():
    world, agent = world_with(placed(3).asking(gone_ask(2, order=8)))
    world.hear([agent.tell(heartbeat(done=8))])

    assert (world.cluster.done, world.placement().claim) == (8, 3)


def test_3_1_the_end_of_a_resync_carries_done_and_so_gives_back_what_it_does_not_list():
    world, agent = world_with(placed(3).asking(gone_ask(2, order=8)))
    world.hear(agent.resync(node("n-0"), node("n-1"), done=8))

    assert world.placement().released


# --- 3.2 -------------------------------------------------------------------------------------------------------------


def test_3_2_a_pod_moves_from_held_to_observed_in_one_event():
    world, agent = world_with(placed(2))
    before = dict(world.cluster.held)
    world.hear([agent.tell(node("n-0", used=1, bound={"p": 1}))])

    assert before == {"cpu": 2000}
    assert (world.cluster.held, world.cluster.used) == ({"cpu": 1000}, {"cpu": 1000})


def test_3_2_bound_counts_every_revision():
    world, agent = world_with(placed(3))
    mixed = node("n-0", used=3)
    both = replace(mixed, placements=(_bound("p", 1, "old"), _bound("p", 2, "new")))
    world.hear([agent.tell(both)])

    assert (world.placement().bound, world.placement().held) == (3, 0)


def test_3_2_a_pod_that_is_deleted_and_made_again_is_held_in_between():
    world, agent = world_with(running(1))
    world.hear([agent.tell(node("n-0", used=1, bound={"p": 1}))])
    world.hear([agent.tell(node("n-0", used=1))])
    terminating = (world.cluster.used, world.cluster.held)
    world.hear(agent.all(node("n-1", used=1, bound={"p": 1}), node("n-0")))

    assert terminating == ({"cpu": 1000}, {"cpu": 1000})
    assert (world.cluster.used, world.cluster.held) == ({"cpu": 1000}, {})


def test_3_2_a_pod_seen_on_two_nodes_for_a_moment_is_held_nowhere():
    world, agent = world_with(running(1))
    world.hear([agent.tell(node("n-0", used=1, bound={"p": 1}))])
    world.hear([agent.tell(node("n-1", used=1, bound={"p": 1}))])

    assert (world.placement().bound, world.placement().held) == (2, 0)
    assert world.cluster.held == {}


# --- 3.3 -------------------------------------------------------------------------------------------------------------


def test_3_3_a_rollout_claims_replicas_and_surge_at_the_larger_request():
    rolling = running(4).asking(ask(2, 4, surge=1, revision="2", cpu=1500))

    assert rolling.claim == 5
    assert rolling.claimed_amounts() == {"cpu": 5 * 1500 + 4 * 500}


def test_3_3_the_surge_ends_when_all_are_bound_in_the_new_revision_and_no_older_pod_is_left():
    world, agent = world_with(running(2).asking(ask(2, 2, order=2, surge=1, revision="2")))
    world.hear([agent.tell(seen(version=2, observed=True, desired=2, live=3, updated=2, done=2))])
    older_left = world.placement().claim
    world.hear([agent.tell(seen(version=2, observed=True, desired=2, live=2, updated=1, done=2))])
    not_all_new = world.placement().claim
    world.hear([agent.tell(seen(version=2, observed=True, desired=2, live=2, updated=2, done=2))])

    assert (older_left, not_all_new, world.placement().claim) == (3, 3, 2)


def test_3_3_old_pods_keep_room_to_grow_until_they_are_replaced_even_without_a_surge():
    bigger = running(4).asking(ask(2, 4, order=2, revision="2", cpu=2000))
    world, agent = world_with(bigger)
    world.hear([agent.tell(node("n-0", used=4, bound={"p": 4}))])
    world.hear([agent.tell(seen(version=2, observed=True, desired=4, live=4, updated=0, done=2))])
    rolling = dict(world.cluster.held)
    world.hear([agent.tell(seen(version=2, observed=True, desired=4, live=4, updated=4, done=2))])

    assert rolling == {"cpu": 4 * 1000}
    assert world.cluster.held == {}


def test_3_3_pods_of_the_old_size_that_are_bound_again_are_held_at_it():
    smaller = running(2).asking(ask(2, 2, order=2, revision="2", cpu=500))
    world, agent = world_with(smaller)
    world.hear([agent.tell(node("n-0", used=1, bound={"p": 1}))])
    world.hear([agent.tell(seen(version=2, observed=True, desired=2, live=2, updated=0, done=2))])

    assert world.placement().request == CPU


def test_3_3_a_scale_in_the_middle_of_a_rollout_does_not_forget_the_older_size():
    rolling = running(4).asking(ask(2, 4, order=2, surge=1, revision="2", cpu=2000))
    scaled = rolling.asking(ask(3, 3, order=3, surge=1, revision="2", cpu=2000))
    told = seen(version=3, observed=True, desired=3, live=4, updated=1, done=3)

    assert scaled.observing(told, LATER).growth == {"cpu": 1000}


def test_3_3_pods_that_can_only_shrink_keep_no_room_to_grow():
    smaller = running(4).asking(ask(2, 4, order=2, revision="2", cpu=500))

    assert (smaller.bound, smaller.growth) == (4, {})


# --- 3.4 -------------------------------------------------------------------------------------------------------------


def test_3_4_an_observed_replica_releases_a_hold_on_its_own_node_first():
    holding = placed(4, order=0).holding({}, NOW, 4)
    named = replace(holding, holds={"n-0": 1, "n-1": 2, "n-2": 1})

    assert named.with_bound("n-1", 1, LATER).holds == {"n-0": 1, "n-1": 1, "n-2": 1}


def test_3_4_else_it_releases_the_first_by_name():
    named = replace(placed(3), holds={"n-2": 1, "n-1": 2})

    assert named.with_bound("n-9", 1, LATER).holds == {"n-2": 1, "n-1": 1}
    assert named.with_bound("n-9", 3, LATER).holds == {}


def test_3_4_names_are_stored_so_that_a_hold_stays_where_the_planner_put_it():
    named = placed(2, order=0).asking(ask(2, 4)).holding({"n-1": 2}, NOW, 2)

    assert named.holds == {"": 2, "n-1": 2}


# --- 3.5 -------------------------------------------------------------------------------------------------------------


def test_3_5_the_deadline_runs_from_the_last_rise_of_held_above_zero():
    full = running(2)
    lost = full.with_bound("n-0", -1, LATER)
    lost_again = lost.with_bound("n-0", -1, LATER + 5_000)

    assert (lost.held_since_ms, lost_again.held_since_ms) == (LATER, LATER)


def test_3_5_scaling_up_what_was_all_bound_begins_a_new_deadline():
    grown = running(2).asking(ask(2, 5)).holding({"n-1": 3}, LATER, 0)

    assert (grown.held, grown.held_since_ms) == (3, LATER)


def test_3_5_a_floor_order_asks_what_it_left_as_the_observation_of_its_version_tells():
    floor = Ask(2, 1, AskKind.FLOOR, 2, 0, "1", CPU)
    withdrawn = placed(5).with_bound("n-0", 1, NOW).asking(floor)
    told = seen(version=2, observed=True, desired=2, live=2, done=2)

    assert withdrawn.claim == 5
    assert (withdrawn.observing(told, LATER).claim, withdrawn.observing(told, LATER).wanted) == (2, 2)


def test_3_5_a_floor_that_left_a_replica_without_a_pod_claims_it():
    floor = Ask(2, 0, AskKind.FLOOR, 2, 0, "1", CPU)
    told = seen(version=2, observed=True, desired=1, live=0, done=2)

    assert placed(5).asking(floor).observing(told, LATER).claim == 1


def test_3_5_capacity_comes_back_by_what_is_observed_and_not_by_the_withdrawal():
    floor = Ask(2, 1, AskKind.FLOOR, 0, 0, "1", CPU)
    withdrawn = placed(5).with_bound("n-0", 1, NOW).asking(floor).holding({}, NOW, 4)

    assert (withdrawn.claim, withdrawn.held) == (5, 4)


# --- 3.6 -------------------------------------------------------------------------------------------------------------


def job(parallelism: int, completions: int, **fields: object) -> Placement:
    return replace(placed(parallelism, **fields), completions=completions).settled("", NOW)  # type: ignore[arg-type]


def test_3_6_a_job_claims_the_smaller_of_its_parallelism_and_what_is_left_to_complete():
    world, agent = world_with(job(4, completions=6))
    start = world.placement().claim
    world.hear([agent.tell(seen(version=1, observed=True, desired=4, live=2, succeeded=4, done=1))])

    assert (start, world.placement().claim) == (4, 2)


def test_3_6_complete_is_terminal_and_remembered_when_the_job_is_deleted_by_its_ttl():
    world, agent = world_with(job(2, completions=2))
    world.hear([agent.tell(seen(version=1, observed=True, succeeded=2, condition="Complete", done=1))])
    world.hear([agent.tell(seen(gone=True, done=1))])

    assert world.placement().finished
    assert (world.placement().seen.succeeded, world.placement().claim) == (2, 0)


def test_3_6_failed_is_terminal_too():
    world, agent = world_with(job(2, completions=2))
    world.hear([agent.tell(seen(version=1, observed=True, failed=7, condition="Failed", done=1))])
    world.hear([agent.tell(seen(version=1, observed=True, live=0, condition="", done=1))])

    assert (world.placement().finished, world.placement().seen.condition) == (True, "Failed")


# --- 3.7 -------------------------------------------------------------------------------------------------------------


def test_3_7_where_an_autoscaler_targets_the_object_its_most_is_claimed():
    world, agent = world_with(running(2))
    scaled = Autoscaler(min_replicas=1, max_replicas=6)
    world.hear([agent.tell(seen(version=1, observed=True, desired=2, live=2, updated=2, autoscaler=scaled, done=1))])
    claimed = (world.placement().claim, world.placement().held, dict(world.cluster.held))
    world.hear([agent.tell(seen(version=1, observed=True, desired=2, live=2, updated=2, done=1))])

    assert claimed == (6, 4, {"cpu": 4000})
    assert (world.placement().claim, world.cluster.held) == (2, {})


def test_3_7_what_an_autoscaler_may_still_ask_for_is_claimed_until_the_object_is_gone():
    world, agent = world_with(running(2).asking(gone_ask(2, order=5)))
    scaled = Autoscaler(min_replicas=1, max_replicas=6)
    world.hear([agent.tell(seen(version=1, observed=True, desired=2, live=2, autoscaler=scaled, done=4))])
    before = world.placement().claim
    world.hear([agent.tell(seen(gone=True, done=5))])

    assert (before, world.placement().claim) == (6, 0)


# --- 3.8, 3.9, 3.10 --------------------------------------------------------------------------------------------------


def test_3_8_what_the_caller_deploys_is_claimed_as_answered_and_replaced_by_the_next_answer():
    lease = placed(5, order=0).deployed_by_caller(ask(2, 2)).settled("", NOW)

    assert (lease.claim, lease.held, lease.version) == (2, 2, 2)


def test_3_8_pods_of_the_caller_that_outlive_the_lease_are_claimed_until_they_are_gone():
    world, agent = world_with(placed(3, order=0))
    world.hear(agent.all(node("n-0", used=1, bound={"p": 1}), seen(live=2, bound=1)))
    world.commit(world.placement().left_by_caller().settled("", NOW))
    left = dict(world.cluster.held)
    world.hear(agent.all(node("n-0"), seen(live=0)))

    assert left == {"cpu": 1000}
    assert (world.placement().released, world.cluster.held) == (True, {})


def test_3_9_pods_that_the_member_calls_unschedulable_block_nothing():
    world, agent = world_with()
    shapes = (
        UnboundPods(requests={"cpu": "2"}, count=3, unschedulable=1),
        UnboundPods(requests={}, count=2, unschedulable=2),
    )
    world.hear([agent.tell(heartbeat(unbound=shapes))])

    assert [(each.requests, each.count) for each in world.cluster.unbound] == [({"cpu": 2000}, 2)]


def test_3_10_silence_and_cordons_move_no_claim():
    world, agent = world_with(placed(3))
    world.view.cluster = replace(world.cluster, cordoned=True)
    world.hear([agent.tell(heartbeat(done=0))], at_ms=NOW - 3_600_000)

    assert (world.placement().claim, world.cluster.held) == (3, {"cpu": 3000})


def _bound(placement: str, count: int, revision: str) -> BoundPlacement:
    return BoundPlacement(placement=placement, bound=count, revision=revision)
