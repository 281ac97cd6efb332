"""Fair share: how much a team or cohort borrows of what its parent could lend at most, and who is ahead by it.

A share is the largest, over the resources, of 1000 × borrowed ÷ lendable, divided by the weight. Weight 0 that borrows is
above everyone: it takes only what nobody wants. All of it in integers, so that equal shares are equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from federation.domain.quota import UNLIMITED, Pair, PairAmounts, QuotaTree

# Shares are kept in steps of 2^-64 and rounded up: finer than any two amounts of a pool can differ by and still matter.
_STEPS: Final = 64


@dataclass(frozen=True, slots=True)
class Share:
    """*rank* orders shares: the lower is served first, the higher gives back first."""

    rank: tuple[bool, int]
    dominant: str
    pairs: tuple[Pair, ...]

    @property
    def borrowing(self) -> bool:
        return bool(self.pairs)

    @property
    def value(self) -> int:
        """The weighted share in thousandths, rounded up."""
        above_all, steps = self.rank
        return UNLIMITED if above_all else -(-steps >> _STEPS)

    def borrows_any(self, pairs: PairAmounts) -> bool:
        return any(pair in pairs for pair in self.pairs)


NO_SHARE: Final = Share((False, 0), "", ())


class Shares:
    """The shares of a tree's nodes, each computed once until the use below it changes: all changes go through here."""

    def __init__(self, tree: QuotaTree) -> None:
        self.tree: Final = tree
        self._weights: Final = [(node.weight.numerator, node.weight.denominator) for node in tree.nodes]
        self._lendable: Final[dict[int, dict[str, int]]] = {}
        self._known: Final[dict[int, Share]] = {}

    def of(self, i: int) -> Share:
        share = self._known.get(i)
        if share is None:
            share = self._known[i] = self.of_with(i, {})
        return share

    def of_with(self, i: int, more: PairAmounts) -> Share:
        """As if the node used *more*; a root borrows from nobody."""
        parent = self.tree.parent[i]
        if parent is None:
            return NO_SHARE
        over: dict[Pair, int] = {}
        for pair, column in self.tree.columns.items():
            above = column.usage[i] - column.subtree[i]
            if more:
                above += more.get(pair, 0)
            if above > 0:
                over[pair] = above
        return self._share(i, parent, over) if over else NO_SHARE

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

    def _share(self, i: int, parent: int, over: Mapping[Pair, int]) -> Share:
        lendable, borrowed = self._lendable_of(parent), dict[str, int]()
        for (_, resource), above in over.items():
            borrowed[resource] = borrowed.get(resource, 0) + above
        weight, parts = self._weights[i]
        best, dominant = 0, ""
        for resource in sorted(borrowed):
            if lendable.get(resource, 0) <= 0:
                continue
            steps = -(-(borrowed[resource] * 1000 * parts << _STEPS) // (lendable[resource] * (weight or parts)))
            if steps > best:
                best, dominant = steps, resource
        return Share((weight == 0, best), dominant, tuple(over))

    def _lendable_of(self, parent: int) -> dict[str, int]:
        """What a node could get at most of each resource, over all clusters: it depends on definitions only."""
        if parent not in self._lendable:
            lendable: dict[str, int] = {}
            for (_, resource), column in self.tree.columns.items():
                lendable[resource] = min(UNLIMITED, lendable.get(resource, 0) + column.potential[parent])
            self._lendable[parent] = lendable
        return self._lendable[parent]


def shares_of(tree: QuotaTree) -> dict[str, Share]:
    shares = Shares(tree)
    return {node.name: shares.of(i) for i, node in enumerate(tree.nodes)}
