"""Preemption by fair shares: always from whoever has most at the level where the two meet.

From the root down to the child with the highest share until a team is reached, again after each victim. S2-a: the
incoming team's share afterwards is not above the victim's afterwards. S2-b, only once S2-a is exhausted and at most once
for each team: it is below the victim's before. Inside its nominal quota a team takes from borrowers without a test.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heapify, heappop, heappush
from itertools import pairwise

from federation.planner.borrowing import Share, Shares
from federation.planner.preemption import (
    Contest,
    Order,
    Reason,
    Running,
    Victim,
    could_ever_fit,
    fill_back,
    fits,
    within_quota,
)

# Highest share first, then cohorts before teams; the index of the node, and how often it changed since the start.
Entry = tuple[bool, int, bool, Order | str, int, int]


class Strategy(StrEnum):
    FINAL_SHARE = "S2a"
    INITIAL_SHARE = "S2b"


@dataclass(frozen=True, slots=True, kw_only=True)
class FairRules:
    strategies: Sequence[Strategy] = field(default=(Strategy.FINAL_SHARE, Strategy.INITIAL_SHARE))
    nominal_first: bool = True


def victims_by_share(contest: Contest, rules: FairRules | None = None) -> tuple[Victim, ...]:
    """Empty where it fits already, or no victims would make it fit."""
    pairs = contest.contested()
    if not pairs or not could_ever_fit(contest):
        return ()
    return _Search(contest, rules or FairRules()).victims()


class _Search:
    """Shares are judged with the incoming workload's use in the tree; it is taken out to see whether it fits."""

    def __init__(self, contest: Contest, rules: FairRules) -> None:
        self._contest, self._rules, self._pairs = contest, rules, contest.contested()
        self._shares = Shares(contest.tree.copy())
        self._tree = self._shares.tree
        self._team = self._tree.index[contest.incoming.team]
        self._taken: list[Victim] = []
        self._retry: list[Running] = []

    def victims(self) -> tuple[Victim, ...]:
        candidates = sorted(self._candidates(), key=self._contest.order)
        incoming = self._contest.incoming
        self._shares.add(incoming.team, incoming.request)
        done = self._first_pass(candidates)
        if not done and len(self._rules.strategies) > 1:
            done = self._second_pass(self._retry)
        self._shares.remove(incoming.team, incoming.request)
        return fill_back(self._tree, incoming, self._taken, borrow=True) if done else ()

    def _candidates(self) -> Iterator[Running]:
        for running in self._contest.running:
            i = self._tree.index[running.team]
            same_tree = self._tree.chains[i][-1] == self._tree.chains[self._team][-1]
            may_lose = i == self._team or (same_tree and not within_quota(self._tree, i, self._pairs))
            if may_lose and self._contest.is_candidate(running, self._pairs):
                yield running

    def _first_pass(self, candidates: list[Running]) -> bool:
        entitled = self._rules.nominal_first and within_quota(self._tree, self._team, self._pairs)
        walk = _Walk(self._shares, self._contest, candidates)
        for team in walk:
            if team == self._team:
                found = self._take(walk.pop(team), Reason.IN_TEAM)
            elif entitled:
                found = self._take(walk.pop(team), Reason.RECLAMATION)
            else:
                found = self._take_first_that_passes(walk, team)
            if found:
                return True
        return False

    def _take_first_that_passes(self, walk: "_Walk", team: int) -> bool:
        mine, theirs = walk.where_they_meet(team)
        my_share, before = self._shares.of(mine), self._shares.of(theirs)
        while walk.has(team):
            candidate = walk.pop(team)
            if my_share.rank > before.rank:  # no strategy allows it, whatever the victim
                self._retry.append(candidate)
                continue
            after = self._shares.without(theirs, candidate.team, candidate.request)
            if _passes(self._rules.strategies[0], my_share, before, after):
                return self._take(candidate, Reason.FAIR_SHARING)
            self._retry.append(candidate)
        return False

    def _second_pass(self, candidates: list[Running]) -> bool:
        walk = _Walk(self._shares, self._contest, candidates)
        for team in walk:
            mine, theirs = walk.where_they_meet(team)
            candidate = walk.pop(team)
            walk.drop(team)
            if self._shares.of(mine).rank < self._shares.of(theirs).rank and self._take(candidate, Reason.FAIR_SHARING):
                return True
        return False

    def _take(self, workload: Running, reason: Reason) -> bool:
        """Whether the incoming workload fits now."""
        self._shares.remove(workload.team, workload.request)
        self._taken.append(Victim(workload, reason))
        incoming = self._contest.incoming
        self._tree.remove(incoming.team, incoming.request)
        found = fits(self._tree, incoming, borrow=True)
        self._tree.add(incoming.team, incoming.request)
        return found


class _Walk:
    """The teams to take from, in turn. Between two of them the caller pops a candidate, or drops the team."""

    def __init__(self, shares: Shares, contest: Contest, candidates: Sequence[Running]) -> None:
        self._shares, self._tree, self._contest = shares, shares.tree, contest
        self._team = self._tree.index[contest.incoming.team]
        self._path = frozenset(self._tree.chains[self._team])
        self._pruned: set[int] = set()
        self._heaps: dict[int, list[Entry]] = {}
        self._turns: dict[int, int] = {}
        self._left: dict[int, deque[Running]] = {}
        for running in candidates:
            self._left.setdefault(self._tree.index[running.team], deque()).append(running)

    def __iter__(self) -> Iterator[int]:
        root = self._tree.chains[self._team][-1]
        if root == self._team:
            while self.has(root):
                yield root
            return
        while root not in self._pruned:
            node: int | None = root
            while node is not None and self._tree.nodes[node].cohort:
                node = self._highest_below(node)
            if node is not None:
                yield node
                self._refresh(node)

    def has(self, team: int) -> bool:
        return bool(self._left.get(team))

    def pop(self, team: int) -> Running:
        return self._left[team].popleft()

    def drop(self, team: int) -> None:
        self._pruned.add(team)

    def where_they_meet(self, team: int) -> tuple[int, int]:
        """The two nodes right below the lowest cohort that both teams are in: ours, theirs."""
        chain = self._tree.chains[team]
        theirs, meeting = next((i, up) for i, up in pairwise(chain) if up in self._path)
        ours = self._tree.chains[self._team]
        return ours[ours.index(meeting) - 1], theirs

    def _highest_below(self, cohort: int) -> int | None:
        """None, once there is nothing left below: the cohort is pruned then, and the walk starts anew."""
        if cohort not in self._heaps:
            members = [i for i in self._tree.children[cohort] if not self._prunes(i)]
            self._heaps[cohort] = [self._entry(i) for i in members]
            heapify(self._heaps[cohort])
        heap = self._heaps[cohort]
        while heap:
            *_, i, turn = heap[0]
            if i not in self._pruned and turn == self._turns.get(i, 0) and not self._prunes(i):
                return i
            heappop(heap)
        self._pruned.add(cohort)
        return None

    def _refresh(self, team: int) -> None:
        """After a victim: its team and the cohorts above it stand elsewhere among their siblings; others do not."""
        for i, cohort in pairwise(self._tree.chains[team]):
            self._turns[i] = self._turns.get(i, 0) + 1
            if cohort in self._heaps and not self._prunes(i):
                heappush(self._heaps[cohort], self._entry(i))

    def _entry(self, i: int) -> Entry:
        above_all, steps = self._shares.of(i).rank
        return (not above_all, -steps, *self._tie(i), i, self._turns.get(i, 0))

    def _prunes(self, i: int) -> bool:
        is_team = not self._tree.nodes[i].cohort
        spent = (is_team and not self.has(i)) or (i not in self._path and not self._shares.of(i).borrowing)
        if spent:
            self._pruned.add(i)
        return spent

    def _tie(self, i: int) -> tuple[bool, Order | str]:
        """Cohorts before teams, so that the worst inside of them is found; teams by whom they would lose."""
        node = self._tree.nodes[i]
        return (False, node.name) if node.cohort else (True, self._contest.order(self._left[i][0]))


def _passes(strategy: Strategy, mine: Share, before: Share, after: Share) -> bool:
    if strategy is Strategy.FINAL_SHARE:
        return mine.rank <= after.rank
    return mine.rank < before.rank
