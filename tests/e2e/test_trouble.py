"""What members refuse, cannot schedule, or take away: explained in their own words, and placed elsewhere."""

import asyncio
from typing import Any

import pytest

from tests.e2e.hub import by_cluster, clusters_of
from tests.e2e.manifests import deployment, resized
from tests.e2e.sight import TEAM, objects, per_cluster, pods
from tests.e2e.system import HOLD_DEADLINE_SECONDS, NODE_CORES, NODES, SILENT_AFTER_SECONDS, System

Json = Any
pytestmark = pytest.mark.timeout(75, func_only=True)


async def make_namespace(system: System, cluster: str, team: str) -> str:
    """The namespace of a team, as an agent would have made it; its path."""
    labels = {"federation.io/team": team}
    answer = await system.member(cluster).request(
        "POST", "/api/v1/namespaces", {"metadata": {"name": team, "labels": labels}}
    )
    assert answer.status in (201, 409), answer.body
    return f"/api/v1/namespaces/{team}"


async def limit_pods(system: System, cluster: str, team: str, most: int) -> None:
    """Let *team* have no more pods than that in *cluster*."""
    namespace = await make_namespace(system, cluster, team)
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": str(most)}}}
    await system.member(cluster).create(f"{namespace}/resourcequotas", quota)
    path = f"{namespace}/resourcequotas/few"
    await system.member(cluster).wait_for(path, lambda body: "hard" in body.get("status", {}))


def tells(workload: Json, *words: str) -> bool:
    """Whether one of the workload's reasons has all these words."""
    return any(all(word in reason for word in words) for reason in workload["reasons"])


async def verdicts(system: System, workload: str) -> dict[str, Json]:
    """What the last decision said of each cluster."""
    explanation = await system.hub.get(f"/v1/workloads/{workload}/explanation")
    return {verdict["cluster"]: verdict for verdict in explanation["clusters"]}


async def test_what_a_quota_forbids_runs_elsewhere_and_is_explained_in_the_members_words(system: System):
    await limit_pods(system, "east", "frugal", 0)

    workload = await system.hub.place(deployment("thrifty", 6), team="frugal")
    await system.hub.until(f"/v1/workloads/{workload}", lambda body: clusters_of(body) == {"west", "north"})
    settled = await system.hub.runs(workload, 6)
    why = await verdicts(system, workload)

    assert per_cluster(await pods(system, "thrifty", "frugal")) == by_cluster(settled)
    assert not [each for each in await objects(system, "thrifty", "frugal") if each.startswith("east/")]
    assert "did not run 2 of 2 replicas" in why["east"]["reason"]
    assert "exceeded quota: few" in why["east"]["reason"]


async def test_what_runs_nowhere_keeps_saying_what_the_member_said_until_it_asks_for_something_else(system: System):
    await limit_pods(system, "east", "strict", 0)
    rules = {"clusters": {"names": ["east"]}}

    workload = await system.hub.place(deployment("stuck", 2), team="strict", placement=rules)
    path = f"/v1/workloads/{workload}"
    told = await system.hub.until(
        path, lambda body: tells(body, "east", "avoided", "exceeded quota: few") and not body["placements"]
    )
    await system.member("east").delete("/api/v1/namespaces/strict/resourcequotas/few")
    await system.hub.patch(path, resized("stuck", 2, {"cpu": "400m", "memory": "64Mi"}))
    placed = await system.hub.runs(workload, 2)

    assert told["phase"] == "degraded"
    assert by_cluster(placed) == {"east": 2}


async def test_what_a_quota_allows_in_part_stays_and_the_rest_runs_elsewhere_after_the_deadline(system: System):
    await limit_pods(system, "west", "modest", 1)

    workload = await system.hub.place(deployment("humble", 6), team="modest")
    path = f"/v1/workloads/{workload}"
    told = await system.hub.until(path, lambda body: tells(body, "west", "exceeded quota: few"))
    kept = by_cluster(told)
    placed = await system.hub.runs(workload, 6, HOLD_DEADLINE_SECONDS + 30)

    assert kept["west"] > 1
    assert by_cluster(placed)["west"] == 1
    assert per_cluster(await pods(system, "humble", "modest")) == by_cluster(placed)


async def test_room_that_others_took_is_told_in_the_schedulers_words_and_left_after_the_deadline(system: System):
    agent = system.programs["agent-east"].process
    rules = {"clusters": {"names": ["east", "west"]}}
    agent.pause()
    try:
        workload = await system.hub.place(deployment("late", 4), team=TEAM, placement=rules)
        path = f"/v1/workloads/{workload}"
        decided = await system.hub.until(path, lambda body: body["decided"] == 1, 4)
        await fill(system, "east")
    finally:
        agent.resume()
    try:
        told = await system.hub.until(path, lambda body: tells(body, "east", "0/3 nodes", "Insufficient cpu"))
        placed = await system.hub.runs(workload, 4, HOLD_DEADLINE_SECONDS + 30)
    finally:
        await system.member("east").delete("/api/v1/namespaces/strangers/pods", gracePeriodSeconds="0")

    assert by_cluster(decided) == {"east": 2, "west": 2}
    assert told["phase"] == "degraded"
    assert by_cluster(placed) == {"west": 4}
    assert per_cluster([pod for pod in await pods(system, "late") if not pod.ends]) == {"west": 4}


async def fill(system: System, cluster: str) -> None:
    """Let pods that are not ours take all nodes."""
    cores = NODE_CORES * 1000 - 100
    container = {"name": "main", "image": "image", "resources": {"requests": {"cpu": f"{cores}m"}}}
    member = system.member(cluster)
    await member.create_namespace("strangers")
    for number in range(NODES):
        pod = {"metadata": {"name": f"big-{number}"}, "spec": {"containers": [container]}}
        await member.create("/api/v1/namespaces/strangers/pods", pod)
    await member.wait_for(
        "/api/v1/namespaces/strangers/pods",
        lambda body: all(item["status"]["phase"] == "Running" for item in body["items"]),
    )


async def test_an_object_of_that_name_that_is_not_ours_is_left_alone_and_told(system: System):
    namespace = await make_namespace(system, "north", "mixed")
    theirs = deployment("taken", 1)
    apps = namespace.replace("/api/v1", "/apis/apps/v1")
    before = await system.member("north").create(f"{apps}/deployments", theirs)

    workload = await system.hub.place(deployment("taken", 6), team="mixed")
    path = f"/v1/workloads/{workload}"
    await system.hub.until(path, lambda body: clusters_of(body) == {"east", "west"})
    await system.hub.runs(workload, 6)
    why = await verdicts(system, workload)
    await system.hub.delete(workload)
    await system.hub.gone(workload)
    after = await system.member("north").get(f"{apps}/deployments/taken")
    await system.member("north").delete(f"{apps}/deployments/taken")

    assert "NotOurs: apps/v1/Deployment mixed/taken" in why["north"]["reason"]
    assert (after["metadata"]["uid"], after["metadata"]["generation"]) == (before["metadata"]["uid"], 1)
    assert "federation.io/placement" not in after["metadata"].get("labels", {})


async def test_a_cordoned_cluster_keeps_what_runs_and_takes_no_more_until_it_is_uncordoned(system: System):
    workload = await system.hub.place(deployment("steady", 6), team=TEAM)
    path = f"/v1/workloads/{workload}"
    before = by_cluster(await system.hub.runs(workload, 6))

    await system.hub.patch("/v1/clusters/east", {"cordoned": True})
    try:
        await system.hub.patch(path, {"replicas": 12})
        cordoned = by_cluster(await system.hub.runs(workload, 12))
    finally:
        await system.hub.patch("/v1/clusters/east", {"cordoned": False})
    await system.hub.patch(path, {"replicas": 18})
    uncordoned = by_cluster(await system.hub.runs(workload, 18))

    assert cordoned["east"] == before["east"]
    assert uncordoned["east"] > before["east"]


async def test_a_cluster_whose_server_is_down_leaves_the_numbers_keeps_its_pods_and_comes_back_right(system: System):
    workload = await system.hub.place(deployment("patient", 6), team=TEAM)
    before = await system.hub.runs(workload, 6)
    whole = await system.hub.get("/v1/pool")
    there = {pod.uid for pod in await pods(system, "patient") if pod.cluster == "west"}

    await asyncio.to_thread(system.member("west").stop_api)
    try:
        silent = await system.hub.until("/v1/pool", lambda pool: pool["usable"] == 2, SILENT_AFTER_SECONDS + 20)
        meanwhile = await system.hub.get(f"/v1/workloads/{workload}")
        west = await system.hub.get("/v1/clusters/west")
        other = await system.hub.place(deployment("quick", 3), team=TEAM)
        elsewhere = await system.hub.runs(other, 3)
    finally:
        await asyncio.to_thread(system.member("west").start_api)
    back = await system.hub.until("/v1/pool", lambda pool: pool["usable"] == 3)
    after = await system.hub.get(f"/v1/workloads/{workload}")

    assert west["silent"]
    assert (silent["nodes"], back["nodes"]) == (whole["nodes"] - NODES, whole["nodes"])
    assert "west" not in by_cluster(elsewhere)
    assert by_cluster(meanwhile) == by_cluster(after) == by_cluster(before)
    assert {pod.uid for pod in await pods(system, "patient") if pod.cluster == "west"} == there
