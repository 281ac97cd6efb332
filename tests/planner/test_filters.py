"""Which clusters a workload may go to, and the words in which the others refuse."""

import pytest

from federation.domain.cluster import REGION, Cluster, ClusterPhase, Reception
from federation.domain.events import Taint
from federation.domain.workload import ClusterSelection, Toleration, WorkloadSpec
from federation.planner.filters import FILTERS, avoided, lost, refusal, tainted
from federation.planner.taints import untolerated
from tests.builders import NOW, make_cluster, make_spec, make_workload


def cluster(**fields: object) -> Cluster:
    return make_cluster("east", **fields).cluster


def reason(spec: WorkloadSpec, against: Cluster, silent: bool = False) -> str:
    refused = refusal(spec, against, silent)
    return refused[1] if refused else ""


def test_a_sound_cluster_is_refused_by_nothing():
    assert [rule(make_spec(), cluster(), False) for rule in FILTERS] == [None] * len(FILTERS)


@pytest.mark.parametrize(
    ("spec", "against", "words"),
    [
        (make_spec(), cluster(phase=ClusterPhase.JOINING), "phase joining is not ready"),
        (make_spec(), cluster(cordoned=True), "cordoned: takes nothing new"),
        (make_spec(), cluster(reception=Reception(unsound="a gap")), "stale: a gap"),
        (make_spec(), cluster(acts=False), "no agent reads orders there, and the workload has a manifest"),
        (make_spec(api="x/v1/Y"), cluster(apis=("a/v1/B", "c/v1/D")), "API x/v1/Y is not among a/v1/B, c/v1/D"),
        (make_spec(), cluster(apis=()), "API apps/v1/Deployment is not among none"),
        (
            make_spec(),
            cluster(taints=(Taint(key="gpu", value="a", effect="NoSchedule"),)),
            "taint gpu=a:NoSchedule is not tolerated",
        ),
        (
            make_spec(clusters=ClusterSelection(labels={REGION: "us-1"})),
            cluster(region="eu-1"),
            "region eu-1 is not us-1",
        ),
        (make_spec(clusters=ClusterSelection(labels={"tier": "1"})), cluster(), "tier (none) is not 1"),
        (make_spec(clusters=ClusterSelection(names=("west", "north"))), cluster(), "east is not among west, north"),
        (make_spec(clusters=ClusterSelection(exclude=("east",))), cluster(), "east is excluded"),
        (make_spec(spread=[("region", 1, None)]), cluster(), "no region to spread by"),
    ],
)
def test_a_refusal_compares_two_values(spec, against, words):
    assert reason(spec, against) == words


def test_a_silent_cluster_takes_nothing_new():
    assert reason(make_spec(), cluster(), silent=True) == "silent: takes nothing new until it is heard again"


def test_the_first_rule_that_refuses_is_the_one_told():
    assert reason(make_spec(), cluster(cordoned=True, acts=False)) == "cordoned: takes nothing new"


def test_without_a_manifest_neither_agent_nor_api_matters():
    assert reason(make_spec(manifest=None), cluster(acts=False, apis=())) == ""


def test_a_long_list_is_cut_short():
    spec = make_spec(clusters=ClusterSelection(names=tuple(f"c{index}" for index in range(8))))

    assert reason(spec, cluster()) == "east is not among c0, c1, c2, c3, c4 and 3 more"


def test_a_taint_is_no_reason_to_leave():
    infra = cluster(taints=(Taint(key="infra"),))

    assert (lost(make_spec(), infra), refusal(make_spec(), infra, False, but=tainted)) == (None, None)


def test_what_is_no_longer_selected_is_left():
    spec = make_spec(clusters=ClusterSelection(names=("west",)))

    assert lost(spec, cluster()) == "east is not among west"
    assert lost(spec, None) == lost(make_spec(), cluster(phase=ClusterPhase.LEFT)) == "left the federation"


def test_a_cluster_is_avoided_until_a_time():
    workload = make_workload(avoid={"east": NOW + 1}, failures={"east": "did not run 1 of 2 replicas: quota"})

    told = "failed this workload: avoided until 2023-11-14T22:13:20Z: did not run 1 of 2 replicas: quota"
    assert avoided(workload, "east", NOW) == told
    assert avoided(workload, "east", NOW + 1) is None
    assert avoided(workload, "west", NOW) is None


@pytest.mark.parametrize(
    ("toleration", "taint", "tolerated"),
    [
        (Toleration(operator="Exists"), Taint(key="a", value="b", effect="NoExecute"), True),
        (Toleration(key="a", operator="Exists"), Taint(key="a", value="b"), True),
        (Toleration(key="a", operator="Exists"), Taint(key="c"), False),
        (Toleration(key="a", value="b"), Taint(key="a", value="b"), True),
        (Toleration(key="a", value="b"), Taint(key="a", value="c"), False),
        (Toleration(key="a", operator="Exists", effect="NoExecute"), Taint(key="a", effect="NoSchedule"), False),
        (Toleration(), Taint(key="a"), False),
        (Toleration(key="z"), Taint(key="a", effect="PreferNoSchedule"), True),
    ],
)
def test_tolerations_are_those_of_kubernetes(toleration, taint, tolerated):
    assert (untolerated([taint], [toleration]) is None) is tolerated
