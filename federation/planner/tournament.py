"""Whose turn it is: one pending workload of each team, root to leaf, every node judged with the candidate it sends."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from federation.domain.quota import PairAmounts, QuotaTree, Refusal
from federation.planner.borrowing import Shares

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A pending workload. *waiting*: its victims are told to go, and their room is to be kept for it."""

    name: str
    team: str
    request: PairAmounts
    priority: int = 0
    created: int = 0
    waiting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TournamentRules:
    """*history*: what each team used lately, the less the sooner. Priority counts inside a team unless told otherwise."""

    waiting_first: bool = False
    nominal_first: bool = True
    priority_between_teams: bool = False
    history: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    head: Head
    refusal: Refusal | None


def run_cycle(tree: QuotaTree, heads: Iterable[Head], rules: TournamentRules | None = None) -> tuple[Outcome, ...]:
    """Serve the heads in turn, each with what those before it have left; the tree itself stays as it is."""
    shares = Shares(tree.copy())
    outcomes = []
    for head in serve(shares, heads, rules or TournamentRules()):
        refusal = shares.tree.why_not(head.team, head.request)
        if refusal is None:
            shares.add(head.team, head.request)
        elif head.waiting:
            shares.add(head.team, reserved(shares.tree, head))
        outcomes.append(Outcome(head, refusal))
    return tuple(outcomes)


def serve(shares: Shares, heads: Iterable[Head], rules: TournamentRules) -> Iterator[Head]:
    """The heads by turn; between two of them the caller may add the use of the last one."""
    tournament = _Tournament(shares, heads, rules)
    for root in tournament.roots():
        while (head := tournament.winner(root)) is not None:
            yield head
            tournament.drop(head)


def reserved(tree: QuotaTree, head: Head) -> dict[tuple[str, str], int]:
    """What is kept for one that waits for its victims: inside nominal, or inside its borrowing limit if it borrows."""
    kept = {}
    for pair, amount in head.request.items():
        quota = tree.nodes[tree.index[head.team]].quotas.get(pair)
        nominal, limit = (quota.nominal, quota.borrowing_limit) if quota else (0, None)
        used = tree.usage(head.team, pair)
        most = nominal if used + amount <= nominal else None if limit is None else nominal + limit
        kept[pair] = amount if most is None else max(0, min(amount, most - used))
    return kept


class _Tournament:
    """Only the path of the last winner is judged anew: other nodes' use and candidates are what they were."""

    def __init__(self, shares: Shares, heads: Iterable[Head], rules: TournamentRules) -> None:
        self._shares, self._tree, self._rules = shares, shares.tree, rules
        self._pending: Final[dict[int, list[Head]]] = {}
        for head in sorted(heads, key=lambda h: (-h.priority, h.created, h.name), reverse=True):
            self._pending.setdefault(self._tree.index[head.team], []).append(head)
        self._best: Final[dict[int, Head]] = {}
        self._entries: Final[dict[int, dict[int, tuple[Key, Head]]]] = {}
        for team in self._pending:
            self._judge(team)

    def roots(self) -> list[int]:
        roots = {self._tree.chains[team][-1] for team in self._pending}
        return sorted(roots, key=lambda i: self._tree.nodes[i].name)

    def winner(self, root: int) -> Head | None:
        return self._best.get(root)

    def drop(self, head: Head) -> None:
        team = self._tree.index[head.team]
        self._pending[team].remove(head)
        self._judge(team)

    def _judge(self, team: int) -> None:
        """From the team up, every cohort chooses again among its members."""
        pending = self._pending[team]
        self._put(team, pending[-1] if pending else None)
        for node, parent in pairwise(self._tree.chains[team]):
            entries = self._entries.setdefault(parent, {})
            if (head := self._best.get(node)) is None:
                entries.pop(node, None)
            else:
                entries[node] = (self._key(node, head), head)
            self._put(parent, min(entries.values(), key=lambda entry: entry[0])[1] if entries else None)

    def _put(self, node: int, head: Head | None) -> None:
        if head is None:
            self._best.pop(node, None)
        else:
            self._best[node] = head

    def _key(self, node: int, head: Head) -> Key:
        rules, arriving = self._rules, self._arriving(node, head)
        return (
            rules.waiting_first and not head.waiting,
            rules.nominal_first and self._borrows(node, arriving),
            self._shares.of_with(node, arriving).rank,
            rules.history.get(head.team, 0),
            -head.priority if rules.priority_between_teams else 0,
            head.created,
            head.name,
        )

    def _borrows(self, node: int, arriving: PairAmounts) -> bool:
        """On what is asked for; a root borrows from nobody."""
        columns = ((self._tree.column(pair), amount) for pair, amount in arriving.items())
        has_parent = self._tree.parent[node] is not None
        return has_parent and any(column.usage[node] + amount > column.subtree[node] for column, amount in columns)

    def _arriving(self, node: int, head: Head) -> PairAmounts:
        """What of a request reaches a node: the teams and cohorts below take what they keep inside first."""
        arriving = dict(head.request)
        for i in self._tree.chains[self._tree.index[head.team]]:
            if i == node:
                break
            for pair in arriving:
                column = self._tree.column(pair)
                arriving[pair] = max(0, arriving[pair] - max(0, column.local[i] - column.usage[i]))
        return arriving
