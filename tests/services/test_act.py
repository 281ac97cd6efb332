"""What an agent does: orders in number order, each with one effect, written only onto exactly what was read."""

import asyncio
from typing import Any

from federation.domain.errors import Conflict, Unavailable
from federation.domain.events import (
    Envelope,
    PlacementObserved,
    PodName,
    PodsEvict,
    ResyncFinished,
    ResyncStarted,
    Stamp,
)
from federation.domain.records import Orders
from tests.services.agents import World, make_manifest, unwanted, virtually, wanted

STATEFUL_SET = {"apiVersion": "apps/v1", "kind": "StatefulSet"}


async def _unavailable() -> None:
    raise Unavailable("no answer")


async def _hang() -> None:
    await asyncio.sleep(1000)


def _add_foreign(world: World, **labels: str) -> Any:
    """An object of the same name that someone else has made."""
    manifest = make_manifest()
    manifest["metadata"] |= {"namespace": "shop", "labels": labels}
    world.cluster.namespaces.setdefault("shop", "shop")
    return world.cluster.apply(manifest, "", "")


# --- 4.1 -------------------------------------------------------------------------------------------------------------


@virtually
async def test_4_1_done_is_stored_before_the_next_order_begins():
    world = World()

    async with world.running():
        for version in range(1, 5):
            await world.order(wanted(version, replicas=version))
        await world.until(lambda: world.finished(4))

    writes = [call for call in world.calls if call in ("apply", "store_orders")]
    # The first store is that of the hub's generation.
    assert writes == ["store_orders", *["apply", "store_orders"] * 4]
    assert world.cluster.orders == Orders(1, 4)


@virtually
async def test_4_1_orders_of_different_placements_run_side_by_side():
    world = World()
    active, most = 0, 0

    async def slow() -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(1)
        active -= 1

    world.hooks["apply"] = slow

    async with world.running():
        for number in range(1, 7):
            await world.order(wanted(number, placement=f"p{number}", name=f"web-{number}"))
        await world.until(lambda: world.finished(6))

    assert 1 < most <= 8


@virtually
async def test_4_1_a_missing_number_blocks_until_it_is_sent_again():
    world = World()

    async with world.running():
        await world.order(wanted(2, replicas=3))
        await world.pass_time(30)
        blocked = world.object()
        await world.order(wanted(1))
        await world.until(lambda: world.finished(2))

    assert blocked is None
    assert world.object().replicas == 3


@virtually
async def test_4_1_an_order_that_comes_again_has_no_second_effect():
    world = World()

    async with world.running():
        await world.order(wanted(1))
        await world.order(wanted(2, replicas=3))
        await world.until(lambda: world.finished(2))
        for _ in range(3):
            await world.order(wanted(1))
            await world.order(wanted(2, replicas=3))
        await world.pass_time(10)

    assert world.count("apply") == 2
    assert world.object().replicas == 3


@virtually
async def test_4_1_after_a_restart_orders_are_read_from_the_beginning_and_those_done_are_skipped():
    world = World()

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: world.finished(1))
    async with world.running():
        await world.order(wanted(2, replicas=3))
        await world.until(lambda: world.finished(2))

    assert world.count("apply") == 2


@virtually
async def test_4_5_killed_between_doing_and_saying_the_agent_does_it_again_with_one_effect():
    world = World()
    world.cluster.orders = Orders(1, 0)
    world.hooks["store_orders"] = _unavailable

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: world.object())
        await world.pass_time(1)
    version_before = world.object().rv
    del world.hooks["store_orders"]
    async with world.running():
        await world.until(lambda: world.finished(1))

    assert world.cluster.orders == Orders(1, 1)
    assert world.count("apply") == 1
    assert world.object().generation == 1
    assert version_before > 0


@virtually
async def test_a_write_whose_answer_was_lost_has_one_effect():
    world = World()
    lost = 0

    async def lose(verb: str) -> None:
        nonlocal lost
        if verb == "apply" and lost < 2:
            lost += 1
            raise Unavailable("the answer was lost")

    world.gateway.faults.after = lose

    async with world.running():
        await world.order(wanted(1))
        await world.order(wanted(2, replicas=4))
        await world.until(lambda: world.finished(2))

    assert world.finished(1).outcome == world.finished(2).outcome == "applied"
    assert world.object().replicas == 4
    assert len(world.cluster.objects) == 1


# --- 4.3 -------------------------------------------------------------------------------------------------------------


@virtually
async def test_4_3_an_object_of_someone_else_is_never_taken_over():
    world = World()
    foreign = _add_foreign(world)

    async with world.running():
        await world.order(wanted(1, replicas=7))
        await world.until(lambda: world.finished(1))
        await world.until(lambda: world.placement())

    assert world.finished(1).outcome == "refused"
    assert "NotOurs" in world.finished(1).reason
    assert foreign.replicas == 1
    assert (world.placement().refused.count, world.placement().version) == (7, 0)
    assert "NotOurs" in world.placement().refused.reason


@virtually
async def test_4_3_a_creating_apply_never_takes_over_an_object_that_came_in_between():
    world = World()

    async def race() -> None:
        if not world.object():
            _add_foreign(world)

    world.hooks["apply"] = race

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: world.finished(1))

    assert world.finished(1).outcome == "refused"
    assert world.object().placement == ""


@virtually
async def test_4_3_an_object_that_changed_since_it_was_read_is_read_again():
    world = World()
    raced = 0

    async def race() -> None:
        nonlocal raced
        if world.object() and raced < 3:
            raced += 1
            world.cluster.touch_object(world.object())

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: world.finished(1))
        world.hooks["apply"] = race
        await world.order(wanted(2, replicas=5))
        await world.until(lambda: world.finished(2))

    assert (raced, world.finished(2).outcome, world.object().replicas) == (3, "applied", 5)


@virtually
async def test_4_3_an_object_as_new_as_the_order_is_left_alone():
    world = World()

    async with world.running():
        await world.order(wanted(1, version=5, replicas=5))
        await world.order(wanted(2, version=4, replicas=1))
        await world.until(lambda: world.finished(2))

    assert world.finished(2).outcome == "applied"
    assert world.object().replicas == 5


@virtually
async def test_4_3_a_terminating_object_is_waited_for():
    world = World()
    world.cluster.hold("collector")

    async with world.running():
        await world.order(wanted(1))
        await world.order(unwanted(2))
        await world.order(wanted(3, placement="p2", replicas=3))
        await world.until(lambda: world.finished(2))
        await world.pass_time(20)
        waiting = world.finished(3)
        world.cluster.release("collector")
        await world.until(lambda: world.finished(3))

    assert waiting is None
    assert world.finished(3).outcome == "applied"
    assert (world.object().placement, world.object().replicas) == ("p2", 3)


@virtually
async def test_4_3_one_that_keeps_terminating_fails_its_order_and_holds_up_no_other():
    world = World()
    world.cluster.hold("collector")

    async with world.running():
        await world.order(wanted(1))
        await world.order(unwanted(2))
        await world.order(wanted(3, placement="p2"))
        await world.order(wanted(4, placement="p3", name="other"))
        await world.until(lambda: world.object("other"))
        stored_meanwhile = world.cluster.orders.done
        await world.until(lambda: world.finished(4), 200)
        await world.until(lambda: world.placement("p2").refused.count == 2)

    assert stored_meanwhile == 2
    assert world.finished(3).outcome == "failed"
    assert "terminating" in world.finished(3).reason
    assert world.cluster.orders.done == 4


@virtually
async def test_4_3_evictions_carry_the_uid_of_the_pod():
    world = World()

    async with world.running():
        await world.order(wanted(1, replicas=3))
        await world.until(lambda: (p := world.placement()) and p.ready == 3)
        pods = world.live_pods()
        names = (PodName(name=pods[0].name, uid=pods[0].uid), PodName(name=pods[1].name, uid="a-pod-of-old"))
        await world.order(PodsEvict(order=2, generation=1, placement="p1", version=2, pods=names))
        await world.until(lambda: world.finished(2))
        await world.until(lambda: world.placement().ready == 3)

    uids = {pod.uid for pod in world.live_pods()}
    assert world.finished(2).outcome == "applied"
    assert pods[0].uid not in uids
    assert {pods[1].uid, pods[2].uid} <= uids


@virtually
async def test_an_eviction_that_a_budget_forbids_is_tried_again_and_fails_in_the_end():
    world = World()
    world.cluster.budgets["p1"] = 1

    async with world.running():
        await world.order(wanted(1, replicas=1))
        await world.until(lambda: (p := world.placement()) and p.ready == 1)
        pod = world.live_pods()[0]
        names = (PodName(name=pod.name, uid=pod.uid),)
        await world.order(PodsEvict(order=2, generation=1, placement="p1", version=2, pods=names))
        await world.until(lambda: world.finished(2), 200)

    assert world.finished(2).outcome == "failed"
    assert world.live_pods()[0].uid == pod.uid


@virtually
async def test_4_3_a_write_is_not_begun_once_the_lease_may_run_out_before_its_end():
    world = World()

    async with world.running(world.parts(lease_seconds=15.0, call_seconds=8.0)):
        await world.until(lambda: world.events(ResyncFinished))
        world.hooks["lease"] = _hang
        await world.pass_time(13)
        await world.order(wanted(1))
        await world.pass_time(30)
        written = world.count("apply")
        del world.hooks["lease"]
        await world.until(lambda: world.finished(1), 60)

    assert written == 0


@virtually
async def test_4_3_unwanted_deletes_up_to_its_version_and_no_newer():
    world = World()

    async with world.running():
        await world.order(wanted(1, version=5))
        await world.order(unwanted(2, version=4))
        await world.until(lambda: world.finished(2))
        still = world.object()
        await world.order(unwanted(3, version=6))
        await world.until(lambda: (p := world.placement()) and p.gone)

    assert still is not None
    assert world.finished(2).outcome == "applied"
    assert world.object() is None


@virtually
async def test_4_3_pods_that_lost_their_object_are_deleted_by_unwanted():
    world = World()

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: (p := world.placement()) and p.ready == 2)
        _orphan(world)
        await world.order(unwanted(2))
        await world.until(lambda: world.placement().gone)

    assert world.live_pods() == []


def _orphan(world: World) -> None:
    """Object and ReplicaSets are deleted without their pods."""
    cluster = world.cluster
    for uid in list(cluster.objects):
        found = cluster.objects.pop(uid)
        cluster.uids.pop(found.key, None)
        cluster.touch("objects", uid)
    cluster.replica_sets.clear()
    cluster._sets.clear()


# --- 3.5, 3.7: floors and autoscalers --------------------------------------------------------------------------------


@virtually
async def test_3_5_a_floor_never_falls_below_what_is_bound():
    world = World(nodes=1, cores=2)

    async with world.running():
        await world.order(wanted(1, replicas=8))
        await world.until(lambda: (p := world.placement()) and p.bound == 4)
        await world.order(wanted(2, replicas=1, floor_at_bound=True))
        await world.until(lambda: world.finished(2))
        await world.until(lambda: world.placement().version == 2)

    assert world.object().replicas == 4
    assert world.placement().desired == 4


@virtually
async def test_3_5_a_floor_never_raises_the_replicas():
    world = World()

    async with world.running():
        await world.order(wanted(1, replicas=2))
        await world.until(lambda: (p := world.placement()) and p.bound == 2)
        await world.order(wanted(2, replicas=6, floor_at_bound=True))
        await world.until(lambda: world.finished(2))

    assert world.object().replicas == 2


@virtually
async def test_3_5_a_floor_creates_nothing():
    world = World()

    async with world.running():
        await world.order(wanted(1, replicas=2, floor_at_bound=True))
        await world.until(lambda: world.finished(1))

    assert world.object() is None
    assert world.count("apply") == 0


@virtually
async def test_3_5_a_stateful_set_with_bound_pods_is_left_whole_by_a_floor():
    world = World(nodes=1, cores=1)
    manifest = {**make_manifest(), **STATEFUL_SET}

    async with world.running():
        await world.order(wanted(1, replicas=5, manifest=manifest))
        await world.until(lambda: (p := world.placement()) and p.bound == 2)
        await world.order(wanted(2, replicas=0, floor_at_bound=True, manifest=manifest))
        await world.until(lambda: world.finished(2))

    assert world.object().replicas == 5


@virtually
async def test_3_7_replicas_that_an_autoscaler_owns_are_left_to_it():
    world = World()

    async with world.running():
        await world.order(wanted(1, replicas=2))
        await world.until(lambda: world.finished(1))
        world.object().autoscaler = (1, 9)
        world.object().scaled = 6
        await world.order(wanted(2, replicas=3, manifest=make_manifest(terminationGracePeriodSeconds=5)))
        await world.until(lambda: world.finished(2))

    assert world.object().replicas == 6
    assert "replicas" not in world.object().spec


# --- 4.4, 4.6: what is written ---------------------------------------------------------------------------------------


@virtually
async def test_4_4_versions_stand_on_the_object_and_never_on_the_pods():
    world = World()

    async with world.running():
        await world.order(wanted(1, version=3))
        await world.until(lambda: world.finished(1))

    metadata, template = world.object().manifest["metadata"], world.object().spec["template"]["metadata"]
    assert metadata["annotations"] == {
        "federation.io/version": "3",
        "federation.io/generation": "1",
        "federation.io/workload": "web",
    }
    ours = {"federation.io/placement": "p1", "federation.io/revision": "1"}
    assert metadata["labels"] == {"app": "web", "federation.io/team": "shop", **ours}
    assert template["labels"] == {"app": "web", **ours}
    assert "annotations" not in template


@virtually
async def test_4_4_a_scale_does_not_change_the_template():
    world = World()

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: (p := world.placement()) and p.ready == 2)
        before = {pod.uid for pod in world.live_pods()}
        await world.order(wanted(2, replicas=3))
        await world.until(lambda: world.placement().ready == 3)

    assert before < {pod.uid for pod in world.live_pods()}


@virtually
async def test_4_6_kinds_and_namespaces_off_the_allow_list_are_refused():
    world = World()
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {}}

    async with world.running(world.parts(namespaces=frozenset({"shop", "kube-system"}))):
        await world.order(wanted(1, manifest=role))
        await world.order(wanted(2, namespace="kube-system"))
        await world.order(wanted(3, namespace="elsewhere"))
        await world.order(wanted(4, name="../../secrets/x"))
        await world.until(lambda: world.finished(4))

    assert [world.finished(number).outcome for number in range(1, 5)] == ["refused"] * 4
    assert "not allowed" in world.finished(1).reason
    assert world.cluster.objects == {}


@virtually
async def test_what_the_server_refuses_is_told_in_its_words_and_does_not_block():
    world = World()
    broken = make_manifest()
    broken["spec"]["selector"] = {"matchLabels": {"app": "another"}}

    async with world.running():
        await world.order(wanted(1, replicas=4, manifest=broken))
        await world.order(wanted(2, placement="p2", name="other"))
        await world.until(lambda: world.finished(2))
        await world.until(lambda: world.placement())
        refused = world.placement().refused
        await world.order(wanted(3, replicas=4))
        await world.until(lambda: (p := world.placement()) and p.ready == 4)

    assert world.finished(1).outcome == "refused"
    assert (refused.count, "selector" in refused.reason) == (4, True)
    assert world.finished(2).outcome == "applied"
    assert world.placement().refused.count == 0


@virtually
async def test_a_refused_placement_is_told_again_by_a_resync():
    world = World()
    _add_foreign(world)

    async with world.running():
        await world.order(wanted(1, replicas=7))
        await world.until(lambda: world.finished(1))
        await world.until(lambda: [e for e in world.events(ResyncFinished) if e.done == 1 or e.placements])
        last = world.events(ResyncFinished)[-1]

    assert last.placements == ("p1",)
    assert world.placement().refused.count == 7


# --- generations -----------------------------------------------------------------------------------------------------


@virtually
async def test_6_orders_of_an_older_generation_are_dropped():
    world = World()
    world.cluster.orders = Orders(5, 0)

    async with world.running():
        await world.order(wanted(1, generation=4))
        await world.pass_time(5)
        await world.order(wanted(1, generation=5, replicas=3))
        await world.until(lambda: world.finished(1))

    assert world.count("apply") == 1
    assert world.object().replicas == 3


@virtually
async def test_6_a_newer_generation_is_stored_first_and_then_the_inventory_is_told():
    world = World()

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: (p := world.placement()) and p.ready == 2)
        before = len(world.events(ResyncStarted))
        await world.order(wanted(1, version=7, generation=2, replicas=3))
        await world.until(lambda: world.object().replicas == 3)
        await world.until(lambda: [e for e in world.events(ResyncFinished) if e.generation == 2])

    told = world.events()[world.events().index(world.events(ResyncStarted)[before]) :]
    inventory = [event for event in told if isinstance(event, PlacementObserved)]
    writes = [call for call in world.calls if call in ("apply", "store_orders")]
    assert inventory[0].generation == 2
    assert writes == ["store_orders", "apply", "store_orders", "store_orders", "apply", "store_orders"]
    assert world.cluster.orders == Orders(2, 1)


# --- poison, outages, bugs -------------------------------------------------------------------------------------------


@virtually
async def test_an_order_that_cannot_be_read_is_refused_by_its_number():
    world = World()
    envelope = Envelope(id="x", type="federation.placement.wanted.v1", source="/hub")
    unknown = Envelope(id="y", type="federation.grant.wanted.v1", source="/hub")

    async with world.running():
        await world.order_raw(envelope, b"\xff not json")
        await world.order_raw(
            envelope, b'{"order": 1, "generation": 1, "placement": "p1", "version": 1, "replicas": -4}'
        )
        await world.order_raw(unknown, b'{"order": 2, "generation": 1}')
        await world.order(wanted(3))
        await world.until(lambda: world.finished(3))

    assert [world.finished(number).outcome for number in (1, 2, 3)] == ["refused", "refused", "applied"]


@virtually
async def test_orders_of_anyone_but_the_hub_are_not_carried_out():
    world = World()
    stamp = Stamp("uid", 1, 1)
    envelope = Envelope(id="x", type="federation.placement.wanted.v1", source="/clusters/east/agent", stamp=stamp)

    async with world.running():
        await world.order_raw(envelope, b'{"order": 1, "generation": 1, "placement": "p1", "version": 1}')
        await world.order(wanted(1))
        await world.until(lambda: world.finished(1))

    assert world.finished(1).outcome == "applied"


@virtually
async def test_an_outage_of_the_api_server_only_delays():
    world = World()

    async with world.running():
        await world.until(lambda: world.events(ResyncFinished))
        for verb in ("lease", "list", "get", "apply", "store_orders", "namespace"):
            world.hooks[verb] = _unavailable
        await world.order(wanted(1))
        await world.pass_time(300)
        world.hooks.clear()
        await world.until(lambda: (p := world.placement()) and p.ready == 2, 60)

    assert world.finished(1).outcome == "applied"


@virtually
async def test_an_order_that_the_server_fails_for_alone_ends_as_failed_and_the_next_goes_on():
    world = World()

    async def fail_for_one() -> None:
        if "other" not in {found.name for found in world.cluster.objects.values()}:
            raise Unavailable("the webhook does not answer")

    async with world.running():
        world.hooks["get"] = fail_for_one
        await world.order(wanted(1))
        await world.until(lambda: world.finished(1), 400)
        world.hooks.clear()
        await world.order(wanted(2, placement="p2", name="other"))
        await world.until(lambda: world.finished(2))

    assert world.finished(1).outcome == "failed"
    assert world.finished(2).outcome == "applied"


@virtually
async def test_a_bug_met_in_one_order_stops_neither_the_loop_nor_the_others():
    world = World()

    async def bug() -> None:
        raise RuntimeError("unexpected")

    parts = world.parts(tries=3)

    async with world.running(parts):
        world.hooks["apply"] = bug
        await world.order(wanted(1))
        await world.until(lambda: world.finished(1))
        world.hooks.clear()
        await world.order(wanted(2))
        await world.until(lambda: world.finished(2))

    assert (world.finished(1).outcome, world.finished(2).outcome) == ("failed", "applied")
    assert parts.counts.errors == 3
    assert world.sequences() == list(range(1, len(world.sequences()) + 1))


@virtually
async def test_an_outage_of_the_log_only_delays_orders():
    world = World()

    async with world.running():
        await world.order(wanted(1))
        await world.until(lambda: world.finished(1))
        world.log.stop()
        await world.pass_time(60)
        world.log.start()
        await world.order(wanted(2, replicas=3))
        await world.until(lambda: (p := world.placement()) and p.ready == 3)

    assert world.finished(2).outcome == "applied"


@virtually
async def test_conflicts_without_end_fail_the_order_after_bounded_tries():
    world = World()

    async def always() -> None:
        raise Conflict("it changed again")

    async with world.running(world.parts(tries=5)):
        world.hooks["apply"] = always
        await world.order(wanted(1))
        await world.until(lambda: world.finished(1), 60)

    assert world.finished(1).outcome == "failed"
    assert world.count("apply") == 5
