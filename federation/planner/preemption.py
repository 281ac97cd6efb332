"""Who has to go so that a workload fits: candidates, their order, and what both ways to choose have in common.

`preemption_classical` goes by priority and by who owns the quota, `preemption_fair` by shares. Both are pure: snapshot in,
victims out, and they end by putting back, in reverse, every victim that turns out not to be needed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from federation.domain.quota import Pair, PairAmounts, QuotaTree

Order = tuple[bool, bool, int, int, str]


class Policy(StrEnum):
    NEVER = "Never"
    LOWER = "LowerPriority"
    LOWER_OR_NEWER_EQUAL = "LowerOrNewerEqualPriority"
    ANY = "Any"


class Reason(StrEnum):
    IN_TEAM = "InClusterQueue"
    RECLAMATION = "InCohortReclamation"
    FAIR_SHARING = "InCohortFairSharing"
    WHILE_BORROWING = "InCohortReclaimWhileBorrowing"


@dataclass(frozen=True, slots=True, kw_only=True)
class BorrowWithin:
    """A team that borrows may take from others of lower priority, none above the threshold."""

    max_priority: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamPolicy:
    within: Policy = Policy.NEVER
    reclaim: Policy = Policy.NEVER
    borrow_within: BorrowWithin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A workload and its team; times are any integers that grow. *evicted*: told to go already."""

    name: str
    team: str
    request: PairAmounts
    priority: int = 0
    created: int = 0
    admitted: int = 0
    evicted: bool = False


@dataclass(frozen=True, slots=True)
class Victim:
    workload: Running
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """*incoming* wants in, *running* is what the tree's usage consists of."""

    tree: QuotaTree
    running: Sequence[Running]
    incoming: Running
    policies: Mapping[str, TeamPolicy] = field(default_factory=dict)

    @property
    def policy(self) -> TeamPolicy:
        return self.policies.get(self.incoming.team, TeamPolicy())

    def contested(self) -> tuple[Pair, ...]:
        """What it asks for and does not get: only victims that use some of it help."""
        team, request = self.incoming.team, self.incoming.request
        return tuple(p for p in sorted(request) if request[p] > 0 and not self.tree.fits(team, {p: request[p]}))

    def order(self, running: Running) -> Order:
        own = running.team == self.incoming.team
        return (not running.evicted, own, running.priority, -running.admitted, running.name)

    def is_candidate(self, running: Running, pairs: Iterable[Pair]) -> bool:
        own = running.team == self.incoming.team
        allowed = permits(self.policy.within if own else self.policy.reclaim, self.incoming, running)
        return allowed and any(running.request.get(pair, 0) > 0 for pair in pairs)


def permits(policy: Policy, incoming: Running, running: Running) -> bool:
    if policy is Policy.ANY:
        return True
    if policy is Policy.NEVER:
        return False
    if running.priority == incoming.priority:
        return policy is Policy.LOWER_OR_NEWER_EQUAL and incoming.created < running.created
    return running.priority < incoming.priority


def could_ever_fit(contest: Contest) -> bool:
    tree, team = contest.tree, contest.incoming.team
    within = all(
        amount <= tree.potential(team, pair) for pair, amount in contest.incoming.request.items() if amount > 0
    )
    return within and team not in tree.cycles


def within_quota(tree: QuotaTree, i: int, pairs: Iterable[Pair]) -> bool:
    columns = (tree.column(pair) for pair in pairs)
    return all(column.usage[i] <= column.subtree[i] for column in columns)


def fits(tree: QuotaTree, incoming: Running, *, borrow: bool) -> bool:
    if not borrow:
        for pair, amount in incoming.request.items():
            if amount > 0 and tree.usage(incoming.team, pair) + amount > tree.subtree(incoming.team, pair):
                return False
    return tree.fits(incoming.team, incoming.request)


def fill_back(tree: QuotaTree, incoming: Running, victims: Sequence[Victim], *, borrow: bool) -> tuple[Victim, ...]:
    """The victims without those that fit beside the incoming workload after all. The last one was needed to make it fit."""
    *earlier, last = victims
    needed = [last]
    for victim in reversed(earlier):
        tree.add(victim.workload.team, victim.workload.request)
        if not fits(tree, incoming, borrow=borrow):
            tree.remove(victim.workload.team, victim.workload.request)
            needed.append(victim)
    return tuple(sorted(needed, key=lambda victim: victim.workload.name))
