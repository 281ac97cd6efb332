"""Orders that came in and are not yet stored as done: which may begin, and up to where all are carried out (4.1).

Pure bookkeeping of one term. A number that is missing blocks those above it until the hub sends it again. Orders of
different placements may run side by side; one begins only when all before it for the same placement are stored.
"""

from dataclasses import dataclass
from typing import Final

from federation.domain.events import Action, PlacementUnwanted, PlacementWanted, ResyncRequested
from federation.domain.records import Orders

MAX_ORDERS: Final = 2048
MAX_BYTES: Final = 32 * 2**20
WINDOW: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """An order of which only the number is understood: it is refused, so that those behind it go on."""

    order: int
    generation: int
    placement: str
    version: int
    reason: str


Order = Action | Unreadable


@dataclass(slots=True)
class _Held:
    order: Order
    size: int
    started: bool = False
    outcome: "Outcome | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an order ended: `applied`, `refused` (it never will be) or `failed` (it could not be in time)."""

    word: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An order with its outcome, now stored as done."""

    order: Order
    outcome: Outcome


class OrderBook:
    """The orders of one generation above *done*. Bounded: what is too far ahead is left for the hub to send again."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.newest = orders.generation
        self._held: dict[int, _Held] = {}
        self._bytes = 0

    def receive(self, order: Order, size: int) -> bool:
        """Take in *order*; False when it is old, known, or finds no room."""
        if order.generation < self.newest:
            return False
        if order.generation > self.newest:
            self.newest = order.generation
            self._drop_waiting()
        done = self.orders.done if self.newest == self.orders.generation else 0
        if order.order <= done or order.order in self._held:
            return False
        self._held[order.order] = _Held(order, size)
        self._bytes += size
        return self._make_room(order.order)

    @property
    def is_superseded(self) -> bool:
        """Whether an order of a generation came in that is not stored yet: nothing begins until it is."""
        return self.newest > self.orders.generation

    @property
    def has_room(self) -> bool:
        """Whether more should be read: it is not full, or what comes next is still missing."""
        full = len(self._held) >= MAX_ORDERS or self._bytes >= MAX_BYTES
        return not full or self.orders.done + 1 not in self._held

    @property
    def running(self) -> int:
        """How many have begun and have no outcome yet."""
        return sum(1 for held in self._held.values() if held.started and held.outcome is None)

    def begin(self, limit: int) -> list[Order]:
        """Mark as begun, and return, what may begin now so that at most *limit* run.

        What is wanted waits for the deletions before it: one of them may free its name, of another placement.
        """
        if self.is_superseded:
            return []
        begun: list[Order] = []
        room, busy, deleting = limit - self.running, set[str](), False
        for number in range(self.orders.done + 1, self.orders.done + 1 + WINDOW):
            held = self._held.get(number)
            if held is None or len(begun) >= room:
                break
            subjects = subjects_of(held.order)
            waits = busy & subjects or (deleting and isinstance(held.order, PlacementWanted))
            if not held.started and not waits:
                held.started = True
                begun.append(held.order)
            busy |= subjects
            deleting |= isinstance(held.order, PlacementUnwanted) and held.outcome is None
        return begun

    def end(self, order: Order, outcome: Outcome) -> None:
        """*order* has come to its end; it is done once stored."""
        held = self._held.get(order.order)
        if held is not None and held.order is order:
            held.outcome = outcome

    def done(self) -> int:
        """The number up to which all have ended, which is what may be stored."""
        number = self.orders.done
        while (held := self._held.get(number + 1)) is not None and held.outcome is not None:
            number += 1
        return number

    def stored(self, orders: Orders) -> list[Ended]:
        """*orders* is now durable; what that makes done, in order."""
        before, self.orders = self.orders, orders
        if orders.generation != before.generation:
            return []
        ended = []
        for number in range(before.done + 1, orders.done + 1):
            held = self._held.get(number)
            # A newer generation may have come in while this one was stored: its orders bear the same numbers.
            if held is not None and held.outcome is not None and held.order.generation == orders.generation:
                del self._held[number]
                self._bytes -= held.size
                ended.append(Ended(order=held.order, outcome=held.outcome))
        return ended

    def _drop_waiting(self) -> None:
        """Orders of an older generation are dropped; the few that have begun end by themselves, and count for nothing."""
        self._held.clear()
        self._bytes = 0

    def _make_room(self, newcomer: int) -> bool:
        while len(self._held) > MAX_ORDERS or self._bytes > MAX_BYTES:
            last = max(self._held)
            if self._held[last].started or len(self._held) == 1:
                return True
            self._bytes -= self._held.pop(last).size
            if last == newcomer:
                return False
        return True


def placement_of(order: Order) -> str:
    """The placement that an order speaks of; empty where it speaks of none."""
    return "" if isinstance(order, ResyncRequested) else order.placement


def subjects_of(order: Order) -> frozenset[str]:
    """What an order is about, its placement and its object's name: orders that share one never run side by side."""
    placement = placement_of(order)
    if isinstance(order, PlacementWanted):
        return frozenset({placement, f"{order.namespace}/{order.name}"})
    return frozenset({placement})
