"""Acting: one order carried out against the member's API server, by reads and preconditioned writes (protocol 4.3).

Each verb may run any number of times and has one effect: it reads what stands there, does nothing where that is as
new as the order, and writes only onto exactly what it read. It returns once the order's effect is durable, raises
`Invalid` where it never will be, `Waiting` where something must end first, `Conflict` or `Unavailable` to be tried again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from federation.domain.errors import Conflict, FederationError, Invalid, Unavailable
from federation.domain.events import Action, PlacementUnwanted, PlacementWanted, PodsEvict, ResyncRequested
from federation.domain.member import MemberObject, MemberPod, ObjectKey
from federation.domain.tally import clipped, listed_view
from federation.ports import ClusterGateway, PlacementListing
from federation.services.agent import AgentParts, Fence, limited
from federation.services.manifests import check_allowed, key_of, manifest_for

T = TypeVar("T")

_STATEFUL_SET: Final = "apps/v1/StatefulSet"


class Waiting(FederationError):
    """Something must come to its end before this order can be carried out."""


@dataclass(frozen=True, slots=True)
class Hands:
    """Calls to the member, each only while the Lease is held and each with its time limit."""

    parts: AgentParts
    fence: Fence

    @property
    def gateway(self) -> ClusterGateway:
        return self.parts.gateway

    async def call(self, verb: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """The answer of one call that is over before another could take the Lease."""
        if not self.fence.holds:
            raise Unavailable("the Lease is not held")
        return await limited(verb(*arguments), self.parts.settings.call_seconds)


async def carry_out(hands: Hands, order: Action) -> str:
    """Carry out *order* once; what to note about it, mostly nothing."""
    match order:
        case PlacementWanted():
            return await _want(hands, order)
        case PlacementUnwanted():
            return await _unwant(hands, order)
        case PodsEvict():
            return await _evict(hands, order)
        case ResyncRequested():
            return ""


async def _want(hands: Hands, order: PlacementWanted) -> str:
    key = key_of(order)
    check_allowed(key, hands.parts.settings.kinds, hands.parts.settings.namespaces)
    current = await hands.call(hands.gateway.read, key)
    if current is None:
        return await _create(hands, order, key)
    if current.terminating:
        raise Waiting(f"{key.api} {key.namespace}/{key.name} is still terminating")
    if current.placement != order.placement:
        owner = f"placement {current.placement}" if current.placement else "someone else"
        raise Invalid(f"NotOurs: {key.api} {key.namespace}/{key.name} belongs to {owner}")
    if current.version >= order.version:
        return "already there"
    replicas = await _replicas(hands, order, current)
    manifest = manifest_for(order, key, replicas)
    await hands.call(hands.gateway.apply, manifest, current.uid, current.resource_version)
    return ""


async def _create(hands: Hands, order: PlacementWanted, key: ObjectKey) -> str:
    if order.floor_at_bound:
        return "nothing is there to shrink"
    manifest = manifest_for(order, key, order.replicas)
    await hands.call(hands.gateway.ensure_namespace, key.namespace, order.team)
    await hands.call(hands.gateway.apply, manifest, "", "")
    return ""


async def _replicas(hands: Hands, order: PlacementWanted, current: MemberObject) -> int | None:
    """How many to ask for; None where an autoscaler has taken the number over (3.7)."""
    if current.autoscaler is not None and not current.owned_replicas:
        return None
    if not order.floor_at_bound:
        return order.replicas
    listing = await _listing(hands, order.placement)
    bound = listed_view(listing.objects, listing.pods).tally.bound
    if current.key.api == _STATEFUL_SET and bound:
        # Which pods go is by ordinal, not by which wait: one with bound pods is left whole (3.5).
        return current.replicas
    return min(current.replicas, max(order.replicas, bound))


async def _unwant(hands: Hands, order: PlacementUnwanted) -> str:
    """Delete what stands at the order's version or below; pods whose owners are gone too."""
    listing = await _listing(hands, order.placement)
    doomed = [found for found in listing.objects if found.version <= order.version and not found.terminating]
    for found in doomed:
        await hands.call(hands.gateway.delete, found.key, found.uid)
    if len(listing.objects) or listing.replica_sets:
        return "" if doomed else "nothing is left to delete"
    for pod in listing.pods:
        if not pod.terminating:
            await hands.call(hands.gateway.delete_pod, pod)
    return ""


async def _evict(hands: Hands, order: PodsEvict) -> str:
    """Evict those of the named pods that are still the same pods of this placement."""
    listing = await _listing(hands, order.placement)
    if any(found.version > order.version for found in listing.objects):
        return "a newer version stands there"
    named = {pod.uid for pod in order.pods}
    blocked = [
        pod
        for pod in listing.pods
        if pod.uid in named and not pod.terminating and not await _evicted(hands, pod, order.grace_seconds)
    ]
    if blocked:
        raise Waiting(f"a disruption budget forbids the eviction of {len(blocked)} pods")
    return ""


async def _evicted(hands: Hands, pod: MemberPod, grace_seconds: int) -> bool:
    try:
        return await hands.call(hands.gateway.evict, pod, grace_seconds)
    except Conflict:
        # Another pod bears the name by now: the one that was meant is gone.
        return True


async def _listing(hands: Hands, placement: str) -> PlacementListing:
    return await hands.call(hands.gateway.list_placement, placement)


def reason_of(error: Exception) -> str:
    """The words to tell the hub."""
    return clipped(str(error) or type(error).__name__)
