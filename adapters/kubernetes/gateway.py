"""`ports.ClusterGateway` on a real API server."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from msgspec import Struct

from adapters.kubernetes.access import Access
from adapters.kubernetes.answers import Denied, Disrupted
from adapters.kubernetes.changes import Changes, collection
from adapters.kubernetes.client import APPLY, ApiServer, Limits, Request
from adapters.kubernetes.convert import pod_of
from adapters.kubernetes.kinds import (
    AUTOSCALERS,
    CARRIED,
    DEPLOYMENT,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    STATEFUL_SET,
    Kinds,
    decoded,
    escaped,
    group_path,
)
from adapters.kubernetes.listing import Resource, list_all
from adapters.kubernetes.objects import (
    Controller,
    HorizontalPodAutoscaler,
    LabelledMeta,
    ManagedController,
    ManagedPlain,
    Pod,
    Read,
    ReplicaSet,
)
from adapters.kubernetes.placed import Keeper, Placed, keeper_of, placed_of, scaler_of, whole
from adapters.kubernetes.state import AgentLease, StoredOrders
from adapters.kubernetes.watch import Pace
from federation.domain.errors import Conflict, Invalid, NotFound
from federation.domain.member import (
    FIELD_MANAGER,
    PLACEMENT_LABEL,
    TEAM_LABEL,
    Change,
    MemberObject,
    MemberPod,
    ObjectKey,
)
from federation.domain.records import Orders
from federation.ports import ClusterFacts, LeaseState, PlacementListing

# A creating apply carries it (protocol 4.3): no object has this version, so that one that exists is a conflict.
_NEVER: Final = "1"
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_POD_SECURITY: Final = {"pod-security.kubernetes.io/enforce": "baseline"}


class Options(Struct, frozen=True, kw_only=True):
    """Settings of one gateway; *labels* are the cluster's own, told with its facts."""

    labels: dict[str, str] = {}
    limits: Limits = Limits()
    pace: Pace = Pace()


class KubernetesGateway:
    """One member cluster over its API server, reached as *access* says."""

    def __init__(
        self, access: Access, options: Options | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options or Options()
        self.api = ApiServer(access, self._options.limits)
        self._kinds = Kinds(self.api)
        self._lease = AgentLease(self.api, monotonic)
        self._orders = StoredOrders(self.api)
        self._subscriptions: set[Changes] = set()

    # --- reading -------------------------------------------------------------------------------------------------

    async def changes(self) -> AsyncGenerator[Sequence[Change], None]:
        """Everything first, then what changes, in batches, until `close`."""
        subscription = Changes(self.api, self._options.pace)
        self._subscriptions.add(subscription)
        try:
            async with aclosing(subscription.told()) as batches:
                async for batch in batches:
                    yield batch
        finally:
            self._subscriptions.discard(subscription)

    async def cluster_facts(self) -> ClusterFacts:
        """Version, kinds that workloads can be made of, and labels."""
        return await self._kinds.facts(self._options.labels)

    async def read(self, key: ObjectKey) -> MemberObject | None:
        """The object as the server has it now."""
        try:
            body = await self.api.call(Request(path=await self._kinds.path(key)))
        except NotFound:
            return None
        return await self._completed(_placed(key.api, body))

    async def list_placement(self, placement: str) -> PlacementListing:
        """Objects, then ReplicaSets, then pods, each from storage.

        In this order what a status says of those below it is true of the later list.
        """
        selector = f"{PLACEMENT_LABEL}={_label_value(placement)}"
        lists = (self._list(collection(api), Controller, selector) for api in CARRIED)
        found = await asyncio.gather(*lists)
        placed = [placed_of(api, each) for api, several in zip(CARRIED, found, strict=True) for each in several]
        keepers = [keeper_of(each) for each in await self._list(REPLICA_SETS, ReplicaSet, selector)]
        objects = [await self._with(each, keepers) for each in placed]
        pods = [pod_of(each) for each in await self._list(PODS, Pod, selector)]
        return PlacementListing(objects=tuple(objects), pods=tuple(pods), replica_sets=len(keepers))

    async def _list(self, path: str, kind: Any, selector: str = "") -> list[Any]:
        return await list_all(self.api, Resource(path=path, kind=kind, selector=selector))

    async def _completed(self, placed: Placed) -> MemberObject:
        """The object together with what is beside it in its namespace."""
        return await self._with(placed, await self._keepers(placed))

    async def _keepers(self, placed: Placed) -> list[Keeper]:
        found = placed.object
        if found.key.api != DEPLOYMENT or not found.observed or not found.placement:
            return []
        path = f"{group_path(found.key.api)}/namespaces/{escaped(found.key.namespace)}/replicasets"
        several = await self._list(path, ReplicaSet, f"{PLACEMENT_LABEL}={_label_value(found.placement)}")
        return [keeper_of(each) for each in several]

    async def _with(self, placed: Placed, keepers: list[Keeper]) -> MemberObject:
        own = [each for each in keepers if each.owner == placed.object.uid]
        return whole(placed, own, await self._bounds(placed.object.key))

    async def _bounds(self, key: ObjectKey) -> tuple[int, int] | None:
        """The bounds of the autoscaler that targets the object; a cluster may have none, or not show them."""
        if key.api not in (DEPLOYMENT, STATEFUL_SET):
            return None
        base, _, plural = AUTOSCALERS.rpartition("/")
        try:
            several = await self._list(f"{base}/namespaces/{escaped(key.namespace)}/{plural}", HorizontalPodAutoscaler)
        except (NotFound, Denied):
            return None
        scalers = (scaler_of(each) for each in several)
        return next((each.bounds for each in scalers if each is not None and each.target == key), None)

    # --- writing -------------------------------------------------------------------------------------------------

    async def apply(self, manifest: Mapping[str, Any], uid: str, resource_version: str) -> MemberObject:
        """Server-side apply, preconditioned."""
        key = _key_of(manifest)
        marks = {"uid": uid, "resourceVersion": resource_version} if uid else {"resourceVersion": _NEVER}
        body = {**manifest, "metadata": {**manifest["metadata"], "namespace": key.namespace, **marks}}
        request = Request(
            method="PATCH",
            path=await self._kinds.path(key),
            query={"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"},
            body=body,
            content_type=APPLY,
        )
        try:
            answer = await self.api.call(request)
        except NotFound as error:
            raise Invalid(str(error)) from error
        return await self._completed(_placed(key.api, answer))

    async def delete(self, key: ObjectKey, uid: str) -> None:
        """Foreground deletion of that very object."""
        options = _delete_options(uid) | {"propagationPolicy": "Foreground"}
        await self._delete(await self._kinds.path(key), options)

    async def delete_pod(self, pod: MemberPod) -> None:
        """Delete that very pod."""
        await self._delete(_pod_path(pod), _delete_options(pod.uid))

    async def _delete(self, path: str, options: dict[str, Any]) -> None:
        try:
            await self.api.call(Request(method="DELETE", path=path, body=options))
        except NotFound:
            return

    async def evict(self, pod: MemberPod, grace_seconds: int) -> bool:
        """Evict that very pod, unless its budget forbids it now."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "deleteOptions": _delete_options(pod.uid) | {"gracePeriodSeconds": max(0, grace_seconds)},
        }
        try:
            await self.api.call(Request(method="POST", path=f"{_pod_path(pod)}/eviction", body=body))
        except NotFound:
            return True
        except Disrupted:
            return False
        return True

    async def ensure_namespace(self, namespace: str, team: str) -> None:
        """The namespace is there and belongs to *team*; one that somebody else has made is left alone."""
        path = f"{NAMESPACES}/{escaped(namespace)}"
        try:
            body = await self.api.call(Request(path=path))
        except NotFound:
            body = await self._create_namespace(namespace, team)
        owner = (decoded(body, _Namespace).metadata.labels or {}).get(TEAM_LABEL)
        if owner is None:
            raise Invalid(f"NotOurs: namespace {namespace} was not made by the federation")
        if owner != team:
            raise Invalid(f"namespace {namespace} belongs to team {owner[:63]}")

    async def _create_namespace(self, namespace: str, team: str) -> bytes:
        metadata = {"name": namespace, "labels": {TEAM_LABEL: team, **_POD_SECURITY}}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        try:
            return await self.api.call(Request(method="POST", path=NAMESPACES, body=body))
        except Conflict:
            return await self.api.call(Request(path=f"{NAMESPACES}/{escaped(namespace)}"))

    # --- the agents' state -----------------------------------------------------------------------------------------

    async def load_orders(self) -> Orders:
        """What was stored last."""
        return await self._orders.load()

    async def store_orders(self, orders: Orders) -> None:
        """Keep *orders*; Conflict when another agent has stored since they were loaded."""
        await self._orders.store(orders)

    async def hold_lease(self, holder: str, seconds: float) -> LeaseState | None:
        """Acquire or renew; None while another holds it."""
        return await self._lease.hold(holder, seconds)

    async def drop_lease(self, holder: str) -> None:
        """Let another take it at once."""
        await self._lease.drop(holder)

    async def close(self) -> None:
        """End the watches and close the connections."""
        for subscription in list(self._subscriptions):
            subscription.close()
        await self.api.close()


class _Namespace(Read, kw_only=True):
    metadata: LabelledMeta


def _placed(api: str, body: bytes) -> Placed:
    """One object as read, with the managers of its fields."""
    if api in CARRIED:
        read = decoded(body, ManagedController)
        return placed_of(api, read, read.metadata.managed_fields)
    return placed_of(api, Controller(metadata=decoded(body, ManagedPlain).metadata))


def _key_of(manifest: Mapping[str, Any]) -> ObjectKey:
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    version, kind = manifest.get("apiVersion"), manifest.get("kind")
    name, namespace = metadata.get("name"), metadata.get("namespace", "default")
    for text in (version, kind, name, namespace):
        if not isinstance(text, str) or not text:
            raise Invalid("apiVersion, kind and metadata.name are required")
    return ObjectKey(f"{version}/{kind}", str(namespace), str(name))


def _delete_options(uid: str) -> dict[str, Any]:
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    return options | ({"preconditions": {"uid": uid}} if uid else {})


def _pod_path(pod: MemberPod) -> str:
    return f"{NAMESPACES}/{escaped(pod.namespace)}/pods/{escaped(pod.name)}"


def _label_value(text: str) -> str:
    if _LABEL_VALUE.fullmatch(text) is None:
        raise Invalid(f"not a placement id: {text[:64]!a}")
    return text
