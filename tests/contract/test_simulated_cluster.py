"""How the simulated member behaves beyond the contract: lost nodes, lagging parts, refusals, and equal seeds."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from adapters.memory import gateway as gateway_module
from adapters.memory.cluster import SimulatedCluster
from adapters.memory.cluster_documents import Journal
from adapters.memory.cluster_state import PodShape, SimPod
from adapters.memory.gateway import SimulatedGateway, run_cluster
from adapters.memory.kubelet import end_pod
from federation.domain.errors import Invalid, Unavailable
from federation.domain.events import Taint
from federation.domain.member import PLACEMENT_LABEL, REVISION_LABEL, Listed, ObjectKey, Relisted
from federation.domain.records import Orders
from tests.contract.gateway_suite import Told, has_listed, subscribed
from tests.contract.test_gateway import SteppedClock

WEB = ObjectKey("apps/v1/Deployment", "default", "web")
POD = {"cpu": "1", "memory": "1Gi"}


def make_cluster(nodes: int = 3, seed: int = 1) -> SimulatedCluster:
    cluster = SimulatedCluster("east", seed=seed)
    for number in range(nodes):
        cluster.add_node(f"n{number}", {"cpu": "8", "memory": "32Gi"})
    return cluster


def make_object(kind: str, revision: str = "1", **spec: Any) -> dict[str, Any]:
    labels = {"app": "web", PLACEMENT_LABEL: "p1", REVISION_LABEL: revision}
    container = {"name": "main", "image": "nowhere/none:1", "resources": {"requests": POD}}
    selector = {} if kind == "Job" else {"selector": {"matchLabels": {"app": "web"}}}
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "default", "labels": labels},
        "spec": {**selector, **spec, "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
    }


def apply(cluster: SimulatedCluster, manifest: dict[str, Any]) -> str:
    """Create it, or change it as it is; returns its uid."""
    key = ObjectKey(f"{manifest['apiVersion']}/{manifest['kind']}", "default", "web")
    before = cluster.find(key)
    return cluster.apply(manifest, before.uid if before else "", str(before.rv) if before else "").uid


def live(cluster: SimulatedCluster) -> list[SimPod]:
    return [pod for pod in cluster.pods.values() if pod.live]


def ready(cluster: SimulatedCluster) -> list[SimPod]:
    return [pod for pod in cluster.pods.values() if pod.live and pod.ready]


def run(cluster: SimulatedCluster, seconds: float) -> None:
    cluster.step(cluster.now_ms + int(seconds * 1000))


def everything(cluster: SimulatedCluster) -> dict[tuple[str, str], bytes | None]:
    journal = Journal(cluster)
    journal.note_all()
    cluster.watchers.remove(journal)
    return {(kind, key): content for kind, key, content in journal.pending()}


# --- nodes that fail -----------------------------------------------------------------------------------------------------


def test_pods_of_a_lost_node_are_made_elsewhere_after_the_tolerance_and_hang_until_it_is_back() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=6))
    run(cluster, 5)

    cluster.fail_node("n0")
    run(cluster, 10)
    before = Counter(pod.node for pod in live(cluster))
    run(cluster, 30)

    assert before["n0"] == 2
    assert Counter(pod.node for pod in ready(cluster)) == {"n1": 3, "n2": 3}
    assert [pod.deleting for pod in cluster.pods.values() if pod.node == "n0"] == [True, True]
    cluster.recover_node("n0")
    run(cluster, 5)
    assert len(cluster.pods) == 6


def test_a_node_that_is_back_in_time_keeps_its_pods() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=6))
    run(cluster, 5)
    before = set(cluster.pods)

    cluster.fail_node("n0")
    run(cluster, 20)
    assert len(ready(cluster)) == 4
    cluster.recover_node("n0")
    run(cluster, 60)

    assert set(cluster.pods) == before
    assert len(ready(cluster)) == 6


def test_a_lost_node_takes_no_pods_and_says_so() -> None:
    cluster = make_cluster(nodes=1)
    cluster.fail_node("n0")

    apply(cluster, make_object("Deployment", replicas=1))
    run(cluster, 5)

    (pod,) = cluster.pods.values()
    assert "untolerated taint {node.kubernetes.io/unreachable: }" in pod.unschedulable
    assert not cluster.nodes["n0"].seen().ready


def test_a_pod_of_a_stateful_set_on_a_lost_node_is_made_again_only_once_the_node_is_removed() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("StatefulSet", replicas=2))
    run(cluster, 5)
    lost = cluster.pods[cluster.pod_uids["default", "web-0"]]

    cluster.fail_node(lost.node)
    run(cluster, 120)
    assert cluster.pod_uids["default", "web-0"] == lost.uid
    cluster.remove_node(lost.node)
    run(cluster, 5)

    assert cluster.pod_uids["default", "web-0"] != lost.uid
    assert len(ready(cluster)) == 2


# --- controllers that lag ----------------------------------------------------------------------------------------------


def test_while_a_controller_is_held_nothing_is_observed_and_nothing_happens() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=2))
    run(cluster, 5)

    cluster.hold("replicaset")
    apply(cluster, make_object("Deployment", replicas=5))
    run(cluster, 60)
    found = cluster.find(WEB)
    assert found is not None
    assert (found.observed == found.generation, cluster.seen(found).observed, len(cluster.pods)) == (True, False, 2)
    cluster.release("replicaset")
    run(cluster, 5)

    assert (cluster.seen(found).observed, len(ready(cluster))) == (True, 5)


def test_a_lag_delays_a_part_by_so_much() -> None:
    cluster = make_cluster()
    cluster.lag["scheduler"] = 10_000

    apply(cluster, make_object("Deployment", replicas=1))
    run(cluster, 9)
    before = [pod.node for pod in cluster.pods.values()]
    run(cluster, 5)

    assert before == [""]
    assert len(ready(cluster)) == 1


# --- Deployments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("surge", "unavailable", "most", "least"), [("25%", "25%", 10, 6), (1, 0, 9, 8), (0, 1, 8, 7), ("100%", 0, 16, 8)]
)
def test_a_rollout_keeps_between_its_bounds(surge: int | str, unavailable: int | str, most: int, least: int) -> None:
    rolling = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=8, strategy=rolling))
    run(cluster, 5)

    apply(cluster, make_object("Deployment", "2", replicas=8, strategy=rolling))
    counts = []
    for _ in range(1000):
        run(cluster, 0.01)
        counts.append((len(live(cluster)), len(ready(cluster))))

    assert max(count for count, _ in counts) == most
    assert min(count for _, count in counts) >= least
    assert Counter(pod.revision for pod in cluster.pods.values()) == {"2": 8}


def test_a_rollout_that_is_scaled_down_in_the_middle_goes_to_its_end() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=12))
    run(cluster, 5)

    apply(cluster, make_object("Deployment", "2", replicas=12))
    run(cluster, 0.5)
    apply(cluster, make_object("Deployment", "2", replicas=4))
    run(cluster, 0.15)
    at_once = len(live(cluster))
    run(cluster, 10)

    assert at_once <= 5
    assert Counter(pod.revision for pod in cluster.pods.values()) == {"2": 4}


def test_recreate_never_runs_two_revisions_together() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=4, strategy={"type": "Recreate"}))
    run(cluster, 5)

    apply(cluster, make_object("Deployment", "2", replicas=4, strategy={"type": "Recreate"}))
    together = []
    for _ in range(500):
        run(cluster, 0.01)
        together.append(len({pod.revision for pod in cluster.pods.values()}))

    assert max(together) == 1
    assert Counter(pod.revision for pod in ready(cluster)) == {"2": 4}


def test_a_rollout_that_fits_nowhere_is_called_stalled_and_leaves_the_old_pods() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=4, progressDeadlineSeconds=30))
    run(cluster, 5)
    wanted = make_object("Deployment", "2", replicas=4, progressDeadlineSeconds=30)
    wanted["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "99"}

    apply(cluster, wanted)
    run(cluster, 10)
    found = cluster.find(WEB)
    assert found is not None
    early = found.condition
    run(cluster, 60)

    assert (early, found.condition) == ("Progressing", "ProgressDeadlineExceeded")
    assert Counter(pod.revision for pod in ready(cluster)) == {"1": 3}


def test_what_a_quota_refuses_is_missing_and_said() -> None:
    cluster = make_cluster()
    cluster.quotas["default"] = 3

    apply(cluster, make_object("Deployment", replicas=5))
    run(cluster, 5)
    found = cluster.find(WEB)
    assert found is not None
    refused = cluster.seen(found)
    cluster.quotas["default"] = 10
    run(cluster, 5)

    assert "exceeded quota" in refused.refusal
    assert refused.observed
    assert (len(ready(cluster)), cluster.seen(found).refusal) == (5, "")


def test_the_pods_that_go_first_are_those_without_a_node() -> None:
    cluster = make_cluster(nodes=1)
    apply(cluster, make_object("Deployment", replicas=12))
    run(cluster, 5)
    bound = {pod.uid for pod in cluster.pods.values() if pod.node}

    apply(cluster, make_object("Deployment", replicas=8))
    run(cluster, 5)

    assert set(cluster.pods) == bound


def test_another_manager_of_the_replicas_is_obeyed_and_seen() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=2))

    cluster.scale(WEB, 5)
    run(cluster, 5)

    found = cluster.find(WEB)
    assert found is not None
    assert (len(ready(cluster)), cluster.seen(found).replicas, cluster.seen(found).owned_replicas) == (5, 5, False)


# --- Jobs --------------------------------------------------------------------------------------------------------------


def test_a_job_that_fails_too_often_ends_as_failed_without_pods() -> None:
    cluster = make_cluster()
    uid = apply(cluster, make_object("Job", parallelism=2, completions=9, backoffLimit=2))

    for _ in range(4):
        run(cluster, 1)
        for pod in live(cluster)[:1]:
            end_pod(cluster, pod, "Failed")
    run(cluster, 5)

    found = cluster.objects[uid]
    assert (found.condition, found.failed, len(live(cluster))) == ("Failed", 3, 0)


def test_a_job_pod_that_is_deleted_counts_as_failed_and_is_replaced() -> None:
    cluster = make_cluster()
    uid = apply(cluster, make_object("Job", parallelism=1, completions=1))
    run(cluster, 1)

    cluster.delete_pod(live(cluster)[0])
    run(cluster, 10)

    found = cluster.objects[uid]
    assert (found.condition, found.succeeded, found.failed) == ("Complete", 1, 1)


def test_a_suspended_job_has_no_pods_and_goes_on_when_resumed() -> None:
    cluster = make_cluster()
    uid = apply(cluster, make_object("Job", parallelism=2, completions=4))
    run(cluster, 1)

    apply(cluster, make_object("Job", parallelism=2, completions=4, suspend=True))
    run(cluster, 20)
    suspended = (cluster.objects[uid].condition, len(cluster.pods))
    apply(cluster, make_object("Job", parallelism=2, completions=4))
    run(cluster, 20)

    assert suspended == ("Suspended", 0)
    assert (cluster.objects[uid].condition, cluster.objects[uid].succeeded) == ("Complete", 4)
    assert cluster.objects[uid].failed == 0


def test_a_finished_job_goes_after_its_time_to_live() -> None:
    cluster = make_cluster()
    uid = apply(cluster, make_object("Job", parallelism=2, completions=2, ttlSecondsAfterFinished=60))

    run(cluster, 30)
    condition = cluster.objects[uid].condition
    run(cluster, 60)

    assert condition == "Complete"
    assert (cluster.objects, cluster.pods) == ({}, {})


def test_the_template_of_a_job_cannot_be_changed() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Job", parallelism=1, completions=1))

    with pytest.raises(Invalid, match="immutable"):
        apply(cluster, make_object("Job", "2", parallelism=1, completions=1))


# --- the scheduler -----------------------------------------------------------------------------------------------------


def test_the_reasons_of_all_nodes_are_counted() -> None:
    cluster = make_cluster(nodes=5)
    for name in ("n3", "n4"):
        cluster.taint(name, Taint(key="gpu", effect="NoSchedule"))

    pod = cluster.add_foreign_pod(PodShape(requests={"cpu": 9000, "memory": 2**30}))
    run(cluster, 1)

    assert pod.unschedulable == (
        "0/5 nodes are available: 2 node(s) had untolerated taint {gpu: }, 3 Insufficient cpu."
    )


def test_pods_go_where_least_is_taken() -> None:
    cluster = make_cluster(nodes=2)
    cluster.add_foreign_pod(PodShape(requests={"cpu": 6000, "memory": 2**30}))
    run(cluster, 1)
    (full,) = (name for name, used in cluster.usage.items() if used.get("cpu"))

    apply(cluster, make_object("Deployment", replicas=4))
    run(cluster, 5)

    assert Counter(pod.node for pod in live(cluster) if pod.owner).get(full, 0) == 0


def test_a_node_takes_no_more_pods_than_it_may() -> None:
    cluster = SimulatedCluster("east")
    cluster.add_node("n0", {"cpu": "64", "memory": "64Gi", "pods": "3"})

    apply(cluster, make_object("Deployment", replicas=5))
    run(cluster, 5)

    assert len(ready(cluster)) == 3
    assert {pod.unschedulable for pod in cluster.pods.values()} == {"", "0/1 nodes are available: 1 Too many pods."}


def test_the_more_important_pod_is_bound_first() -> None:
    cluster = SimulatedCluster("east")
    low = cluster.add_foreign_pod(PodShape(requests={"cpu": 1000}))
    high = cluster.add_foreign_pod(PodShape(requests={"cpu": 1000}, priority=100))

    cluster.add_node("n0", {"cpu": "1", "memory": "1Gi"})
    run(cluster, 1)

    assert (low.node, high.node) == ("", "n0")


def test_a_cordoned_node_keeps_what_it_has_and_takes_nothing_new() -> None:
    cluster = make_cluster(nodes=1)
    apply(cluster, make_object("Deployment", replicas=2))
    run(cluster, 5)

    cluster.cordon("n0")
    apply(cluster, make_object("Deployment", replicas=3))
    run(cluster, 5)

    assert len(ready(cluster)) == 2
    assert any("node(s) were unschedulable" in pod.unschedulable for pod in live(cluster))


# --- the gateway's own knobs -------------------------------------------------------------------------------------------


async def test_a_fault_before_a_call_leaves_no_effect_and_one_after_it_does() -> None:
    cluster = make_cluster()
    gateway = SimulatedGateway(cluster, SteppedClock())

    async def fail(verb: str) -> None:
        raise Unavailable(verb)

    gateway.faults.before = fail
    with pytest.raises(Unavailable):
        await gateway.store_orders(Orders(1, 1))
    unchanged = cluster.orders
    gateway.faults.before, gateway.faults.after = None, fail
    with pytest.raises(Unavailable):
        await gateway.store_orders(Orders(1, 2))

    assert (unchanged, cluster.orders) == (Orders(), Orders(1, 2))


async def test_a_budget_forbids_evictions_below_it() -> None:
    cluster, clock = make_cluster(), SteppedClock()
    gateway = SimulatedGateway(cluster, clock)
    apply(cluster, make_object("Deployment", replicas=2))
    await clock.sleep(5)
    pods = (await gateway.list_placement("p1")).pods
    cluster.budgets["p1"] = 1

    answers = [await gateway.evict(pod, 30) for pod in pods]

    assert answers == [True, False]


async def test_a_subscriber_that_fell_too_far_behind_is_told_everything_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "MOST_NOTED", 10)
    cluster = make_cluster()

    async with subscribed(SimulatedGateway(cluster, SteppedClock())) as told:
        await asyncio.sleep(0.01)
        for number in range(30):
            cluster.add_foreign_pod(PodShape(requests={"cpu": 10}), name=f"p{number}")
        await asyncio.sleep(0.01)

        assert [each.kind for each in told.changes if isinstance(each, Relisted)].count("pods") == 2
        assert [each.kind for each in told.changes if isinstance(each, Listed)].count("pods") == 2
        assert set(told.pods) == set(cluster.pods)


async def test_a_closed_gateway_ends_its_watches() -> None:
    gateway, told = SimulatedGateway(make_cluster(), SteppedClock()), Told()

    async def follow() -> None:
        async for batch in gateway.changes():
            for each in batch:
                told.fold(each)

    follower = asyncio.create_task(follow())
    await asyncio.sleep(0.01)
    assert await has_listed(told)
    await gateway.close()

    async with asyncio.timeout(5):
        await follower


async def test_a_cluster_that_is_run_moves_until_it_is_stopped() -> None:
    cluster, clock, stop = make_cluster(), SteppedClock(), asyncio.Event()
    apply(cluster, make_object("Deployment", replicas=2))

    running = asyncio.create_task(run_cluster(cluster, clock, stop))
    await asyncio.sleep(0.05)
    stop.set()
    async with asyncio.timeout(5):
        await running

    assert len(ready(cluster)) == 2


async def test_a_namespace_of_another_team_is_refused() -> None:
    gateway = SimulatedGateway(make_cluster(), SteppedClock())
    await gateway.ensure_namespace("shop", "shop")

    with pytest.raises(Invalid, match="belongs to team shop"):
        await gateway.ensure_namespace("shop", "search")


# --- the whole ---------------------------------------------------------------------------------------------------------


def act(cluster: SimulatedCluster, rng: random.Random) -> None:
    """One random thing that may happen to a cluster."""
    nodes = sorted(cluster.nodes)
    match rng.randrange(10):
        case 0 | 1:
            apply(cluster, make_object("Deployment", rng.choice("12"), replicas=rng.randrange(12)))
        case 2:
            apply(cluster, make_object("StatefulSet", rng.choice("12"), replicas=rng.randrange(5)))
        case 3:
            cluster.add_foreign_pod(PodShape(requests={"cpu": rng.randrange(4000)}))
        case 4 if cluster.pods:
            cluster.delete_pod(cluster.pods[rng.choice(sorted(cluster.pods))])
        case 5 if nodes:
            cluster.fail_node(rng.choice(nodes))
        case 6 if nodes:
            cluster.recover_node(rng.choice(nodes))
        case 7 if nodes and len(nodes) > 2:
            cluster.remove_node(rng.choice(nodes))
        case 8:
            cluster.add_node(f"n{cluster.rv}-{rng.randrange(10**6)}", {"cpu": "8", "memory": "32Gi"})
        case 9 if cluster.objects:
            cluster.delete(cluster.objects[rng.choice(sorted(cluster.objects))].key, "")


def check_books(cluster: SimulatedCluster) -> None:
    """The sums by node are those of the pods, and no node gives more than it has."""
    for name, node in cluster.nodes.items():
        pods = [pod for pod in cluster.pods.values() if pod.node == name and not pod.terminal]
        used = cluster.usage.get(name, {})
        assert used.get("pods", 0) == len(pods) <= node.amounts["pods"]
        assert used.get("cpu", 0) == sum(pod.shape.requests.get("cpu", 0) for pod in pods) <= node.amounts["cpu"]
    assert set(cluster.pod_uids.values()) == set(cluster.pods)
    assert {uid for owned in cluster.pods_of.values() for uid in owned} == set(cluster.pods)
    waiting = {pod.uid for pod in cluster.pods.values() if not pod.node and not pod.terminal}
    assert {*cluster.pending, *cluster.hopeless} == waiting


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_the_books_are_right_and_all_settles(seed: int) -> None:
    rng, cluster = random.Random(seed), make_cluster(seed=seed)

    for _ in range(200):
        act(cluster, rng)
        run(cluster, rng.choice((0, 0.05, 0.3, 5, 40)))
        check_books(cluster)
    for name in list(cluster.nodes):
        cluster.recover_node(name)
    run(cluster, 60)
    apply(cluster, make_object("Deployment", "3", replicas=3))
    for pod in list(cluster.pods_of.get("", {}).values()):
        cluster.delete_pod(pod)
    run(cluster, 120)

    assert Counter(pod.revision for pod in ready(cluster) if pod.name.count("-") == 2) == {"3": 3}
    assert all(cluster.seen(each).observed for each in cluster.objects.values())


def test_equal_seeds_give_equal_clusters_however_finely_they_are_stepped() -> None:
    outcomes = []
    for pieces in (1, 500):
        cluster = make_cluster(seed=3)
        apply(cluster, make_object("Deployment", replicas=9))
        for _ in range(pieces):
            run(cluster, 5 / pieces)
        apply(cluster, make_object("Deployment", "2", replicas=7))
        for _ in range(pieces):
            run(cluster, 5 / pieces)
        outcomes.append(everything(cluster))

    assert outcomes[0] == outcomes[1]


def test_another_seed_gives_other_names() -> None:
    names = []
    for seed in (1, 2):
        cluster = make_cluster(seed=seed)
        apply(cluster, make_object("Deployment", replicas=3))
        run(cluster, 5)
        names.append({pod.name for pod in cluster.pods.values()})

    assert names[0].isdisjoint(names[1])
