"""What agents leave for their successors in the member: the Lease that one of them holds, and the orders carried out."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from adapters.kubernetes.client import ApiServer, Request
from adapters.kubernetes.kinds import decoded
from adapters.kubernetes.objects import Meta, Part
from federation.domain.errors import Conflict, Invalid, NotFound
from federation.domain.member import SYSTEM_NAMESPACE
from federation.domain.records import Orders
from federation.ports import LeaseState

LEASE: Final = "federation-agent"
ORDERS: Final = "federation-orders"
_LEASES: Final = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases"
_CONFIG_MAPS: Final = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps"
_TRIES: Final = 3
_MOST_DIGITS: Final = 18


class _LeaseSpec(Struct, frozen=True, rename="camel", kw_only=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Lease(Part, kw_only=True):
    metadata: Meta
    spec: _LeaseSpec | None = None


class _ConfigMap(Part, kw_only=True):
    metadata: Meta
    data: dict[str, str] | None = None


class AgentLease:
    """The agents' Lease.

    Whether another's has run out is judged as client-go does: by how long *we* have seen it unchanged, never by
    comparing its times with our clock. Every acquisition raises the transitions.
    """

    def __init__(self, api: ApiServer, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._monotonic = monotonic
        self._seen: tuple[str, _LeaseSpec] | None = None
        self._seen_at = 0.0

    async def hold(self, holder: str, seconds: float) -> LeaseState | None:
        """Acquire or renew; None while another holds it."""
        for _ in range(_TRIES):
            try:
                return await self._try(holder, seconds)
            except Conflict:
                continue
        return None

    async def _try(self, holder: str, seconds: float) -> LeaseState | None:
        found = await self._read()
        if found is None:
            return await self._create(holder, seconds)
        spec = found.spec or _LeaseSpec()
        if spec.holder_identity == holder:
            return await self._write(found, _held(spec, seconds))
        if spec.holder_identity and not self._has_run_out(found.metadata.uid, spec):
            return None
        return await self._write(found, _acquired(spec, holder, seconds))

    def _has_run_out(self, uid: str, spec: _LeaseSpec) -> bool:
        now = self._monotonic()
        if self._seen != (uid, spec):
            self._seen, self._seen_at = (uid, spec), now
        return now - self._seen_at >= (spec.lease_duration_seconds or 0)

    async def drop(self, holder: str) -> None:
        """Let another take it at once; another's stays as it is."""
        for _ in range(_TRIES):
            found = await self._read()
            if found is None or found.spec is None or found.spec.holder_identity != holder:
                return
            try:
                await self._write(found, msgspec.structs.replace(found.spec, holder_identity="", renew_time=_now()))
            except Conflict:
                continue
            return

    async def _read(self) -> _Lease | None:
        try:
            return decoded(await self._api.call(Request(path=f"{_LEASES}/{LEASE}")), _Lease)
        except NotFound:
            return None

    async def _create(self, holder: str, seconds: float) -> LeaseState:
        body = _lease_body({"name": LEASE}, _acquired(_LeaseSpec(), holder, seconds))
        return _state(await _create(self._api, _LEASES, body))

    async def _write(self, found: _Lease, spec: _LeaseSpec) -> LeaseState:
        meta = {"name": LEASE, "uid": found.metadata.uid, "resourceVersion": found.metadata.resource_version}
        request = Request(method="PUT", path=f"{_LEASES}/{LEASE}", body=_lease_body(meta, spec))
        try:
            return _state(await self._api.call(request))
        except NotFound as error:
            raise Conflict("the Lease was deleted in between") from error


def _held(spec: _LeaseSpec, seconds: float) -> _LeaseSpec:
    return msgspec.structs.replace(spec, renew_time=_now(), lease_duration_seconds=_whole_seconds(seconds))


def _acquired(spec: _LeaseSpec, holder: str, seconds: float) -> _LeaseSpec:
    now = _now()
    return _LeaseSpec(
        holder_identity=holder,
        lease_duration_seconds=_whole_seconds(seconds),
        acquire_time=now,
        renew_time=now,
        lease_transitions=(spec.lease_transitions or 0) + 1,
    )


def _state(body: bytes) -> LeaseState:
    lease = decoded(body, _Lease)
    return LeaseState(lease.metadata.uid, (lease.spec or _LeaseSpec()).lease_transitions or 0)


def _lease_body(metadata: dict[str, str], spec: _LeaseSpec) -> dict[str, Any]:
    namespaced = {**metadata, "namespace": SYSTEM_NAMESPACE}
    fields = {name: value for name, value in msgspec.to_builtins(spec).items() if value not in (None, "")}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": namespaced, "spec": fields}


def _whole_seconds(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _now() -> str:
    """The wall clock, for people to read: no agent compares it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Stored(Struct, frozen=True):
    """What the ConfigMap held when it was last known."""

    uid: str = ""
    version: str = ""
    orders: Orders = Orders()


class StoredOrders:
    """The ConfigMap with the generation and the last order carried out.

    A write goes through only while nobody else has written since `load`: an agent that has lost its Lease without
    knowing cannot set back what its successor has stored. A write whose answer was lost is known again by its content.
    """

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._stored: _Stored | None = None
        self._attempted: Orders | None = None

    async def load(self) -> Orders:
        """What is stored; none are orders of generation 0."""
        self._stored, self._attempted = await self._read(), None
        return self._stored.orders

    async def store(self, orders: Orders) -> None:
        """Keep *orders*; Conflict when another has stored in between."""
        if self._stored is None:
            await self.load()
        for _ in range(_TRIES):
            try:
                self._stored = await self._write(orders)
            except Conflict:
                await self._look_again()
            else:
                self._attempted = None
                return
        raise Conflict(f"{ORDERS} changes faster than it can be written")

    async def _look_again(self) -> None:
        """Take the newer version where its content is ours."""
        now = await self._read()
        known = self._stored.orders if self._stored is not None else Orders()
        if now.orders not in (known, self._attempted):
            raise Conflict(f"another agent has stored {now.orders.generation}/{now.orders.done} in {ORDERS}")
        self._stored = now

    async def _read(self) -> _Stored:
        try:
            body = await self._api.call(Request(path=f"{_CONFIG_MAPS}/{ORDERS}"))
        except NotFound:
            return _Stored()
        return _stored(body)

    async def _write(self, orders: Orders) -> _Stored:
        before, self._attempted = self._stored or _Stored(), orders
        body = _orders_body(before, orders)
        if not before.uid:
            return _stored(await _create(self._api, _CONFIG_MAPS, body))
        try:
            return _stored(await self._api.call(Request(method="PUT", path=f"{_CONFIG_MAPS}/{ORDERS}", body=body)))
        except NotFound as error:
            raise Conflict(f"{ORDERS} was deleted in between") from error


def _orders_body(before: _Stored, orders: Orders) -> dict[str, Any]:
    metadata = {"name": ORDERS, "namespace": SYSTEM_NAMESPACE}
    if before.uid:
        metadata |= {"uid": before.uid, "resourceVersion": before.version}
    data = {"generation": str(orders.generation), "done": str(orders.done)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _stored(body: bytes) -> _Stored:
    read = decoded(body, _ConfigMap)
    data = read.data or {}
    orders = Orders(generation=_number(data, "generation"), done=_number(data, "done"))
    return _Stored(read.metadata.uid, read.metadata.resource_version, orders)


def _number(data: dict[str, str], name: str) -> int:
    text = data.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise Invalid(f"{SYSTEM_NAMESPACE}/{ORDERS}: {name} is not a whole number: {text[:64]!a}")
    return int(text)


async def _create(api: ApiServer, path: str, body: dict[str, Any]) -> bytes:
    try:
        return await api.call(Request(method="POST", path=path, body=body))
    except NotFound as error:
        raise Invalid(f"namespace {SYSTEM_NAMESPACE} does not exist: apply the agent's manifests first") from error
