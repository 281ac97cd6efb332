"""Workloads from place to delete, in real clusters."""

import pytest

from tests.e2e.hub import by_cluster
from tests.e2e.manifests import deployment
from tests.e2e.sight import TEAM, free, objects, per_cluster, pods
from tests.e2e.system import System

pytestmark = pytest.mark.timeout(60, func_only=True)


async def test_a_deployment_runs_where_it_was_decided_and_leaves_nothing_behind(system: System):
    before = await free(system.hub)

    workload = await system.hub.place(deployment("web", 6), team=TEAM)
    placed = await system.hub.runs(workload, 6)
    running = await pods(system, "web")
    await system.hub.delete(workload)
    await system.hub.gone(workload)

    assert per_cluster(running) == by_cluster(placed)
    assert {pod.phase for pod in running} == {"Running"}
    assert (await objects(system, "web"), await pods(system, "web")) == ([], [])
    await system.hub.until("/v1/pool", lambda pool: {n: a["free"] for n, a in pool["resources"].items()} == before, 5)
