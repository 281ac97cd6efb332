"""What stands in the member clusters, as their administrators see it, and what of the pool is free."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from tests.e2e.hub import Hub
from tests.e2e.system import CLUSTERS, System

Json = Any
TEAM: Final = "shop"
KINDS: Final = {
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of a workload."""

    cluster: str
    uid: str
    phase: str
    cpu: str
    ends: bool


async def pods(system: System, app: str, namespace: str = TEAM) -> list[Pod]:
    """All pods of *app*, over all clusters."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    lists = await asyncio.gather(*(system.member(name).get(path, labelSelector=f"app={app}") for name in CLUSTERS))
    return [_pod(name, item) for name, found in zip(CLUSTERS, lists, strict=True) for item in found["items"]]


def _pod(cluster: str, item: Json) -> Pod:
    return Pod(
        cluster=cluster,
        uid=item["metadata"]["uid"],
        phase=item["status"]["phase"],
        cpu=item["spec"]["containers"][0]["resources"]["requests"]["cpu"],
        ends="deletionTimestamp" in item["metadata"],
    )


def per_cluster(found: list[Pod]) -> dict[str, int]:
    """How many of *found* each cluster has, if any."""
    counts = {cluster: sum(pod.cluster == cluster for pod in found) for cluster in CLUSTERS}
    return {cluster: count for cluster, count in counts.items() if count}


async def objects(system: System, name: str, namespace: str = TEAM) -> list[str]:
    """`cluster/kind` of the objects of that name, and of the ReplicaSets of a Deployment of that name."""
    return [
        f"{cluster}/{plural}"
        for cluster in CLUSTERS
        for plural, group in KINDS.items()
        for item in (await system.member(cluster).get(f"{group}/namespaces/{namespace}/{plural}"))["items"]
        if item["metadata"]["name"] == name or item["metadata"]["name"].startswith(f"{name}-")
    ]


async def free(hub: Hub) -> dict[str, Json]:
    """What is free in the pool, by resource."""
    pool = await hub.get("/v1/pool")
    return {name: amounts["free"] for name, amounts in pool["resources"].items()}
