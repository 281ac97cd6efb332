"""Protocol section 1: each rule by the interleaving that it came from."""

from federation.domain.cluster import ClusterPhase
from federation.domain.events import ResyncFinished, ResyncStarted
from federation.domain.projection import note_parked
from federation.domain.reception import WINDOW_EVENTS, WINDOW_MS
from tests.domain.builders_core import NOW, Teller, World, gone, gone_ask, heartbeat, node, placed, seen


def cores(world: World) -> int:
    return world.cluster.known.get("cpu", 0) // 1000


def test_1_1_a_larger_transition_of_the_same_lease_is_newer_and_takes_over_by_its_opening_resync():
    world, old, new = World(), Teller(epoch=1), Teller(epoch=2)
    world.hear(old.resync(node(cores=1)))
    world.hear(new.resync(node(cores=2)))
    late = world.hear([old.tell(node(cores=1))])

    assert late == [False]
    assert cores(world) == 2


def test_1_1_sequences_begin_again_in_each_epoch_and_order_before_none_of_the_last():
    world, old, new = World(), Teller(epoch=1), Teller(epoch=2)
    world.hear(old.resync(node(cores=1)))
    world.hear(old.all(*(heartbeat() for _ in range(50))))
    world.hear(new.resync(node(cores=2)))

    assert new.sequence < old.sequence
    assert cores(world) == 2
    assert world.cluster.stale == ""


def test_1_1_a_new_uid_takes_over_by_its_opening_resync_whatever_its_transitions():
    world = World()
    world.hear(Teller(uid="lease-a", epoch=9).resync(node(cores=1)))
    world.hear(Teller(uid="lease-b", epoch=0).resync(node(cores=2)))

    assert cores(world) == 2
    assert world.cluster.stale == ""


def test_1_1_a_uid_once_replaced_never_returns():
    world, first = World(), Teller(uid="lease-a", epoch=9)
    world.hear(first.resync(node(cores=1)))
    world.hear(Teller(uid="lease-b", epoch=1).resync(node(cores=2)))
    back = world.hear(first.resync(node(cores=1)))
    higher = world.hear(Teller(uid="lease-a", epoch=10).resync(node(cores=1)))

    assert not any([*back, *higher])
    assert cores(world) == 2
    assert world.cluster.stale == ""


def test_1_1_an_event_of_an_unknown_epoch_changes_nothing_and_asks_for_a_resync():
    world, agent = World(), Teller()
    world.hear(agent.resync(node(cores=1)))
    stranger = Teller(uid="lease-b", sequence=4)
    counted = world.hear(stranger.all(node(cores=7), gone("n-0"), heartbeat(done=5)))

    assert not any(counted)
    assert (cores(world), world.cluster.done) == (1, 0)
    assert "not opened by a resync" in world.cluster.stale


def test_1_1_an_unknown_epoch_of_the_known_lease_changes_nothing_either():
    world = World()
    world.hear(Teller(epoch=1).resync(node(cores=1)))
    counted = world.hear([Teller(epoch=2, sequence=6).tell(node(cores=7))])

    assert counted == [False]
    assert cores(world) == 1
    assert world.cluster.stale


def test_1_1_every_event_counts_in_the_sequence_whatever_its_type():
    world, agent = World(), Teller()
    world.hear(agent.resync(node()))
    told = [agent.tell(event) for event in (heartbeat(), node("n-1"), seen("unknown"), gone("n-1"), heartbeat())]
    world.hear(told)

    assert world.cluster.reception.next == agent.sequence + 1
    assert world.cluster.reception.beyond == ()


def test_1_2_order_is_kept_for_each_object_so_that_a_late_event_of_one_is_no_news_of_it_alone():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("n-0"), node("n-1")))
    old_0, old_1, new_0 = agent.all(node("n-0", cores=1), node("n-1", cores=2), node("n-0", cores=4))

    assert world.hear([new_0, old_0, old_1]) == [True, False, True]
    assert cores(world) == 4 + 2


def test_1_2_the_same_event_again_changes_nothing():
    world, agent = World.holding(placed(2)), Teller()
    told = agent.resync(node(used=2, bound={"p": 1}), seen(version=1, live=2))
    world.hear(told)
    before = (world.cluster.held, world.placement())

    assert not any(world.hear(told))
    assert (world.cluster.held, world.placement()) == before


def test_1_2_a_deletion_is_a_row_that_an_older_observation_does_not_raise():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("n-0")))
    last, deletion = agent.all(node("n-0", cores=2), gone("n-0"))

    assert world.hear([deletion, last]) == [True, False]
    assert world.view.nodes["n-0"].gone
    assert cores(world) == 0


def test_1_2_a_deletion_that_comes_before_its_object_was_seen_keeps_it_away():
    world, agent = World(), Teller()
    world.hear(agent.resync())
    made, deletion = agent.all(node("n-9"), gone("n-9"))

    assert world.hear([deletion, made]) == [True, False]
    assert cores(world) == 0


def test_1_3_what_comes_within_the_window_is_no_gap():
    world, agent = World(), Teller()
    world.hear(agent.resync(node()))
    late = agent.tell(node("n-1"))
    world.hear(agent.all(*(heartbeat() for _ in range(WINDOW_EVENTS - 1))))
    world.hear([late])

    assert world.cluster.stale == ""
    assert "n-1" in world.view.nodes


def test_1_3_a_gap_of_so_many_events_makes_the_cluster_stale():
    world, agent = World(), Teller()
    world.hear(agent.resync(node()))
    agent.tell(node("lost"))
    world.hear(agent.all(*(heartbeat() for _ in range(WINDOW_EVENTS + 1))))

    assert "missing" in world.cluster.stale
    assert world.cluster.phase is ClusterPhase.READY


def test_1_3_a_gap_of_so_many_seconds_makes_the_cluster_stale():
    world, agent = World(), Teller()
    world.hear(agent.resync(node()))
    agent.tell(node("lost"))
    world.hear([agent.tell(heartbeat())], at_ms=NOW)
    within = world.cluster.stale
    world.hear([agent.tell(heartbeat())], at_ms=NOW + WINDOW_MS + 1)

    assert within == ""
    assert "missing" in world.cluster.stale


def test_1_3_a_parked_event_whose_sequence_could_be_read_is_no_gap():
    world, agent = World(), Teller()
    world.hear(agent.resync(node()))
    _, stamp = agent.tell(node("poison"))
    note_parked(world.view, stamp, NOW)
    world.hear(agent.all(*(heartbeat() for _ in range(WINDOW_EVENTS + 1))), at_ms=NOW + WINDOW_MS + 1)

    assert world.cluster.stale == ""


def test_1_3_a_gap_is_mended_by_a_resync_that_begins_after_it():
    world, agent = World(), Teller()
    world.hear(agent.resync(node()))
    agent.tell(node("lost", cores=2))
    world.hear(agent.all(*(heartbeat() for _ in range(WINDOW_EVENTS + 1))))
    world.hear(agent.resync(node(), node("lost", cores=2)))

    assert world.cluster.stale == ""
    assert cores(world) == 10


def test_1_4_an_unlisted_object_goes_only_if_its_row_is_older_than_the_start():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("old"), node("kept")))
    world.hear([agent.tell(ResyncStarted(cluster="east", resync="r"))])
    world.hear(agent.all(node("kept"), node("born")))
    world.hear([agent.tell(_finished("r", "kept"))])

    assert world.view.nodes["old"].gone
    assert not world.view.nodes["kept"].gone
    assert not world.view.nodes["born"].gone


def test_1_4_for_names_not_listed_sequences_below_the_finish_change_nothing_later():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("n-0")))
    never_known, buried_before = agent.all(node("n-8"), node("n-9"))
    world.hear([agent.tell(gone("n-7"))])
    late_of_buried = agent.tell(node("n-7"))
    world.hear(agent.resync(node("n-0")))

    assert world.hear([never_known, buried_before, late_of_buried]) == [False, False, False]
    assert cores(world) == 8


def test_1_4_an_old_tombstone_does_not_let_a_late_event_raise_what_a_resync_did_not_list():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("n-0"), node("n-1")))
    world.hear([agent.tell(gone("n-1"))])
    late = agent.tell(node("n-1"))
    world.hear(agent.resync(node("n-0")))

    assert world.hear([late]) == [False]
    assert world.view.nodes["n-1"].gone


def test_1_4_what_is_listed_and_was_not_seen_stays_as_it_was_and_keeps_the_cluster_stale():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("n-0", cores=2), node("n-1", cores=3)))
    started, first, second, finished = agent.resync(node("n-0", cores=4), node("n-1", cores=5))

    world.hear([started, first, finished])
    without = (cores(world), world.cluster.stale)
    world.hear([second])

    assert without == (4 + 3, "1 listed objects were not seen")
    assert (cores(world), world.cluster.stale) == (4 + 5, "")


def test_1_4_a_listed_object_that_was_made_again_counts_as_seen_only_once_it_is():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("n-0")))
    world.hear([agent.tell(ResyncStarted(cluster="east", resync="r")), agent.tell(gone("n-0"))])
    again = agent.tell(node("n-0", cores=2))
    world.hear([agent.tell(_finished("r", "n-0"))])
    between = world.cluster.stale
    world.hear([again])

    assert between == "1 listed objects were not seen"
    assert (world.cluster.stale, cores(world)) == ("", 2)


def test_1_4_what_was_told_before_the_start_does_not_count_as_told_in_the_resync():
    world, agent = World(), Teller()
    world.hear(agent.resync(node("n-0", cores=1)))
    early = agent.tell(node("n-0", cores=2))
    started, _lost, finished = agent.resync(node("n-0", cores=3))
    world.hear([started, finished, early])

    assert world.cluster.stale == "1 listed objects were not seen"


def test_1_4_a_resync_removes_observations_never_claims():
    world, agent = World.holding(placed(3)), Teller()
    world.hear(agent.resync(node(used=2, bound={"p": 2}), seen(version=1, live=3, observed=True, desired=3)))
    world.hear(agent.resync(node("n-1")))

    assert (world.placement().seen.live, world.placement().bound) == (0, 0)
    assert (world.placement().claim, world.cluster.held) == (3, {"cpu": 3000})


def test_1_4_an_ended_claim_goes_with_a_resync_that_does_not_list_it_and_was_read_after_its_last_order():
    world, agent = World.holding(placed(3).asking(gone_ask(2, order=7))), Teller()
    world.hear(agent.resync(node(), done=6))
    before = world.placement().released
    world.hear(agent.resync(node(), done=7))

    assert not before
    assert world.placement().released


def test_1_5_age_is_measured_from_the_append_so_that_a_late_hub_sees_its_lag_as_age():
    world, agent = World(), Teller()
    world.hear(agent.resync(node()), at_ms=NOW - 90_000)

    assert world.cluster.observed_ms == NOW - 90_000


def test_1_5_an_old_event_delivered_again_does_not_make_the_cluster_younger_or_older():
    world, agent = World(), Teller()
    told = agent.resync(node())
    world.hear(told, at_ms=NOW)
    world.hear(told, at_ms=NOW - 60_000)

    assert world.cluster.observed_ms == NOW


def test_1_5_silence_counts_only_up_to_when_the_consumer_last_stood_at_the_end():
    world, agent = World(), Teller()
    world.hear(agent.resync(node()), at_ms=NOW)

    assert not world.cluster.silent(NOW + 20_000, 30)
    assert not world.cluster.silent(NOW - 3_600_000, 30)
    assert world.cluster.silent(NOW + 31_000, 30)


def _finished(resync: str, *nodes: str) -> ResyncFinished:
    return ResyncFinished(cluster="east", resync=resync, nodes=nodes)
