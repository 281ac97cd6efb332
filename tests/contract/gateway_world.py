"""The world that a gateway is tried in, the manifests that are tried, and a subscriber that folds what it is told.

A world is one member cluster with room for its own nodes and a namespace that no other test uses. Tests never count
nodes or pods that are not theirs, so that a world may share its cluster with others.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from federation.domain.errors import Conflict
from federation.domain.events import Taint
from federation.domain.member import (
    GENERATION_ANNOTATION,
    PLACEMENT_LABEL,
    REVISION_LABEL,
    TEAM_LABEL,
    VERSION_ANNOTATION,
    WORKLOAD_ANNOTATION,
    Change,
    Listed,
    MemberObject,
    MemberPod,
    NodeChanged,
    NodeDeleted,
    ObjectChanged,
    ObjectDeleted,
    ObjectKey,
    PodChanged,
    PodDeleted,
)
from federation.ports import ClusterGateway, PlacementListing

Condition = Callable[[], Awaitable[bool]]


class World(Protocol):
    """One member cluster. *namespace* and *pool* (a node label's value) are this test's own."""

    gateway: ClusterGateway
    namespace: str
    pool: str

    async def add_node(self, name: str, allocatable: Mapping[str, str], taints: tuple[Taint, ...] = ()) -> None:
        """A node labelled `pool: <pool>`, whose pods will run."""

    async def wait_until(self, condition: Condition, seconds: float = 60) -> None:
        """Let time pass, looking often, until *condition* holds; AssertionError when it never does."""


# --- builders ----------------------------------------------------------------------------------------------------------

POD = {"cpu": "500m", "memory": "256Mi"}


def make_manifest(world: World, kind: str, spec: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """A manifest as the agent writes it: placement and revision on pods, versions on the object alone."""
    name, placement = options.get("name", "web"), options.get("placement", placement_of(world))
    labels = {"app": name, PLACEMENT_LABEL: placement, REVISION_LABEL: options.get("revision", "1")}
    annotations = {VERSION_ANNOTATION: "7", GENERATION_ANNOTATION: "3", WORKLOAD_ANNOTATION: "web"}
    container = {"name": "main", "image": "nowhere/none:1", "resources": {"requests": options.get("requests", POD)}}
    pod = {"containers": [container], "nodeSelector": {"pool": world.pool}, **options.get("pod", {})}
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": world.namespace,
            "labels": {**labels, TEAM_LABEL: "shop"},
            "annotations": annotations,
        },
        "spec": {**spec, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def make_deployment(world: World, replicas: int, **options: Any) -> dict[str, Any]:
    """A Deployment whose pods may only go to the world's own nodes."""
    return make_manifest(
        world, "Deployment", {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}}, **options
    )


def make_job(world: World, parallelism: int, completions: int) -> dict[str, Any]:
    """A Job whose pods end by themselves."""
    job = make_manifest(
        world, "Job", {"parallelism": parallelism, "completions": completions}, pod={"restartPolicy": "Never"}
    )
    job["spec"]["template"]["metadata"]["annotations"] = {"simulated.federation.io/run-seconds": "1"}
    return job


def placement_of(world: World) -> str:
    return f"placement-of-{world.namespace}"


def key_of(world: World, kind: str = "apps/v1/Deployment") -> ObjectKey:
    return ObjectKey(kind, world.namespace, "web")


async def listed(world: World) -> PlacementListing:
    return await world.gateway.list_placement(placement_of(world))


def live(listing: PlacementListing) -> list[MemberPod]:
    return [pod for pod in listing.pods if not pod.terminating and not pod.terminal]


async def stand(world: World, manifest: Mapping[str, Any], pods: int) -> PlacementListing:
    """Create it and wait until so many of its pods are ready."""
    await world.gateway.ensure_namespace(world.namespace, "shop")
    await world.gateway.apply(manifest, "", "")
    return await settled(world, pods)


async def settled(world: World, pods: int, revision: str | None = None) -> PlacementListing:
    """Wait until exactly *pods* pods are there, all ready, and what was written has been observed."""

    async def is_settled() -> bool:
        listing = await listed(world)
        ready = [pod for pod in listing.pods if pod.ready and (revision is None or pod.revision == revision)]
        return len(listing.pods) == len(ready) == pods and all(each.observed for each in listing.objects)

    await world.wait_until(is_settled)
    return await listed(world)


async def change(world: World, manifest: Mapping[str, Any]) -> MemberObject:
    """Apply onto the object as it is; a controller may write its status in between, so try again as an agent does."""
    for _ in range(20):
        found = await world.gateway.read(key_of(world, f"{manifest['apiVersion']}/{manifest['kind']}"))
        assert found is not None
        try:
            return await world.gateway.apply(manifest, found.uid, found.resource_version)
        except Conflict:
            await asyncio.sleep(0)
    raise AssertionError("the object never stood still")


class Told:
    """What a subscriber knows, folded from the changes as an agent does."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.listed: set[str] = set()
        self.nodes: dict[str, Change] = {}
        self.pods: dict[str, MemberPod] = {}
        self.objects: dict[str, MemberObject] = {}
        self.gone: set[str] = set()

    def fold(self, told: Change) -> None:
        self.changes.append(told)
        match told:
            case Listed(kind):
                self.listed.add(kind)
            case NodeChanged(node):
                self.nodes[node.name] = told
            case NodeDeleted(name):
                self.nodes.pop(name, None)
            case PodChanged(pod):
                self.pods[pod.uid] = pod
            case ObjectChanged(found):
                self.objects[found.uid] = found
            case PodDeleted(uid) | ObjectDeleted(uid):
                self.gone.add(uid)
                self.pods.pop(uid, None)
                self.objects.pop(uid, None)

    def pods_of(self, placement: str) -> list[MemberPod]:
        return [pod for pod in self.pods.values() if pod.placement == placement]


@asynccontextmanager
async def subscribed(gateway: ClusterGateway) -> AsyncIterator[Told]:
    """A subscriber that folds in the background."""
    told = Told()

    async def follow() -> None:
        async for batch in gateway.changes():
            for each in batch:
                told.fold(each)

    follower = asyncio.create_task(follow())
    try:
        yield told
        assert not follower.done()
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)


async def has_listed(told: Told) -> bool:
    return told.listed == {"nodes", "pods", "objects"}
