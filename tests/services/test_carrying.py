"""From outcomes to rows: what an order carries into one cluster."""

from federation.domain.events import PlacementObserved
from federation.domain.manifest import deployment_for, from_manifest
from federation.domain.placement import Placement
from federation.domain.records import OutboxRow
from federation.domain.workload import Component, Workload, WorkloadSpec
from federation.planner.plan import Allotment
from federation.services.carrying import Moment, carried


class Counted:
    def new(self) -> str:
        return "p1"


def make_workload(replicas: int, max_surge: str = "25%") -> Workload:
    manifest = deployment_for("web", "pause", replicas, {"cpu": "1"})
    manifest["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": max_surge}}
    facts = from_manifest(manifest)
    component = Component(name="web", replicas=replicas, requests={"cpu": "1"})
    spec = WorkloadSpec(
        name="web",
        components=(component,),
        kind=facts.kind,
        manifest=facts.manifest,
        revision=facts.revision,
        surge=facts.surge,
    )
    return Workload(id="w1", spec=spec)


def carry(workload: Workload, allotment: Allotment) -> tuple[Placement, OutboxRow]:
    placement, order = carried(workload, None, allotment, Moment(1, "d1", Counted()))
    assert placement is not None
    assert order is not None
    return placement, order


def test_3_3_a_cluster_claims_the_surge_of_its_own_part_and_not_of_the_whole():
    placement, order = carry(make_workload(100), Allotment("east", 10, {"n1": 35}, 25))

    assert placement.claim == 10 + 3
    assert placement.holds == {"n1": 13}
    assert order.doc["manifest"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "25%"}


def test_3_3_a_member_may_not_add_more_pods_than_the_surge_that_is_claimed():
    placement, order = carry(make_workload(40), Allotment("east", 40, {"n1": 42}, 2))

    assert placement.claim == 42
    assert order.doc["manifest"]["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2}}


def test_an_order_without_a_rollout_leaves_the_callers_strategy_as_it_is():
    placement, order = carry(make_workload(40, "50%"), Allotment("east", 40, {"n1": 40}, 0))

    assert placement.claim == 40
    assert order.doc["manifest"]["spec"]["strategy"] == {"rollingUpdate": {"maxSurge": "50%"}}


def test_4_7_who_goes_in_a_scale_down_is_the_members_choice_and_success_is_what_is_observed():
    workload = make_workload(5)
    placed, _ = carry(workload, Allotment("east", 5, {"n1": 5}, 0))
    running = placed.numbered(1, 1, 1).with_bound("n1", 5, 1)

    smaller, order = carried(workload, running, Allotment("east", 3, {}, 0), Moment(2, "d2", Counted()))
    assert smaller is not None
    assert order is not None
    applied = smaller.numbered(2, 2, 2)
    told = PlacementObserved(
        cluster="east", placement="p1", version=2, observed=True, desired=3, live=3, bound=3, done=2, generation=1
    )

    assert (order.doc["replicas"], "pods" in order.doc) == (3, False)
    assert applied.claim == 5
    assert applied.observing(told, 3).claim == 3
