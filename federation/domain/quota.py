"""The quota tree: what each team may use of each (cluster, resource), what it borrows, and how much it could ever get.

A team is a queue of the tree; cohorts of any depth pool what their members lend. The arithmetic of one pair is in
`quota_column`; here are the definitions, the shape of the trees, and the reasons against a request.

Definitions do not change: another definition is another tree. Only usage moves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from typing import Final, Self

from federation.domain.errors import Invalid
from federation.domain.quota_column import NOTHING, UNLIMITED, Column, Quota, saturated

__all__ = [
    "UNLIMITED",
    "Pair",
    "PairAmounts",
    "Quota",
    "QuotaNode",
    "QuotaTree",
    "Refusal",
    "Verdict",
    "cycle_from",
    "refuse_cycles",
]

Pair = tuple[str, str]
PairAmounts = Mapping[Pair, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaNode:
    """A team, or a *cohort* of teams and cohorts. A parent that nobody defines is a cohort without quota of its own."""

    name: str
    parent: str | None = None
    cohort: bool = False
    quotas: Mapping[Pair, Quota] = field(default_factory=dict)
    weight: Fraction = Fraction(1)


class Verdict(StrEnum):
    PENDING = "pending"
    NEVER = "never"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request does not fit: *node* is where it binds, by its borrowing limit or by having no more."""

    verdict: Verdict
    pair: Pair
    node: str
    limit: str
    wanted: int
    room: int

    def __str__(self) -> str:
        cluster, resource = self.pair
        if self.verdict is Verdict.DISABLED:
            return f"no admission: the parents form a circle, {self.node}"
        most = "at most" if self.verdict is Verdict.NEVER else "now only"
        return f"{resource} in {cluster}: {self.wanted} wanted, {most} {self.room} by the {self.limit} of {self.node}"


class QuotaTree:
    """All trees of one pool. Where parents form a circle the whole tree admits nothing; what runs there goes on."""

    def __init__(self, nodes: Iterable[QuotaNode], usage: Mapping[str, PairAmounts] | None = None) -> None:
        self.nodes: Final = _with_implied(list(nodes))
        self.index: Final = {node.name: i for i, node in enumerate(self.nodes)}
        parents = {node.name: node.parent for node in self.nodes}
        self.cycles: Final = {name: chain for name in parents if (chain := cycle_from(parents, name))}
        self.parent: Final = [self._parent_of(node) for node in self.nodes]
        self.children: Final[list[list[int]]] = [[] for _ in self.nodes]
        for i, parent in enumerate(self.parent):
            if parent is not None:
                self.children[parent].append(i)
        self.chains: Final = [self._chain(i) for i in range(len(self.nodes))]
        self.columns: Final[dict[Pair, Column]] = {}
        for pair in sorted({pair for node in self.nodes for pair in node.quotas}):
            self.columns[pair] = self._column(pair)
        for name, amounts in (usage or {}).items():
            self.add(name, amounts)

    def changed(self, *nodes: QuotaNode, without: Iterable[str] = ()) -> Self:
        """The tree with these definitions added or in place of the old ones; usage stays with its team."""
        kept = {node.name: node for node in (*self.nodes, *nodes)}
        for name in without:
            del kept[name]
        return type(self)(
            kept.values(), {name: used for name in kept if name in self.index and (used := self.used(name))}
        )

    def copy(self) -> Self:
        """A tree to try things on: definitions are shared, usage is its own."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), columns={p: replace(c, usage=c.usage.copy()) for p, c in self.columns.items()})
        return other

    def add(self, name: str, amounts: PairAmounts) -> None:
        chain = self._queue_chain(name, amounts)
        for pair, amount in amounts.items():
            self.column(pair).add(chain, amount)

    def remove(self, name: str, amounts: PairAmounts) -> None:
        chain = self._queue_chain(name, amounts)
        for pair, amount in amounts.items():
            if self.usage(name, pair) < amount:
                raise ValueError(f"{name} does not use {amount} of {pair}")
        for pair, amount in amounts.items():
            self.column(pair).remove(chain, amount)

    def usage(self, name: str, pair: Pair) -> int:
        return self.columns[pair].usage[self.index[name]] if pair in self.columns else 0

    def used(self, name: str) -> dict[Pair, int]:
        """What a team itself uses; a cohort uses nothing itself."""
        if self.nodes[self.index[name]].cohort:
            return {}
        return {pair: amount for pair in self.columns if (amount := self.usage(name, pair))}

    def subtree(self, name: str, pair: Pair) -> int:
        return self.columns[pair].subtree[self.index[name]] if pair in self.columns else 0

    def borrowing(self, name: str, pair: Pair) -> int:
        """How far its usage is above its quota."""
        return max(0, self.usage(name, pair) - self.subtree(name, pair))

    def headroom(self, name: str, pair: Pair) -> int:
        """What is available, negative where there is debt above or in it."""
        chain = self.chains[self.index[name]]
        return saturated(self.columns[pair].available(chain)) if pair in self.columns else 0

    def available(self, name: str, pair: Pair) -> int:
        return max(0, self.headroom(name, pair))

    def potential(self, name: str, pair: Pair) -> int:
        """The largest request that could ever fit."""
        return self.columns[pair].potential[self.index[name]] if pair in self.columns else 0

    def fits(self, name: str, request: PairAmounts) -> bool:
        chain, columns = self.chains[self.index[name]], self.columns
        for pair, amount in request.items():
            if amount > 0 and (pair not in columns or amount > columns[pair].available(chain)):
                return False
        return name not in self.cycles

    def why_not(self, name: str, request: PairAmounts) -> Refusal | None:
        """The worst reason against it: what can never fit comes before what does not fit now."""
        refusals = [found for pair in sorted(request) if (found := self._refusal(name, pair, request[pair]))]
        return min(refusals, key=lambda found: found.verdict is Verdict.PENDING, default=None)

    def column(self, pair: Pair) -> Column:
        """Whoever uses what no quota names owes it: the column comes into being with the use."""
        if pair not in self.columns:
            self.columns[pair] = self._column(pair)
        return self.columns[pair]

    def _refusal(self, name: str, pair: Pair, wanted: int) -> Refusal | None:
        if wanted <= 0:
            return None
        room, most = self.available(name, pair), self.potential(name, pair)
        if wanted <= room and name not in self.cycles:
            return None
        verdict, node, limit = Verdict.PENDING, name, "quota"
        if name in self.cycles:
            verdict, node = Verdict.DISABLED, " > ".join(self.cycles[name])
        elif wanted > most:
            verdict, room = Verdict.NEVER, most
        if verdict is not Verdict.DISABLED and pair in self.columns:
            column = self.columns[pair]
            state = replace(column, usage=[0] * len(self.nodes)) if verdict is Verdict.NEVER else column
            i, by_limit = state.binding(self.chains[self.index[name]])
            node, limit = self.nodes[i].name, "borrowing limit" if by_limit else "quota"
        return Refusal(verdict=verdict, pair=pair, node=node, limit=limit, wanted=wanted, room=room)

    def _parent_of(self, node: QuotaNode) -> int | None:
        return None if node.parent is None or node.name in self.cycles else self.index[node.parent]

    def _chain(self, i: int) -> tuple[int, ...]:
        """The node, its parent and so on to the root."""
        chain = [i]
        while (parent := self.parent[chain[-1]]) is not None:
            chain.append(parent)
        return tuple(chain)

    def _queue_chain(self, name: str, amounts: PairAmounts) -> tuple[int, ...]:
        if self.nodes[self.index[name]].cohort:
            raise ValueError(f"{name} is a cohort: only teams use")
        if any(amount < 0 for amount in amounts.values()):
            raise ValueError("amounts are not negative")
        return self.chains[self.index[name]]

    def _column(self, pair: Pair) -> Column:
        quotas = [NOTHING if node.name in self.cycles else node.quotas.get(pair, NOTHING) for node in self.nodes]
        return Column.of(quotas, self.chains)


def cycle_from(parents: Mapping[str, str | None], name: str) -> tuple[str, ...]:
    """The chain of parents that closes on itself, from *name* on; empty where it ends at a root."""
    chain = [name]
    while (parent := parents.get(chain[-1])) is not None:
        if parent in chain:
            return (*chain, parent)
        chain.append(parent)
    return ()


def refuse_cycles(nodes: Iterable[QuotaNode]) -> None:
    """For whoever is about to change a parent."""
    parents = {node.name: node.parent for node in nodes}
    for name in sorted(parents):
        if chain := cycle_from(parents, name):
            raise Invalid(f"the parents form a circle: {' > '.join(chain)}", "/parent")


def _with_implied(nodes: list[QuotaNode]) -> tuple[QuotaNode, ...]:
    cohorts = {node.name: node.cohort for node in nodes}
    if len(cohorts) < len(nodes):
        raise Invalid("two nodes of the quota tree have the same name")
    for node in nodes:
        if node.parent is not None and not cohorts.setdefault(node.parent, True):
            raise Invalid(f"{node.parent} is a team: only a cohort has members", "/parent")
    defined = {node.name for node in nodes}
    return (*nodes, *(QuotaNode(name=name, cohort=True) for name in cohorts if name not in defined))
