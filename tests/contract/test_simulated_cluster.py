"""How the simulated member behaves beyond the contract: lost nodes, lagging parts, refusals, and equal seeds."""

import asyncio
import random
from collections import Counter

import pytest

from adapters.memory import gateway as gateway_module
from adapters.memory.cluster import SimulatedCluster
from adapters.memory.cluster_documents import Journal
from adapters.memory.cluster_state import PodShape
from adapters.memory.gateway import SimulatedGateway, run_cluster
from federation.domain.errors import Invalid, Unavailable
from federation.domain.events import Taint
from federation.domain.member import Listed, Relisted
from federation.domain.records import Orders
from tests.contract.cluster_builders import WEB, apply, live, make_cluster, make_object, ready, run
from tests.contract.gateway_world import Told, has_listed, subscribed
from tests.contract.test_gateway import SteppedClock


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
