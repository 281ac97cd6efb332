"""The agent's inventory: sums kept change by change are those that counting afresh would give."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from federation.domain.events import BoundPlacement, UnboundPods
from federation.domain.inventory import MAX_RESOURCES, MAX_SHAPES, Inventory
from federation.domain.member import (
    Change,
    Listed,
    MemberNode,
    MemberObject,
    MemberPod,
    NodeChanged,
    NodeDeleted,
    ObjectChanged,
    ObjectDeleted,
    ObjectKey,
    PodChanged,
    PodDeleted,
    Relisted,
)
from federation.domain.resources import add, format_amounts
from federation.domain.tally import Reading, listed_view, placement_observed


def make_node(name: str = "n-1", **fields: Any) -> NodeChanged:
    return NodeChanged(MemberNode(name=name, allocatable={"cpu": "8", "memory": "32Gi", "pods": "110"}, **fields))


def make_pod(uid: str, **fields: Any) -> PodChanged:
    return PodChanged(MemberPod(**{"uid": uid, "namespace": "shop", "name": uid, "requests": {"cpu": 500}, **fields}))


def make_object(uid: str = "o-1", **fields: Any) -> ObjectChanged:
    base = {"placement": "p1", "version": 1, "revision": "1", "replicas": 2, "observed": True, "resource_version": "1"}
    return ObjectChanged(
        MemberObject(key=ObjectKey("apps/v1/Deployment", "shop", "web"), uid=uid, **{**base, **fields})
    )


def make_inventory(*changes: Change) -> Inventory:
    inventory = Inventory("east")
    inventory.apply(changes)
    inventory.take_dirty()
    return inventory


def listing(kind: str, changes: Iterable[Change]) -> Sequence[Change]:
    return [Relisted(kind), *changes, Listed(kind)]


def test_requested_counts_terminating_pods_and_not_those_that_have_ended():
    inventory = make_inventory(
        make_node(),
        make_pod("a", node="n-1", phase="Running"),
        make_pod("b", node="n-1", phase="Running", terminating=True),
        make_pod("c", node="n-1", phase="Succeeded"),
        make_pod("d"),
    )

    event = inventory.node_observed("n-1")

    assert event is not None
    assert event.requested == {"cpu": "1", "pods": "2"}


def test_bound_is_by_placement_and_revision_and_leaves_out_what_goes():
    inventory = make_inventory(
        make_node(),
        make_pod("a", node="n-1", placement="p1", revision="1"),
        make_pod("b", node="n-1", placement="p1", revision="2"),
        make_pod("c", node="n-1", placement="p1", revision="2", terminating=True),
        make_pod("d", node="n-1", placement="p1", revision="2", phase="Failed"),
    )

    event = inventory.node_observed("n-1")

    assert event is not None
    assert event.placements == (
        BoundPlacement(placement="p1", revision="1", bound=1),
        BoundPlacement(placement="p1", revision="2", bound=1),
    )


def test_a_placement_is_told_with_its_object_and_its_pods():
    inventory = make_inventory(
        make_object(replicas=4, revision="2", refusal="quota exceeded"),
        make_pod("a", node="n-1", placement="p1", revision="2", ready=True),
        make_pod("b", node="n-1", placement="p1", revision="1"),
        make_pod("c", placement="p1", revision="2", unschedulable="insufficient cpu"),
    )

    event = placement_observed("east", "p1", inventory.view("p1"), Reading(generation=1, done=7))

    assert (event.version, event.observed, event.desired, event.done) == (1, True, 4, 7)
    assert (event.live, event.bound, event.ready, event.updated) == (3, 2, 1, 1)
    assert (event.unschedulable.count, event.unschedulable.reason) == (1, "insufficient cpu")
    assert (event.refused.count, event.refused.reason) == (1, "quota exceeded")


def test_an_object_that_is_terminating_desires_nothing_and_is_not_observed():
    inventory = make_inventory(make_object(terminating=True))

    event = placement_observed("east", "p1", inventory.view("p1"), Reading())

    assert (event.version, event.desired, event.observed) == (1, 0, False)


def test_an_object_that_stays_stands_for_its_placement_before_one_that_goes():
    inventory = make_inventory(make_object("old", version=5, terminating=True), make_object("new", version=4))

    view = inventory.view("p1")

    assert view.object is not None
    assert view.object.uid == "new"


def test_unbound_pods_are_those_of_others_by_shape():
    inventory = make_inventory(
        make_pod("a"),
        make_pod("b", unschedulable="no room"),
        make_pod("ours", placement="p1"),
        make_pod("bound", node="n-1"),
        make_pod("going", terminating=True),
        make_pod("done", phase="Failed"),
    )

    assert inventory.unbound() == (UnboundPods(requests={"cpu": "500m"}, count=2, unschedulable=1),)


def test_shapes_beyond_the_bound_are_told_as_one_that_is_as_large_as_any():
    pods = [make_pod(f"pod-{size}", requests={"cpu": size}) for size in range(1, MAX_SHAPES + 10)]
    inventory = make_inventory(*pods)

    unbound = inventory.unbound()

    assert len(unbound) == MAX_SHAPES
    assert sum(pods.count for pods in unbound) == MAX_SHAPES + 9
    assert unbound[-1].requests == {"cpu": f"{MAX_SHAPES + 9}m"}


def test_a_node_with_more_resources_than_an_event_may_name_keeps_those_that_everyone_needs():
    allocatable = {**{f"example.com/{index}": "1" for index in range(100)}, "cpu": "1", "memory": "1Gi", "pods": "1"}
    inventory = make_inventory(NodeChanged(MemberNode(name="n-1", allocatable=allocatable)))

    event = inventory.node_observed("n-1")

    assert event is not None
    assert len(event.allocatable) == MAX_RESOURCES
    assert {"cpu", "memory", "pods"} <= event.allocatable.keys()


def test_what_a_listing_does_not_tell_again_is_removed_when_it_is_complete():
    inventory = make_inventory(make_node("n-1"), make_node("n-2"), make_pod("a", node="n-1"), make_pod("b", node="n-1"))

    inventory.apply([Relisted("pods"), make_pod("a", node="n-1")])
    during = inventory.node_observed("n-1")
    inventory.apply([Listed("pods"), *listing("nodes", [make_node("n-1")])])
    after = inventory.node_observed("n-1")

    assert during is not None
    assert after is not None
    assert (during.requested["pods"], after.requested["pods"]) == ("2", "1")
    assert list(inventory.nodes()) == ["n-1"]
    assert inventory.take_dirty().nodes == {"n-1", "n-2"}


def test_an_object_that_a_listing_does_not_tell_again_leaves_its_placement():
    inventory = make_inventory(make_object(), make_pod("a", placement="p1"))

    inventory.apply([*listing("objects", []), PodDeleted("a")])

    assert inventory.view("p1").absent
    assert list(inventory.placements()) == []
    assert inventory.take_dirty().placements == {"p1"}


def test_it_is_synced_once_every_kind_was_listed_to_the_end():
    inventory = make_inventory(*listing("nodes", []), *listing("pods", []), Relisted("objects"))

    before = inventory.synced
    inventory.apply([Listed("objects")])

    assert (before, inventory.synced) == (False, True)


def test_a_change_that_changes_nothing_that_is_told_makes_nothing_dirty():
    inventory = make_inventory(make_node(), make_pod("a", node="n-1", placement="p1"), make_object())

    inventory.apply([make_node(), make_pod("a", node="n-1", placement="p1"), make_object(resource_version="2")])

    assert not inventory.take_dirty()


def test_a_pod_that_becomes_ready_changes_its_placement_and_not_its_node():
    inventory = make_inventory(make_node(), make_pod("a", node="n-1", placement="p1"))

    inventory.apply([make_pod("a", node="n-1", placement="p1", ready=True)])
    dirty = inventory.take_dirty()

    assert (dirty.nodes, dirty.placements) == (set(), {"p1"})


def test_the_nodes_on_which_a_placements_pods_sit_or_sat_are_remembered_until_they_are_taken():
    inventory = make_inventory(make_pod("a", placement="p1"), make_pod("b", node="n-2", placement="p1"))
    inventory.take_touched("p1")

    inventory.apply([make_pod("a", node="n-1", placement="p1"), PodDeleted("b")])
    taken = inventory.take_touched("p1")

    assert (taken, inventory.take_touched("p1")) == ({"n-1", "n-2"}, set())


def test_3_9_a_node_that_gained_anothers_pod_is_told_apart():
    inventory = make_inventory(make_pod("a"), make_pod("ours", placement="p1"))

    inventory.apply([make_pod("a", node="n-1"), make_pod("ours", node="n-2", placement="p1")])
    dirty = inventory.take_dirty()

    assert (dirty.gained, dirty.waiting) == ({"n-1"}, True)


def test_a_hundred_thousand_pods_of_one_shape_share_it():
    inventory = make_inventory(*(make_pod(f"pod-{n}", node=f"n-{n % 50}") for n in range(1000)))

    assert len({id(pod.shape) for pod in inventory._pods.values()}) == 1
    assert len({id(pod.node) for pod in inventory._pods.values()}) == 50


# --- the property ----------------------------------------------------------------------------------------------------

UIDS = st.sampled_from(["a", "b", "c", "d"])
pods = st.builds(
    MemberPod,
    uid=UIDS,
    namespace=st.just("shop"),
    name=st.just("pod"),
    node=st.sampled_from(["", "n-1", "n-2"]),
    phase=st.sampled_from(["Pending", "Running", "Succeeded"]),
    ready=st.booleans(),
    terminating=st.booleans(),
    unschedulable=st.sampled_from(["", "no room"]),
    requests=st.sampled_from([{}, {"cpu": 500}, {"cpu": 1000, "memory": 2**30}]),
    placement=st.sampled_from(["", "p1", "p2"]),
    revision=st.sampled_from(["1", "2"]),
)
objects = st.builds(
    MemberObject,
    key=st.just(ObjectKey("apps/v1/Deployment", "shop", "web")),
    uid=st.sampled_from(["x", "y"]),
    resource_version=st.just("1"),
    placement=st.sampled_from(["", "p1", "p2"]),
    version=st.integers(0, 3),
    revision=st.sampled_from(["1", "2"]),
    replicas=st.integers(0, 3),
    observed=st.booleans(),
    terminating=st.booleans(),
)
changes = st.one_of(
    pods.map(PodChanged),
    UIDS.map(PodDeleted),
    objects.map(ObjectChanged),
    st.sampled_from(["x", "y"]).map(ObjectDeleted),
    st.sampled_from(["n-1", "n-2"]).map(make_node),
    st.sampled_from(["n-1", "n-2"]).map(NodeDeleted),
    st.sampled_from(["nodes", "pods", "objects"]).map(Relisted),
    st.sampled_from(["nodes", "pods", "objects"]).map(Listed),
)


class Recount:
    """The same, remembered whole and counted afresh at each question."""

    def __init__(self) -> None:
        self.pods: dict[str, MemberPod] = {}
        self.objects: dict[str, MemberObject] = {}
        self.nodes: set[str] = set()
        self.told: dict[str, set[str]] = {"nodes": set(), "pods": set(), "objects": set()}

    def apply(self, change: Change) -> None:
        match change:
            case PodChanged(pod):
                self.pods[pod.uid] = pod
                self.told["pods"].add(pod.uid)
            case ObjectChanged(found):
                self.objects[found.uid] = found
                self.told["objects"].add(found.uid)
            case NodeChanged(node):
                self.nodes.add(node.name)
                self.told["nodes"].add(node.name)
            case PodDeleted(uid):
                self.pods.pop(uid, None)
            case ObjectDeleted(uid):
                self.objects.pop(uid, None)
            case NodeDeleted(name):
                self.nodes.discard(name)
            case Relisted(kind):
                self.told[kind] = set()
            case Listed(kind):
                self._keep(kind)

    def _keep(self, kind: str) -> None:
        told = self.told[kind]
        self.pods = {uid: pod for uid, pod in self.pods.items() if kind != "pods" or uid in told}
        self.objects = {uid: found for uid, found in self.objects.items() if kind != "objects" or uid in told}
        self.nodes = {name for name in self.nodes if kind != "nodes" or name in told}

    def requested(self, node: str) -> dict[str, str]:
        total: dict[str, int] = {}
        for pod in self.pods.values():
            if pod.node == node and not pod.terminal:
                total = add(total, {**pod.requests, "pods": 1})
        return format_amounts({"pods": 0, **total})

    def bound(self, node: str) -> Counter[tuple[str, str]]:
        on_node = (pod for pod in self.pods.values() if pod.node == node and not pod.terminal and not pod.terminating)
        return Counter((pod.placement, pod.revision) for pod in on_node if pod.placement)


@given(st.lists(changes, max_size=40))
@settings(max_examples=300, deadline=None)
def test_sums_kept_change_by_change_are_those_that_counting_afresh_gives(history: list[Change]):
    inventory, recount = Inventory("east"), Recount()

    for change in history:
        inventory.apply([change])
        recount.apply(change)

    assert set(inventory.nodes()) == recount.nodes
    for name in recount.nodes:
        event = inventory.node_observed(name)
        assert event is not None
        assert event.requested == recount.requested(name)
        assert {(b.placement, b.revision): b.bound for b in event.placements} == recount.bound(name)
    for placement in ("p1", "p2"):
        found = [each for each in recount.objects.values() if each.placement == placement]
        listed = listed_view(found, [pod for pod in recount.pods.values() if pod.placement == placement])
        assert inventory.view(placement) == listed
    waiting = [
        pod for pod in recount.pods.values() if not (pod.node or pod.placement or pod.terminal or pod.terminating)
    ]
    assert sum(shape.count for shape in inventory.unbound()) == len(waiting)
    assert sum(shape.unschedulable for shape in inventory.unbound()) == sum(bool(pod.unschedulable) for pod in waiting)


@given(st.lists(changes, max_size=40))
@settings(max_examples=100, deadline=None)
def test_when_everything_has_gone_nothing_is_kept(history: list[Change]):
    inventory = Inventory("east")

    inventory.apply(history)
    inventory.apply([*listing("nodes", []), *listing("pods", []), *listing("objects", [])])
    for placement in ("p1", "p2"):
        inventory.take_touched(placement)

    kept = (
        inventory._nodes,
        inventory._uses,
        inventory._pods,
        inventory._shapes,
        inventory._objects,
        inventory._placed,
    )
    assert not any(kept)
