"""Workloads from place to delete, in real clusters."""

import asyncio

import pytest

from tests.e2e.hub import by_cluster, is_settled
from tests.e2e.manifests import deployment, job, resized, stateful_set
from tests.e2e.sight import TEAM, free, objects, per_cluster, pods
from tests.e2e.system import System

pytestmark = pytest.mark.timeout(60, func_only=True)


async def test_a_deployment_runs_where_it_was_decided_and_leaves_nothing_behind(system: System):
    before = await free(system.hub)

    workload = await system.hub.place(deployment("web", 6), team=TEAM)
    placed = await system.hub.runs(workload, 6)
    running = await pods(system, "web")
    taken = await free(system.hub)
    await system.hub.delete(workload)
    await system.hub.gone(workload)

    assert per_cluster(running) == by_cluster(placed)
    assert {pod.phase for pod in running} == {"Running"}
    assert taken != before
    assert (await objects(system, "web"), await pods(system, "web")) == ([], [])
    await system.hub.until("/v1/pool", lambda pool: {n: a["free"] for n, a in pool["resources"].items()} == before, 5)


async def test_a_deployment_grows_and_shrinks_with_its_pods(system: System):
    workload = await system.hub.place(deployment("elastic", 4), team=TEAM)
    await system.hub.runs(workload, 4)
    first = {pod.uid for pod in await pods(system, "elastic")}

    await system.hub.patch(f"/v1/workloads/{workload}", {"replicas": 10})
    grown = await system.hub.runs(workload, 10)
    more = await pods(system, "elastic")
    await system.hub.patch(f"/v1/workloads/{workload}", {"replicas": 3})
    shrunk = await system.hub.runs(workload, 3)
    fewer = await pods(system, "elastic")

    assert per_cluster(more) == by_cluster(grown)
    assert first <= {pod.uid for pod in more}, "what ran was restarted"
    assert per_cluster([pod for pod in fewer if not pod.ends]) == by_cluster(shrunk)
    assert {pod.uid for pod in fewer} <= {pod.uid for pod in more}


async def test_a_rollout_to_larger_pods_stays_within_replicas_and_surge_and_ends_with_no_holds(system: System):
    workload = await system.hub.place(deployment("rolling", 8, {"cpu": "1", "memory": "128Mi"}), team=TEAM)
    before = await system.hub.runs(workload, 8)

    await system.hub.patch(f"/v1/workloads/{workload}", resized("rolling", 8, {"cpu": "1500m", "memory": "128Mi"}))
    watched = []
    async with asyncio.timeout(40):
        while not watched or not is_settled(await system.hub.get(f"/v1/workloads/{workload}"), 8):
            watched.append([pod for pod in await pods(system, "rolling") if not pod.ends])
            await asyncio.sleep(0.05)
    after = await system.hub.get(f"/v1/workloads/{workload}")
    surge = {cluster: -(-count // 4) for cluster, count in by_cluster(before).items()}

    assert by_cluster(after) == by_cluster(before)
    for moment in watched:
        counts = per_cluster(moment)
        assert all(counts[cluster] <= by_cluster(before)[cluster] + surge[cluster] for cluster in counts), counts
    assert [pod.cpu for pod in await pods(system, "rolling") if not pod.ends] == ["1500m"] * 8


async def test_a_job_completes_and_is_not_run_again(system: System):
    workload = await system.hub.place(job("count", completions=5, parallelism=3), team=TEAM)
    done = await system.hub.until(f"/v1/workloads/{workload}", lambda body: body["phase"] == "completed", 40)
    ran = await pods(system, "count")
    held = sum(each["held"] for each in done["placements"])
    for cluster in {pod.cluster for pod in ran}:
        path = f"/apis/batch/v1/namespaces/{TEAM}/jobs/count"
        await system.member(cluster).delete(path, propagationPolicy="Background")
    await asyncio.sleep(3)

    assert [pod.phase for pod in ran] == ["Succeeded"] * 5
    assert held == 0
    assert (await objects(system, "count"), await pods(system, "count")) == ([], [])
    assert (await system.hub.get(f"/v1/workloads/{workload}"))["phase"] == "completed"


async def test_a_stateful_set_stays_in_one_cluster(system: System):
    workload = await system.hub.place(stateful_set("store", 3), team=TEAM)
    placed = await system.hub.runs(workload, 3)
    first = await pods(system, "store")
    await system.hub.patch(f"/v1/workloads/{workload}", {"replicas": 5})
    await system.hub.runs(workload, 5)
    grown = await pods(system, "store")

    ((home, count),) = by_cluster(placed).items()
    assert count == 3
    assert per_cluster(first) == {home: 3}
    assert per_cluster(grown) == {home: 5}
    assert {pod.uid for pod in first} <= {pod.uid for pod in grown}
