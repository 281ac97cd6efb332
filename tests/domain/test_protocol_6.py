"""Protocol section 6: a restored database is behind the world; each rule by the interleaving that it came from."""

from msgspec.structs import replace

from federation.domain.adoption import MAX_ORPHANS, awaiting
from federation.domain.cluster import Cluster
from federation.domain.events import ResyncFinished, ResyncStarted
from federation.domain.folding import ClusterFold
from federation.domain.placement import COMPLETE, Placement, Seen
from federation.planner.filters import refusal
from tests.builders import make_cluster, make_spec
from tests.domain.builders_core import NOW, Teller, World, ask, gone_ask, heartbeat, node, placed, recounted, seen

NEW = 7


def restored(*placements: Placement) -> tuple[World, Teller]:
    """A hub whose backup held *placements*, restored; its cluster was sound, and its agent goes on in its epoch."""
    world, agent = World.holding(*placements), Teller()
    world.hear(agent.resync(node(cores=32), heartbeat(done=9)))
    world.view = ClusterFold(awaiting(world.cluster, NEW), world.view.nodes, world.view.placements, generation=NEW)
    return world, agent


def tell_inventory(world: World, agent: Teller, *events: object, generation: int = NEW) -> None:
    told = [replace(event, generation=generation, done=1) for event in events]  # type: ignore[type-var]
    beat = heartbeat(done=1, generation=generation)
    names = ("n-0",)
    placements = tuple(event.placement for event in told)  # type: ignore[attr-defined]
    resync = f"r-{agent.sequence}"
    finished = ResyncFinished(
        cluster="east", resync=resync, generation=generation, done=1, nodes=names, placements=placements
    )
    world.hear(agent.all(ResyncStarted(cluster="east", resync=resync), node(cores=32), *told, beat, finished))


def in_force(version: int, desired: int, live: int, **fields: object) -> object:
    return seen(
        version=version, observed=True, revision="1", desired=desired, live=live, requests={"cpu": "1"}, **fields
    )


def test_6_what_was_scaled_after_the_backup_is_adopted_at_the_higher_version_and_claims_all_it_may_have():
    world, agent = restored(placed(3))
    tell_inventory(world, agent, in_force(version=4, desired=8, live=5))

    adopted = world.placement()
    assert (adopted.version, adopted.claim, adopted.wanted, adopted.found) == (4, 8, 8, True)
    assert world.cluster.held == {"cpu": 8000} == recounted(world.view)[2]
    assert not world.cluster.awaits


def test_6_what_was_scaled_down_after_the_backup_claims_its_pods_until_they_are_gone():
    world, agent = restored(placed(9))
    tell_inventory(world, agent, in_force(version=2, desired=2, live=9))
    before = world.placement().claim

    world.hear([agent.tell(replace(in_force(version=2, desired=2, live=2, updated=2), generation=NEW, done=1))])  # type: ignore[type-var]

    assert (before, world.placement().claim) == (9, 2)


def test_6_what_is_as_it_was_decided_is_adopted_and_not_planned_again():
    world, agent = restored(placed(3))
    tell_inventory(world, agent, in_force(version=1, desired=3, live=3))

    assert (world.placement().found, world.placement().adopted) == (False, NEW)


def test_6_an_inventory_read_before_the_agent_stored_the_generation_does_not_count():
    world, agent = restored(placed(3))
    tell_inventory(world, agent, in_force(version=1, desired=3, live=3), generation=1)

    assert world.cluster.awaits == NEW
    assert world.placement().adopted == 0


def test_6_the_end_of_a_resync_in_the_new_generation_does_not_vouch_for_what_was_told_in_the_old():
    world, agent = restored(placed(3))
    old = replace(in_force(version=2, desired=3, live=3), generation=1, done=9)  # type: ignore[type-var]
    finished = ResyncFinished(cluster="east", resync="r", generation=NEW, done=0, nodes=("n-0",), placements=("p",))
    world.hear(agent.all(ResyncStarted(cluster="east", resync="r"), node(cores=32), old, finished))

    assert world.cluster.awaits == NEW
    tell_inventory(world, agent, in_force(version=3, desired=5, live=5))
    assert (world.cluster.awaits, world.placement().claim) == (0, 5)


def test_6_what_its_controllers_have_not_observed_is_not_adopted_yet_and_keeps_the_inventory_open():
    world, agent = restored(placed(3))
    tell_inventory(world, agent, replace(in_force(version=4, desired=8, live=3), observed=False))  # type: ignore[type-var]
    open_still = (world.cluster.awaits, world.placement().adopted)

    tell_inventory(world, agent, in_force(version=4, desired=8, live=8))

    assert open_still == (NEW, 0)
    assert (world.cluster.awaits, world.placement().claim) == (0, 8)


def test_6_what_terminates_is_not_adopted_before_it_is_gone():
    world, agent = restored(replace(placed(3).asking(gone_ask(2, 5)), stamp=(0, 0, 0)))
    tell_inventory(world, agent, seen(version=1, observed=False, live=2))
    open_still = world.cluster.awaits

    tell_inventory(world, agent, seen(gone=True))

    assert (open_still, world.cluster.awaits) == (NEW, 0)
    assert world.placement().released
    assert world.cluster.held == {}


def test_6_what_was_ended_and_stands_is_taken_back_to_be_ended_anew():
    world, agent = restored(placed(3).asking(gone_ask(2, 5)))
    tell_inventory(world, agent, in_force(version=1, desired=3, live=3))

    adopted = world.placement()
    assert (adopted.ended, adopted.found, adopted.version, adopted.claim) == (False, True, 2, 3)


def test_6_an_order_of_the_old_generation_done_after_the_backup_gives_no_claim_back():
    world, agent = restored(placed(3).asking(gone_ask(2, 5)))
    world.hear([agent.tell(seen(gone=True, generation=1, done=9))])

    assert not world.placement().released
    assert world.cluster.held == {"cpu": 3000}


def test_6_what_is_not_there_any_more_claims_nothing_and_is_planned_again():
    world, agent = restored(placed(3))
    tell_inventory(world, agent)

    absent = world.placement()
    assert (absent.claim, absent.ended, absent.found, world.cluster.awaits) == (0, False, True, 0)
    assert world.cluster.held == {}


def test_6_a_job_that_was_done_stays_done_though_its_object_is_gone():
    done = replace(placed(3, completions=3), seen=Seen(version=1, condition=COMPLETE, succeeded=3))
    world, agent = restored(done)
    tell_inventory(world, agent)

    assert (world.placement().finished, world.placement().found) == (True, False)


def test_6_a_rollout_that_runs_keeps_its_surge_until_it_is_over():
    world, agent = restored(placed(4))
    tell_inventory(world, agent, in_force(version=3, desired=4, live=5, updated=1))
    during = world.placement().claim

    world.hear([agent.tell(replace(in_force(version=3, desired=4, live=4, updated=4), generation=NEW, done=1))])  # type: ignore[type-var]

    assert (during, world.placement().claim) == (5, 4)


def test_6_what_the_database_does_not_know_is_put_before_the_operator_and_the_cluster_goes_on():
    world, agent = restored()
    stranger = in_force(version=1, desired=2, live=2)
    stranger = replace(stranger, placement="q", workload="api", team="shop", namespace="shop", name="api")  # type: ignore[type-var]
    tell_inventory(world, agent, stranger)

    (orphan,) = world.cluster.orphans
    assert (orphan.placement, orphan.workload, orphan.team, orphan.replicas) == ("q", "api", "shop", 2)
    assert not world.cluster.awaits


def test_6_an_orphan_leaves_the_list_when_it_is_gone():
    world, agent = restored()
    tell_inventory(world, agent, replace(in_force(version=1, desired=2, live=2), placement="q"))  # type: ignore[type-var]
    world.hear([agent.tell(seen("q", gone=True, generation=NEW, done=1))])

    assert world.cluster.orphans == ()


def test_6_an_orphan_that_its_controllers_have_not_observed_keeps_the_inventory_open():
    world, agent = restored()
    tell_inventory(world, agent, replace(in_force(version=1, desired=2, live=0), placement="q", observed=False))  # type: ignore[type-var]

    assert world.cluster.awaits == NEW


def test_6_more_orphans_than_the_list_holds_are_counted():
    world, agent = restored()
    strangers = [replace(in_force(version=1, desired=1, live=1), placement=f"q-{n}") for n in range(MAX_ORPHANS + 3)]  # type: ignore[type-var]
    tell_inventory(world, agent, *strangers)

    assert (len(world.cluster.orphans), world.cluster.more_orphans) == (MAX_ORPHANS, 3)
    assert not world.cluster.awaits


def test_6_a_listed_object_that_was_not_told_keeps_the_inventory_open():
    world, agent = restored(placed(3))
    finished = ResyncFinished(cluster="east", resync="r", generation=NEW, done=1, nodes=("n-0",), placements=("p", "q"))
    world.hear(agent.all(ResyncStarted(cluster="east", resync="r"), node(cores=32), finished))

    assert (world.cluster.awaits, world.placement().claim) == (NEW, 3)


def test_6_an_inventory_that_stays_open_is_asked_for_at_growing_intervals():
    world, agent = restored(placed(3))
    world.view.cluster = replace(world.cluster, reception=replace(world.cluster.reception, resync_tries=4))
    tell_inventory(world, agent, replace(in_force(version=4, desired=8, live=3), observed=False))  # type: ignore[type-var]

    assert world.cluster.reception.resync_tries == 4


def test_6_orders_begin_anew_and_the_cluster_cannot_be_chosen_meanwhile():
    before = Cluster(name="east", generation=3, done=44, next_order=60)
    after = awaiting(before, NEW)
    told = refusal(make_spec(), replace(make_cluster().cluster, awaits=NEW), False)

    assert (after.next_order, after.generation, after.done) == (1, 3, 44)
    assert after.definition > before.definition
    assert told == ("not adopted", "restored: its inventory has not been adopted yet")


def test_6_where_a_request_cannot_be_read_the_size_that_was_decided_counts():
    world, agent = restored(placed(3))
    tell_inventory(world, agent, replace(in_force(version=4, desired=8, live=8), requests={"cpu": "much"}))  # type: ignore[type-var]

    assert (world.placement().claim, world.cluster.held) == (8, {"cpu": 8000})


def test_6_an_adopted_claim_stands_until_its_successor_is_in_force():
    world, agent = restored(placed(3))
    tell_inventory(world, agent, in_force(version=4, desired=8, live=8))
    world.commit(world.placement().recalled().asking(ask(5, 2)).numbered(5, 2, NOW))
    sent = world.placement().claim
    world.hear([agent.tell(replace(in_force(version=5, desired=2, live=2, updated=2), generation=NEW, done=2))])  # type: ignore[type-var]

    assert (sent, world.placement().claim, world.placement().found) == (8, 2, False)
