"""Preemption by priority and place in the tree.

From the team up to the root: until some subtree could hold what remains of the request inside its own quota, other teams'
workloads are taken by priority only; from there on the incoming workload has a better title to the quota than anyone
outside of that subtree, whatever the priorities. A team or cohort within its quota shields what runs in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from federation.domain.quota import Pair, QuotaTree
from federation.planner.preemption import (
    Contest,
    Reason,
    Running,
    TeamPolicy,
    Victim,
    could_ever_fit,
    fill_back,
    fits,
    within_quota,
)


class _Title(Enum):
    """By what right a candidate is taken."""

    OWN = auto()
    PLACE = auto()
    WITHOUT_BORROWING = auto()
    WHILE_BORROWING = auto()


_REASONS = {
    _Title.OWN: Reason.IN_TEAM,
    _Title.PLACE: Reason.RECLAMATION,
    _Title.WITHOUT_BORROWING: Reason.RECLAMATION,
    _Title.WHILE_BORROWING: Reason.WHILE_BORROWING,
}


@dataclass(frozen=True, slots=True)
class _Candidate:
    workload: Running
    title: _Title
    shields: tuple[
        int, ...
    ]  # its team and the cohorts above it, below the ancestor that it shares with the incoming one


def victims_by_priority(contest: Contest) -> tuple[Victim, ...]:
    """Empty where it fits already, or no victims would make it fit."""
    if not contest.contested() or not could_ever_fit(contest):
        return ()
    search = _Search(contest)
    candidates = search.candidates()
    for borrow in search.attempts(candidates):
        if victims := search.attempt(candidates, borrow=borrow):
            return victims
    return ()


class _Search:
    def __init__(self, contest: Contest) -> None:
        self._contest, self._tree, self._pairs = contest, contest.tree, contest.contested()
        self._team = self._tree.index[contest.incoming.team]
        self._running: dict[int, list[Running]] = {}
        for running in contest.running:
            if contest.is_candidate(running, self._pairs):
                self._running.setdefault(self._tree.index[running.team], []).append(running)

    def candidates(self) -> list[_Candidate]:
        own = [_Candidate(running, _Title.OWN, ()) for running in self._running.get(self._team, ())]
        groups = {_Title.PLACE: 0, _Title.WHILE_BORROWING: 1, _Title.WITHOUT_BORROWING: 1, _Title.OWN: 2}
        return sorted(
            [*self._others(), *own],
            key=lambda c: (not c.workload.evicted, groups[c.title], self._contest.order(c.workload)),
        )

    def attempts(self, candidates: list[_Candidate]) -> tuple[bool, ...]:
        """Which to try, in turn: with borrowing, or without."""
        others = [candidate for candidate in candidates if candidate.title is not _Title.OWN]
        may_borrow = self._contest.policy.borrow_within is not None
        if not others or not (may_borrow or self._is_below_nominal()):
            return (True,)
        if not may_borrow and all(candidate.title is not _Title.PLACE for candidate in others):
            return (False, True)
        return (True, False)

    def attempt(self, candidates: list[_Candidate], *, borrow: bool) -> tuple[Victim, ...]:
        tree, taken = self._tree.copy(), list[Victim]()
        for candidate in candidates:
            if self._may_take(tree, candidate, borrow=borrow):
                tree.remove(candidate.workload.team, candidate.workload.request)
                taken.append(Victim(candidate.workload, _REASONS[candidate.title]))
                if fits(tree, self._contest.incoming, borrow=borrow):
                    return fill_back(tree, self._contest.incoming, taken, borrow=borrow)
        return ()

    def _may_take(self, tree: QuotaTree, candidate: _Candidate, *, borrow: bool) -> bool:
        if borrow and candidate.title is _Title.WITHOUT_BORROWING:
            return False
        return not any(within_quota(tree, i, self._pairs) for i in candidate.shields)

    def _is_below_nominal(self) -> bool:
        columns = [self._tree.column(pair) for pair in self._pairs]
        return all(column.usage[self._team] < column.subtree[self._team] for column in columns)

    def _others(self) -> Iterator[_Candidate]:
        inside = self._team
        remaining = {pair: amount for pair, amount in self._contest.incoming.request.items() if amount > 0}
        has_title = self._holds(inside, remaining)
        for ancestor in self._tree.chains[self._team][1:]:
            for child in self._tree.children[ancestor]:
                if child != inside:
                    yield from self._below(child, (), has_title=has_title)
            has_title = self._holds(ancestor, remaining) or has_title
            inside = ancestor

    def _below(self, i: int, shields: tuple[int, ...], *, has_title: bool) -> Iterator[_Candidate]:
        if within_quota(self._tree, i, self._pairs):
            return
        for child in self._tree.children[i]:
            yield from self._below(child, (i, *shields), has_title=has_title)
        for running in self._running.get(i, ()):
            title = _Title.PLACE if has_title else self._title(self._contest.policy, running)
            yield _Candidate(running, title, (i, *shields))

    def _title(self, policy: TeamPolicy, running: Running) -> _Title:
        threshold = policy.borrow_within.max_priority if policy.borrow_within else None
        lower = running.priority < self._contest.incoming.priority
        if policy.borrow_within and lower and (threshold is None or running.priority <= threshold):
            return _Title.WHILE_BORROWING
        return _Title.WITHOUT_BORROWING

    def _holds(self, i: int, remaining: dict[Pair, int]) -> bool:
        """Whether the subtree has quota for what remains; what it keeps inside is taken off, for the levels above."""
        holds = True
        for pair, amount in remaining.items():
            column = self._tree.column(pair)
            holds = holds and column.usage[i] + amount <= column.subtree[i]
            remaining[pair] = max(0, amount - max(0, column.local[i] - column.usage[i]))
        return holds
