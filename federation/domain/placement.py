"""A placement: so many replicas of a workload in one cluster; what it claims, holds and has bound.

The arithmetic is protocol sections 3.1 to 3.5: the claim is the most that any version not yet superseded asks
for and never less than the live pods last seen; held = max(0, claim - bound), named on nodes; an ended placement
gives its claim back only by an observation read after the agent's `done` reached its last order.
"""

from collections.abc import Mapping
from enum import StrEnum
from itertools import combinations
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from federation.domain.events import PlacementObserved
from federation.domain.resources import add, largest, scale, subtract

UNNAMED: Final = ""
COMPLETE: Final = "Complete"
FAILED: Final = "Failed"


class AskKind(StrEnum):
    """What an order asks for: so many; at most so many but never below what is bound; nothing.

    LEFT stands for no order: what the caller deployed is no longer wanted, and goes when the caller takes it away.
    """

    WANTED = "wanted"
    FLOOR = "floor"
    GONE = "gone"
    LEFT = "left"


_ENDS: Final = (AskKind.GONE, AskKind.LEFT)


class Ask(Struct, frozen=True, array_like=True, gc=False):
    """One version that is not superseded. *order* is the number given at dispatch, 0 while it waits."""

    version: int
    replicas: int
    kind: AskKind
    order: int = 0
    surge: int = 0
    revision: str = ""
    requests: dict[str, int] = {}


class Seen(Struct, frozen=True, gc=False):
    """What the member last told of a placement; *done* is the last order that it had carried out by then.

    *autoscaled* is how many replicas an autoscaler there may ask for; 0 where there is none.
    """

    version: int = 0
    done: int = 0
    observed: bool = False
    revision: str = ""
    desired: int = 0
    live: int = 0
    ready: int = 0
    updated: int = 0
    succeeded: int = 0
    failed: int = 0
    condition: str = ""
    autoscaled: int = 0
    unschedulable: int = 0
    unschedulable_reason: str = ""
    refused: int = 0
    refused_reason: str = ""


class Placement(Struct, frozen=True, kw_only=True, gc=False):
    """A placement on record. *bound* is the sum over the cluster's nodes; *holds* name nodes and sum to held.

    *completions* is this cluster's share of a Job, divided once; None for what does not end by itself. *adopted* is
    the generation in which it was last adopted after a restore, *found* that what was found is not what was decided.
    """

    id: str
    workload: str
    team: str
    cluster: str
    component: str = "main"
    completions: int | None = None
    version: int = 0
    asks: tuple[Ask, ...] = ()
    ended: bool = False
    released: bool = False
    bound: int = 0
    holds: dict[str, int] = {}
    seen: Seen = Seen()
    stamp: tuple[int, int, int] = (0, 0, 0)
    held_since_ms: int = 0
    dispatched_ms: int = 0
    created_ms: int = 0
    adopted: int = 0
    found: bool = False

    @property
    def claim(self) -> int:
        """Replicas that this placement may still come to have (3.1), by an autoscaler in the member too (3.7)."""
        if self.released:
            return 0
        asked = max([ask.replicas + ask.surge for ask in self.asks], default=0)
        if self.completions is not None and not self.begins_anew:
            asked = 0 if self.finished else min(asked, max(0, self.completions - self.seen.succeeded))
        return max(asked, self.seen.live, self.seen.autoscaled)

    @property
    def begins_anew(self) -> bool:
        """Whether an object will be made after one that is still to be deleted: what the old Job has brought is lost."""
        gone = min((ask.version for ask in self.asks if ask.kind is AskKind.GONE), default=self.version)
        return any(ask.version > gone and ask.kind is AskKind.WANTED for ask in self.asks)

    @property
    def finished(self) -> bool:
        """Whether this is a Job that has come to its end (3.6)."""
        return self.completions is not None and self.seen.condition in (COMPLETE, FAILED)

    @property
    def held(self) -> int:
        """Replicas decided and not yet observed on a node (3.2)."""
        return max(0, self.claim - self.bound)

    @property
    def wanted(self) -> int:
        """Replicas that the newest version asks for, without its surge."""
        return 0 if self.ended or not self.asks else self.asks[-1].replicas

    @property
    def floor_is_open(self) -> bool:
        """Whether the last order is a floor of which it is not known yet what it left (3.5)."""
        last = self.asks[-1] if self.asks else None
        return last is not None and last.kind is AskKind.FLOOR and 0 < self.seen.version < last.version

    @property
    def emptied(self) -> bool:
        """Whether a floor has left nothing: the object stands without replicas."""
        last = self.asks[-1] if self.asks else None
        in_force = last is not None and self.seen.version == last.version and self.seen.observed
        return in_force and last is not None and last.kind is AskKind.FLOOR and not self.claim

    @property
    def request(self) -> dict[str, int]:
        """What one replica may take: each resource at the largest request of the versions in flight (3.3)."""
        if len(self.asks) == 1:
            return self.asks[0].requests
        request: dict[str, int] = {}
        for ask in self.asks:
            request = largest(request, ask.requests)
        return request

    @property
    def growth(self) -> dict[str, int]:
        """By how much a bound pod may still grow: it may be of any version in flight, and become of a later one (3.3)."""
        if len(self.asks) < 2 or not self.bound:
            return {}
        sizes = [ask.requests for ask in self.asks if ask.kind not in _ENDS]
        growth: dict[str, int] = {}
        for older, newer in combinations(sizes, 2):
            grown = subtract(newer, older)
            growth = largest(growth, {name: amount for name, amount in grown.items() if amount > 0})
        return growth

    def held_amounts(self) -> dict[str, int]:
        """What the holds keep free: held replicas, and the growth of bound pods that a rollout may bring."""
        return self._with_growth(scale(self.request, self.held))

    def claimed_amounts(self) -> dict[str, int]:
        """What the claim may come to take: a commit that raises any of it must leave no excess (2.3)."""
        return self._with_growth(scale(self.request, self.claim))

    def _with_growth(self, amounts: dict[str, int]) -> dict[str, int]:
        growth = self.growth
        return add(amounts, scale(growth, self.bound)) if growth else amounts

    def raises(self, before: "Placement | None") -> bool:
        """Whether the claim rises from *before*, be more bound already: a pod that changes nodes can show twice (2.3)."""
        claimed = before.claimed_amounts() if before is not None else {}
        rises = any(amount > claimed.get(name, 0) for name, amount in self.claimed_amounts().items())
        return rises or self.claim > (before.claim if before is not None else 0)

    def asking(self, ask: Ask) -> "Placement":
        """The placement with one more version; the node names of its holds are the caller's to add."""
        ended = ask.kind is AskKind.GONE
        return replace(self, version=ask.version, asks=(*self.asks, ask), ended=ended, found=False)

    def holding(self, holds: Mapping[str, int], now_ms: int, before: int) -> "Placement":
        """The placement with *holds* named beside those it has; *before* is how many it held until now (3.5)."""
        named = {node: self.holds.get(node, 0) + holds.get(node, 0) for node in {*self.holds, *holds}}
        since = now_ms if self.held and not before else self.held_since_ms
        return replace(self, holds=named, held_since_ms=since).settled(UNNAMED, now_ms)

    def numbered(self, version: int, order: int, now_ms: int) -> "Placement":
        """The placement once *version* was given an order number at dispatch."""
        asks = tuple(replace(ask, order=order) if ask.version == version else ask for ask in self.asks)
        return replace(self, asks=asks, dispatched_ms=now_ms)

    def with_bound(self, node: str, delta: int, now_ms: int) -> "Placement":
        """The placement once *delta* more (or fewer) of its replicas are seen bound on *node* (3.4)."""
        return replace(self, bound=max(0, self.bound + delta)).settled(node, now_ms)

    def settled(self, node: str, now_ms: int) -> "Placement":
        """The placement with holds that sum to held: a surplus goes from *node* first, then by name; a lack joins *node*."""
        held, named = self.held, sum(self.holds.values())
        if named == held:
            return self
        holds = dict(self.holds)
        if named < held:
            holds[node] = holds.get(node, 0) + held - named
            since = now_ms if named == 0 else self.held_since_ms
            return replace(self, holds=holds, held_since_ms=since)
        return replace(self, holds=_released(holds, node, named - held))

    def observing(self, event: PlacementObserved, now_ms: int) -> "Placement":
        """The placement once the member's *event* about it was read: supersedes versions, releases an ended claim."""
        after = replace(self, seen=self._remembering(seen_of(event)), asks=self._superseded(event))
        if self._gives_back(event):
            after = replace(after, released=True, asks=(), seen=replace(after.seen, live=0))
        return after.settled(UNNAMED, now_ms)

    def _remembering(self, seen: Seen) -> Seen:
        """Complete and failed are terminal: a Job that its TTL deletes has not become undone (3.6)."""
        if not self.finished or (self.begins_anew and seen.version > self.seen.version):
            return seen
        return replace(seen, condition=self.seen.condition, succeeded=self.seen.succeeded, failed=self.seen.failed)

    def _gives_back(self, event: PlacementObserved) -> bool:
        """Whether *event*, read after `done` reached the last order, shows an ended placement gone (3.1).

        A placement that the caller deploys has no orders: it is gone when its pods are.
        """
        if not self.ended or not self.asks:
            return False
        last = self.asks[-1]
        return event.live == 0 if last.kind is AskKind.LEFT else event.gone and 0 < last.order <= event.done

    def deployed_by_caller(self, ask: Ask) -> "Placement":
        """The placement once *ask* replaces all others: where no order is sent, nothing of the past can come true (3.8)."""
        return replace(self, version=ask.version, asks=(ask,), ended=False)

    def left_by_caller(self) -> "Placement":
        """The placement once the caller's pods are no longer wanted: what still lives is claimed until it is gone (3.8)."""
        if not self.seen.live and not self.bound:
            return replace(self, version=self.version + 1, asks=(), holds={}, ended=True, released=True)
        left = Ask(self.version + 1, 0, AskKind.LEFT, requests=self.request)
        return replace(self, version=left.version, asks=(left,), ended=True)

    def recalled(self) -> "Placement":
        """The placement without the versions that were never sent: their orders are taken back in this transaction."""
        return replace(self, asks=tuple(ask for ask in self.asks if ask.order))

    def _superseded(self, event: PlacementObserved) -> tuple[Ask, ...]:
        """The versions that remain once *event* shows one of them in force (3.1, 3.3, 3.5)."""
        current = next((ask for ask in self.asks if ask.version == event.version), None)
        if current is None or not event.observed or current.kind in _ENDS:
            return self.asks
        if current.kind is AskKind.FLOOR:
            current = replace(current, replicas=event.desired)
        rolled_out = _rolled_out(current, event)
        settled = replace(current, surge=0) if rolled_out else current
        if event.live > settled.replicas + settled.surge:
            return self.asks
        newer = tuple(ask for ask in self.asks if ask.version > current.version)
        return (*(() if rolled_out else _older_sizes(self.asks, current)), settled, *newer)


def seen_of(event: PlacementObserved) -> Seen:
    """What is kept of an observation."""
    return Seen(
        version=event.version,
        done=event.done,
        observed=event.observed,
        revision=event.revision,
        desired=event.desired,
        live=event.live,
        ready=event.ready,
        updated=event.updated,
        succeeded=event.succeeded,
        failed=event.failed,
        condition=event.condition,
        autoscaled=max(1, event.autoscaler.max_replicas) if event.autoscaler is not None else 0,
        unschedulable=event.unschedulable.count,
        unschedulable_reason=event.unschedulable.reason,
        refused=event.refused.count,
        refused_reason=event.refused.reason,
    )


def _older_sizes(asks: tuple[Ask, ...], current: Ask) -> tuple[Ask, ...]:
    """Until a rollout is over the older versions ask for nothing, but pods of their size may still be there (3.3)."""
    older = (ask for ask in asks if ask.version < current.version and ask.kind not in _ENDS)
    return tuple(replace(ask, replicas=0, surge=0) for ask in older if ask.requests != current.requests)


def _rolled_out(ask: Ask, event: PlacementObserved) -> bool:
    """Whether the surge of *ask* has ended: all replicas bound in the new revision, no older pod left (3.3)."""
    return event.updated >= ask.replicas and event.live <= ask.replicas


def _released(holds: dict[str, int], node: str, surplus: int) -> dict[str, int]:
    """*holds* less *surplus*, from *node* first and then from the first by name."""
    while surplus:
        name = node if node in holds else min(holds)
        left = max(0, holds[name] - surplus)
        surplus -= holds[name] - left
        holds[name] = left
        if not left:
            del holds[name]
    return holds
