"""Fair share: how much a team or cohort borrows of what its parent could lend at most, and who is ahead by it.

A share is the largest, over the resources, of 1000 × borrowed ÷ lendable, divided by the weight. Weight 0 that borrows is
above everyone: it takes only what nobody wants. All of it in integers, so that equal shares are equal.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federation.domain.quota import UNLIMITED, PairAmounts, QuotaTree

Amounts = NDArray[np.int64]

# Shares are kept in steps of 2^-64 and rounded up: finer than any two amounts of a pool can differ by and still matter.
_STEPS: Final = 64


@dataclass(frozen=True, slots=True)
class Share:
    """*rank* orders shares: the lower is served first, the higher gives back first."""

    rank: tuple[bool, int]
    dominant: str
    borrowing: bool

    @property
    def value(self) -> int:
        """The weighted share in thousandths, rounded up."""
        above_all, steps = self.rank
        return UNLIMITED if above_all else -(-steps >> _STEPS)


NO_SHARE: Final = Share((False, 0), "", False)


class Shares:
    """The shares of a tree's nodes, each computed once until the use below it changes: all changes go through here."""

    def __init__(self, tree: QuotaTree) -> None:
        self.tree: Final = tree
        self._weights: Final = [(node.weight.numerator, node.weight.denominator) for node in tree.nodes]
        self._columns: list[tuple[str, list[int], list[int]]] = []
        self._subtrees: Amounts = np.empty((0, len(tree.nodes)), np.int64)
        self._lendable: Final[dict[int, dict[str, int]]] = {}
        self._known: Final[dict[int, Share]] = {}

    def of(self, i: int) -> Share:
        share = self._known.get(i)
        if share is None:
            share = self._known[i] = self.of_with(i, {})
        return share

    def all(self) -> list[Share]:
        """Every node's, by its index: summed in columns, unless amounts are too large to be summed in 64 bits."""
        if not (columns := self._by_resource()):
            return [NO_SHARE for _ in self._weights]
        try:
            usage = np.array([usage for _, usage, _ in columns], np.int64)
        except OverflowError:
            return [self.of(i) for i in range(len(self._weights))]
        if usage.max(initial=0) >= 2**62 // (len(columns) + 1):
            return [self.of(i) for i in range(len(self._weights))]
        above = np.maximum(usage - self._subtrees, 0)
        resources = sorted({resource for resource, _, _ in columns})
        rows = [above[[name == resource for name, _, _ in columns]].sum(axis=0).tolist() for resource in resources]
        borrows = above.any(axis=0).tolist()
        return [
            NO_SHARE if parent is None or not borrows[i] else self._share(i, parent, zip(resources, row, strict=True))
            for i, (parent, row) in enumerate(zip(self.tree.parent, zip(*rows, strict=True), strict=True))
        ]

    def of_with(self, i: int, more: PairAmounts) -> Share:
        """As if the node used *more*; a root borrows from nobody."""
        parent = self.tree.parent[i]
        if parent is None:
            return NO_SHARE
        borrowed: dict[str, int] = {}
        for resource, usage, subtree in self._by_resource():
            above = usage[i] - subtree[i]
            if above > 0:
                borrowed[resource] = borrowed.get(resource, 0) + above
        for pair, amount in more.items():
            column = self.tree.column(pair)
            above = column.usage[i] - column.subtree[i]
            if above + amount > 0:
                borrowed[pair[1]] = borrowed.get(pair[1], 0) + min(amount, above + amount)
        return self._share(i, parent, sorted(borrowed.items())) if borrowed else NO_SHARE

    def without(self, i: int, team: str, amounts: PairAmounts) -> Share:
        """The node's share once a team below it, or the node itself, uses so much less."""
        self.tree.remove(team, amounts)
        share = self.of_with(i, {})
        self.tree.add(team, amounts)
        return share

    def add(self, team: str, amounts: PairAmounts) -> None:
        self.tree.add(team, amounts)
        self._forget(team)

    def remove(self, team: str, amounts: PairAmounts) -> None:
        self.tree.remove(team, amounts)
        self._forget(team)

    def _forget(self, team: str) -> None:
        for i in self.tree.chains[self.tree.index[team]]:
            self._known.pop(i, None)

    def _by_resource(self) -> list[tuple[str, list[int], list[int]]]:
        """The columns laid out for the loop over all of them; a pair that nobody named may join with its first use."""
        columns = self.tree.columns
        if len(self._columns) != len(columns):
            self._columns = [(pair[1], column.usage, column.subtree) for pair, column in columns.items()]
            self._subtrees = np.array([column.subtree for column in columns.values()], np.int64)
            self._lendable.clear()
        return self._columns

    def _share(self, i: int, parent: int, borrowed: Iterable[tuple[str, int]]) -> Share:
        lendable = self._lendable_of(parent)
        weight, parts = self._weights[i]
        best, dominant = 0, ""
        for resource, amount in borrowed:
            if amount > 0 and (most := lendable[resource]) > 0:
                steps = -((-amount * 1000 * parts << _STEPS) // (most * (weight or parts)))
                if steps > best:
                    best, dominant = steps, resource
        return Share((weight == 0, best), dominant, True)

    def _lendable_of(self, parent: int) -> dict[str, int]:
        """What a node could get at most of each resource, over all clusters: it depends on definitions only."""
        if parent not in self._lendable:
            lendable: dict[str, int] = {}
            for (_, resource), column in self.tree.columns.items():
                lendable[resource] = min(UNLIMITED, lendable.get(resource, 0) + column.potential[parent])
            self._lendable[parent] = lendable
        return self._lendable[parent]


def shares_of(tree: QuotaTree) -> dict[str, Share]:
    return dict(zip((node.name for node in tree.nodes), Shares(tree).all(), strict=True))
