"""The arithmetic of the quota tree for one pair (cluster, resource): that of Kueue's ClusterQueues and Cohorts.

    subtree    what a node has: its nominal quota and what its children lend to it
    local      the part of it that the lending limit keeps inside; never visible above
    usage      of a queue what it uses; of a cohort what its children use beyond their local part
    available  what still fits: local remainder + what the parent has available, within the borrowing limit
    potential  the same with no use at all: the largest request that could ever fit

A limit of None is unlimited.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from federation.domain.errors import Invalid

# Sums and differences of what is unlimited stay above half of it, whatever finite amounts take part: they saturate.
UNLIMITED: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    nominal: int = 0
    borrowing_limit: int | None = None
    lending_limit: int | None = None

    def __post_init__(self) -> None:
        if min(self.nominal, self.borrowing_limit or 0, self.lending_limit or 0) < 0:
            raise Invalid("a quota and its limits are not negative")


NOTHING: Final = Quota()


@dataclass(slots=True)
class Column:
    """One (cluster, resource) of every node, by the node's index. *chain* is a node and its ancestors, root last."""

    subtree: list[int]
    local: list[int]
    ceiling: list[int | None]  # the most it may hold of its parent: what it lends and what it may borrow
    potential: list[int]
    usage: list[int]

    @classmethod
    def of(cls, quotas: Sequence[Quota], chains: Sequence[tuple[int, ...]]) -> Self:
        size, by_depth = len(quotas), sorted(range(len(quotas)), key=lambda i: len(chains[i]))
        column = cls([saturated(q.nominal) for q in quotas], [0] * size, [None] * size, [0] * size, [0] * size)
        for i in reversed(by_depth):
            column._settle(i, quotas[i], chains[i])
        for i in by_depth:
            room = column.local[i] + column.potential[chains[i][1]] if len(chains[i]) > 1 else column.subtree[i]
            limit = quotas[i].borrowing_limit if len(chains[i]) > 1 else None
            column.potential[i] = saturated(room if limit is None else min(room, column.subtree[i] + limit))
        return column

    def _settle(self, i: int, quota: Quota, chain: tuple[int, ...]) -> None:
        lent = self.subtree[i] if quota.lending_limit is None else min(self.subtree[i], quota.lending_limit)
        self.local[i] = 0 if quota.lending_limit is None else saturated(self.subtree[i] - lent)
        if quota.borrowing_limit is not None and lent + quota.borrowing_limit < UNLIMITED // 2:
            self.ceiling[i] = lent + quota.borrowing_limit
        if len(chain) > 1:
            self.subtree[chain[1]] = saturated(self.subtree[chain[1]] + lent)

    def available(self, chain: tuple[int, ...]) -> int:
        root, *path = reversed(chain)
        room = self.subtree[root] - self.usage[root]
        for i in path:
            inside, ceiling = self.local[i] - self.usage[i], self.ceiling[i]
            if ceiling is not None:
                room = min(room, ceiling + min(0, inside))
            if inside > 0:
                room += inside
        return room

    def binding(self, chain: tuple[int, ...]) -> tuple[int, bool]:
        """The node that decides what is available, and whether by its borrowing limit."""
        root, *path = reversed(chain)
        room, binding = self.subtree[root] - self.usage[root], (root, False)
        for i in path:
            inside, ceiling = self.local[i] - self.usage[i], self.ceiling[i]
            if ceiling is not None and ceiling + min(0, inside) < room:
                room, binding = ceiling + min(0, inside), (i, True)
            room += max(0, inside)
        return binding

    def add(self, chain: tuple[int, ...], amount: int) -> None:
        for i in chain:
            inside = self.local[i] - self.usage[i]
            self.usage[i] += amount
            amount -= max(0, inside)
            if amount <= 0:
                return

    def remove(self, chain: tuple[int, ...], amount: int) -> None:
        """What was taken from above goes first, as it came last."""
        for i in chain:
            from_above = self.usage[i] - self.local[i]
            self.usage[i] -= amount
            amount = min(amount, from_above)
            if amount <= 0:
                return


def saturated(amount: int) -> int:
    return UNLIMITED if amount > UNLIMITED // 2 else amount
