"""The fold of events into a cluster's view: order, doubles, resyncs, and sums that are kept and never recounted."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from federation.domain.cluster import ClusterPhase
from federation.domain.errors import Invalid
from federation.domain.events import ActionFinished, ClusterLeft, Event, ResyncFinished, ResyncStarted, Stamp, Taint
from federation.domain.projection import lose_history, note_parked
from federation.domain.reception import WINDOW_EVENTS
from tests.domain.builders_core import (
    NOW,
    Teller,
    World,
    ask,
    gone,
    gone_ask,
    heartbeat,
    node,
    placed,
    recounted,
    seen,
)


def test_a_cluster_is_ready_once_a_resync_has_told_all_of_it():
    world, agent = World(), Teller()
    started, *rest = agent.resync(node(cores=4, used=1), heartbeat(done=0))

    world.hear([started, *rest[:-1]])
    before = world.cluster
    world.hear(rest[-1:])

    assert (before.phase, bool(before.stale)) == (ClusterPhase.JOINING, True)
    assert (world.cluster.phase, world.cluster.stale) == (ClusterPhase.READY, "")
    assert world.cluster.definition > before.definition
    assert (world.cluster.known, world.cluster.used) == ({"cpu": 4000}, {"cpu": 1000})


def test_a_node_that_takes_no_pods_counts_for_nothing_but_what_is_bound_there():
    world, agent = World.holding(placed(2)), Teller()
    world.hear(agent.resync(node("n-0", cores=4, used=2, bound={"p": 2}, ready=False), node("n-1", cores=1)))

    assert (world.cluster.known, world.cluster.used) == ({"cpu": 1000}, {})
    assert (world.placement().bound, world.cluster.held) == (2, {})


def test_a_node_that_goes_leaves_a_tombstone_and_its_replicas_are_held_again():
    world, agent = World.holding(placed(2)), Teller()
    world.hear(agent.resync(node("n-0", used=2, bound={"p": 2})))
    world.hear([agent.tell(gone("n-0"))])

    assert world.view.nodes["n-0"].gone
    assert (world.placement().bound, world.cluster.held) == (0, {"cpu": 2000})
    assert (world.cluster.known, world.cluster.nodes) == ({}, 0)


def test_quantities_that_cannot_be_read_are_refused_before_anything_changes():
    world, agent = World(), Teller()
    world.hear(agent.resync(node()))
    before = world.cluster
    bad = replace(node("n-1"), allocatable={"cpu": "much"})

    with pytest.raises(Invalid, match="n-1"):
        world.hear([agent.tell(bad)])

    assert world.cluster == before
    assert "n-1" not in world.view.nodes


def test_a_change_of_what_may_be_chosen_moves_the_definition_and_other_news_do_not():
    world, agent = World(), Teller()
    world.hear(agent.resync(node(), heartbeat(done=0, labels={"a": "1"})))
    before = world.cluster.definition

    world.hear([agent.tell(heartbeat(done=3, labels={"a": "1"}))])
    same = world.cluster.definition
    world.hear([agent.tell(heartbeat(done=3, labels={"a": "1"}, taints=(Taint(key="down"),)))])

    assert (same, world.cluster.definition) == (before, before + 1)


def test_orders_done_never_go_back_within_a_generation():
    world, agent = World(), Teller()
    world.hear(agent.resync(heartbeat(done=9)))
    world.hear(agent.all(heartbeat(done=4), seen(done=5)))
    kept = (world.cluster.generation, world.cluster.done)
    world.hear([agent.tell(heartbeat(done=1, generation=2))])

    assert kept == (1, 9)
    assert (world.cluster.generation, world.cluster.done) == (2, 1)


def test_a_placement_that_another_cluster_has_is_left_alone():
    world, agent = World.holding(placed(2, cluster="west")), Teller()
    before = world.placement()
    world.hear(agent.resync(node("n-0", bound={"p": 2}), seen("p", version=1, live=2, observed=True, desired=2)))

    assert world.placement() == before


def test_a_refusal_is_known_at_once_and_yields_to_what_is_seen_later():
    world, agent = World.holding(placed(2)), Teller()
    world.hear(agent.resync(node()))
    refusal = agent.tell(
        ActionFinished(cluster="east", order=1, placement="p", generation=1, version=1, outcome="refused", reason="no")
    )
    world.hear([refusal])
    refused = world.placement().seen
    world.hear([agent.tell(seen(version=1, done=1, live=2)), refusal])

    assert (refused.refused, refused.refused_reason, refused.done) == (2, "no", 1)
    assert world.placement().seen.refused_reason == ""


def test_a_refusal_of_a_version_that_was_asked_for_no_more_says_nothing():
    world, agent = World.holding(placed(2).asking(ask(2, 1))), Teller()
    world.hear(agent.resync(node()))
    stale = ActionFinished(cluster="east", order=1, placement="p", generation=1, version=1, outcome="refused")

    assert world.hear([agent.tell(stale)]) == [False]
    assert world.placement().seen.refused_reason == ""


def test_a_cluster_that_leaves_takes_its_capacity_and_its_claims_with_it():
    world, agent = World.holding(placed(3)), Teller()
    world.hear(agent.resync(node(used=2, bound={"p": 2})))
    world.hear([agent.tell(ClusterLeft(cluster="east"))])

    assert world.cluster.phase is ClusterPhase.LEFT
    assert (world.cluster.known, world.cluster.used, world.cluster.held) == ({}, {}, {})
    assert world.placement().released


def test_what_comes_late_from_a_cluster_that_left_changes_nothing():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("n-0")))
    late_node, late_start = agent.tell(node("n-1")), agent.tell(ResyncStarted(cluster="east", resync="late"))
    left = agent.tell(ClusterLeft(cluster="east"))
    world.hear([left, late_node, late_start, agent.tell(node("n-2")), left])

    assert world.cluster.phase is ClusterPhase.LEFT
    assert world.cluster.known == {}


def test_a_cluster_that_comes_back_is_ready_once_all_of_it_is_told_again():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("n-0")))
    left = agent.tell(ClusterLeft(cluster="east"))
    world.hear([left])
    again = Teller(epoch=2)
    started, told, finished = again.resync(node("n-0", cores=2))

    world.hear([started, told])
    coming = (world.cluster.phase, bool(world.cluster.stale))
    world.hear([finished, left])

    assert coming == (ClusterPhase.JOINING, True)
    assert (world.cluster.phase, world.cluster.stale, world.cluster.known) == (ClusterPhase.READY, "", {"cpu": 2000})


def test_a_resync_that_ends_before_its_beginning_was_seen_keeps_the_cluster_stale():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("n-0"), node("n-1")))
    started, told, finished = agent.resync(node("n-0"))
    world.hear([told, finished, started])
    between = (world.cluster.stale, set(world.view.nodes))
    world.hear(agent.resync(node("n-0")))

    assert "was not seen before its end" in between[0]
    assert between[1] == {"n-0", "n-1"}
    assert world.cluster.stale == ""
    assert world.view.nodes["n-1"].gone


def test_lost_history_keeps_the_cluster_stale_until_a_resync_that_begins_after_it():
    world, agent = World(), Teller()
    started, told, finished = agent.resync(node())
    world.hear([started, told])
    world.view.cluster = lose_history(world.cluster, "the log lost events")
    world.hear([finished])
    within = world.cluster.stale
    world.hear(agent.resync(node()))

    assert within == "the log lost events"
    assert world.cluster.stale == ""


def test_a_placement_that_was_released_and_shows_again_is_a_stray():
    world, agent = World.holding(placed(1).asking(gone_ask(2, order=5))), Teller()
    world.hear(agent.resync(node(), seen(gone=True, done=5)))
    released = world.placement().released
    world.hear([agent.tell(node(used=1, bound={"p": 1}))])

    assert released
    assert world.view.strays == {"p"}
    assert world.placement().claim == 0


# --- whatever the order ----------------------------------------------------------------------------------------------

NODES, PLACEMENTS = ("n-0", "n-1", "n-2"), ("p", "q")
NODE_EVENTS = st.builds(
    lambda name, cores, used, bound, ready: node(name, cores=cores, used=used, bound=bound, ready=ready),
    st.sampled_from(NODES),
    st.integers(1, 9),
    st.integers(0, 9),
    st.dictionaries(st.sampled_from(PLACEMENTS), st.integers(0, 3)),
    st.booleans(),
)
PLACEMENT_EVENTS = st.builds(
    lambda name, version, observed, live, absent: seen(
        name, version=version, observed=observed, live=live, desired=version, gone=absent, done=version
    ),
    st.sampled_from(PLACEMENTS),
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 5),
    st.booleans(),
)
HISTORY = st.lists(
    st.one_of(NODE_EVENTS, PLACEMENT_EVENTS, st.builds(gone, st.sampled_from(NODES)), st.builds(heartbeat)),
    max_size=40,
)
CLOSING: tuple[Event, ...] = (
    node("n-0", cores=8, used=3, bound={"p": 2, "q": 1}),
    node("n-1", cores=8, used=1, bound={"q": 1}),
    seen("p", version=3, observed=True, live=2, desired=3, done=9),
    seen("q", version=3, observed=True, live=3, desired=3, done=9),
    heartbeat(done=9),
)


def committed() -> World:
    """Two placements with three versions each in flight."""
    both = (placed(1, name=name).asking(ask(2, 2, 2)).asking(ask(3, 3, 3)) for name in PLACEMENTS)
    return World.holding(*(placement.holding({}, NOW, placement.held) for placement in both))


def summary(world: World) -> object:
    """All of a view that may not depend on the order in which events came."""
    nodes = {name: replace(row, place=(0, 0, 0)) for name, row in world.view.nodes.items() if not row.gone}
    placements = {
        name: (row.asks, row.bound, row.held, row.claim, row.released, row.seen)
        for name, row in world.view.placements.items()
    }
    cluster = world.cluster
    return nodes, placements, cluster.known, cluster.used, cluster.held, cluster.stale, cluster.done, cluster.nodes


def delivered(told: list[tuple[Event, Stamp]], seed: int) -> list[tuple[Event, Stamp]]:
    """Each event one to five times, every copy shifted by less than the window."""
    rng = random.Random(seed)
    copies = [(index + rng.uniform(0, 20), one) for index, one in enumerate(told) for _ in range(rng.randint(1, 5))]
    return [one for _, one in sorted(copies, key=lambda copy: copy[0])]


@settings(max_examples=200, deadline=None)
@given(HISTORY, st.integers(0, 2**32))
def test_any_order_within_the_window_any_number_of_times_gives_the_same_view(history: list[Event], seed: int):
    agent = Teller()
    told = [*agent.resync(*CLOSING), *agent.all(*history), *agent.resync(*CLOSING), *agent.all(*history)]
    # What came before the opening of its epoch is a gap, which a whole window must show before a resync can mend it.
    beats = [heartbeat(done=9) for _ in range(WINDOW_EVENTS)]
    closing = [*agent.all(*beats), *agent.resync(*CLOSING)]
    in_order, shuffled = committed(), committed()

    in_order.hear([*told, *closing])
    shuffled.hear(delivered(told, seed))
    shuffled.hear([*closing, *delivered(told, seed + 1), *closing])

    assert summary(shuffled) == summary(in_order)


@settings(max_examples=100, deadline=None)
@given(HISTORY, st.integers(0, 2**32))
def test_an_old_epoch_that_speaks_late_changes_nothing(history: list[Event], seed: int):
    old, new = Teller(epoch=1), Teller(epoch=2)
    told = [*old.resync(*CLOSING), *old.all(*history)]
    world = committed()
    world.hear(told)
    world.hear(new.resync(*CLOSING))
    before = summary(world)

    world.hear(delivered(told, seed))

    assert summary(world) == before


@settings(max_examples=200, deadline=None)
@given(HISTORY, st.integers(0, 2**32))
def test_sums_that_are_kept_are_those_that_a_recount_finds(history: list[Event], seed: int):
    agent = Teller()
    told = [*agent.resync(*CLOSING), *agent.all(*history), *agent.resync(), *agent.all(*history)]
    world = committed()

    for event, stamp in delivered(told, seed):
        world.hear([(event, stamp)])

        assert (world.cluster.known, world.cluster.used, world.cluster.held) == recounted(world.view)
        assert world.cluster.held_replicas == sum(row.held for row in world.view.placements.values())
        assert world.cluster.nodes == sum(not row.gone for row in world.view.nodes.values())
        for placement in world.view.placements.values():
            assert placement.bound == sum(row.bound_of(placement.id) for row in world.view.nodes.values())
            assert placement.held == max(0, placement.claim - placement.bound) == sum(placement.holds.values())


@settings(max_examples=100, deadline=None)
@given(HISTORY, st.sets(st.integers(0, 39), max_size=3), st.integers(0, 2**32))
def test_what_is_lost_or_parked_on_the_way_is_made_good_by_the_closing_resync(
    history: list[Event], lost: set[int], seed: int
):
    agent = Teller()
    told = [*agent.resync(*CLOSING), *agent.all(*history)]
    world, whole = committed(), committed()
    kept = [one for index, one in enumerate(told) if index not in lost]

    world.hear(delivered(kept, seed))
    for index in sorted(lost & set(range(len(told)))):
        if index % 2:
            note_parked(world.view, told[index][1], NOW)
    closing = [*agent.resync(*CLOSING), *agent.all(*(heartbeat(done=9) for _ in range(70)))]
    world.hear(closing)
    world.hear(agent.resync(*CLOSING))
    whole.hear([*told, *closing, *Teller(sequence=agent.sequence).resync(*CLOSING)])

    assert summary(world) == summary(whole)


def test_the_end_of_a_resync_is_known_by_its_name():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("n-0")))
    world.hear([agent.tell(ResyncStarted(cluster="east", resync="one"))])
    world.hear([agent.tell(ResyncFinished(cluster="east", resync="other"))])

    assert not world.view.nodes["n-0"].gone
    assert world.cluster.stale
