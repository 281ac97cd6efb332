"""The choice of clusters under several spread constraints where the quick orders find none.

First by going through the combinations of groups that the maxima allow, while these are few: that is exact for the room.
What the minima then leave open is an integer program: one binary for each cluster (used), each group (used) and, where
replicas are few, each cluster again (seed: with one replica each, the seeds alone satisfy the minima).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from math import comb, prod
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

# Work is bounded by nodes, so that the same input has the same answer; the seconds only guard against a stuck solver.
NODE_LIMIT: Final = 500
TIME_LIMIT_SECONDS: Final = 2.0
MAX_COMBINATIONS: Final = 5_000
MAX_CHOICES: Final = 50
_INFEASIBLE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Columns over the clusters; *groups* and *bounds* (min, max) have one entry for each constraint."""

    rooms: tuple[int, ...]
    scores: tuple[int, ...]
    groups: tuple[tuple[str, ...], ...]
    bounds: tuple[tuple[int, int | None], ...]
    need: int | None

    def seeds_matter(self) -> bool:
        return self.need is not None and self.need < sum(least for least, _ in self.bounds if least > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Indices of clusters. None chosen: proven impossible, or not found within the limits."""

    chosen: tuple[int, ...]
    seeds: tuple[int, ...]
    proven: bool


@dataclass(slots=True)
class _Rows:
    """Rows low ≤ Σ coefficient · variable ≤ high, gathered for a sparse matrix."""

    variables: int
    columns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)

    def new_variable(self) -> int:
        self.variables += 1
        return self.variables - 1

    def add(self, terms: Iterable[tuple[int, float]], *, low: float = -np.inf, high: float = np.inf) -> None:
        for column, value in terms:
            self.columns.append(column)
            self.values.append(value)
        self.starts.append(len(self.columns))
        self.lows.append(low)
        self.highs.append(high)

    def constraint(self) -> LinearConstraint:
        shape = (len(self.lows), self.variables)
        return LinearConstraint(csr_array((self.values, self.columns, self.starts), shape=shape), self.lows, self.highs)


@dataclass(frozen=True, slots=True)
class _Field:
    """A constraint whose maximum leaves groups out; *codes*: the group of each cluster."""

    codes: NDArray[np.intp]
    groups: int
    most: int

    def combinations(self) -> int:
        return comb(self.groups, self.most)

    def members(self, chosen: Sequence[int] | NDArray[np.intp]) -> NDArray[np.bool_]:
        allowed = np.zeros(self.groups, np.bool_)
        allowed[list(chosen)] = True
        return allowed[self.codes]


def roomy_choices(problem: Problem) -> list[tuple[int, ...]] | None:
    """Choices within the maxima that have the room, the best scores first; none: proven that there is none.

    None instead of a list: too many combinations to go through.
    """
    fields = sorted(_binding(problem), key=_Field.combinations)
    outer, last = fields[:-1], fields[-1:]
    if not last or prod(each.combinations() for each in outer) > MAX_COMBINATIONS:
        return None
    rooms, scores = np.array(problem.rooms, np.int64), np.array(problem.scores, np.int64)
    found: list[tuple[int, int, int, NDArray[np.bool_]]] = []
    for combination in product(*(combinations(range(each.groups), each.most) for each in outer)):
        allowed = np.ones(len(rooms), np.bool_)
        for each, chosen in zip(outer, combination, strict=True):
            allowed &= each.members(chosen)
        allowed &= last[0].members(_roomiest(last[0], rooms * allowed))
        room = int(rooms[allowed].sum())
        if room >= (problem.need or 0):
            found.append((-int(scores[allowed].sum()), -room, len(found), allowed))
    return [tuple(np.flatnonzero(entry[3]).tolist()) for entry in sorted(found, key=lambda e: e[:3])[:MAX_CHOICES]]


def _binding(problem: Problem) -> list[_Field]:
    fields = []
    for names, (_, most) in zip(problem.groups, problem.bounds, strict=True):
        groups, codes = np.unique(np.array(names), return_inverse=True)
        if most is not None and most < len(groups):
            fields.append(_Field(codes, len(groups), most))
    return fields


def _roomiest(field: _Field, rooms: NDArray[np.int64]) -> NDArray[np.intp]:
    totals = np.zeros(field.groups, np.int64)
    np.add.at(totals, field.codes, rooms)
    return np.argsort(-totals, kind="stable")[: field.most]


def solve(problem: Problem) -> Solution:
    clusters = len(problem.rooms)
    rows = _Rows(variables=clusters)
    seeds = range(clusters)
    if problem.seeds_matter():
        seeds = range(clusters, 2 * clusters)
        rows.variables = 2 * clusters
        rows.add(((at, 1.0) for at in seeds), high=float(problem.need or 0))
        for at in range(clusters):
            rows.add(((at, 1.0), (clusters + at, -1.0)), low=0.0)
    for names, (least, most) in zip(problem.groups, problem.bounds, strict=True):
        _limit_groups(rows, _members(names, range(clusters)), most)
        _require_groups(rows, _members(names, seeds), least)
    if problem.need:
        # In shares of the need, so that the solver's tolerance stays far below one replica.
        rows.add(((at, min(room, problem.need) / problem.need) for at, room in enumerate(problem.rooms)), low=1.0)
    return _run(rows, lambda x: _read(x, clusters, seeds))


def _members(names: Sequence[str], variables: Sequence[int]) -> list[list[int]]:
    members: dict[str, list[int]] = {}
    for name, variable in zip(names, variables, strict=True):
        members.setdefault(name, []).append(variable)
    return list(members.values())


def _limit_groups(rows: _Rows, groups: Sequence[Sequence[int]], most: int | None) -> None:
    """A group is used as soon as one member is."""
    if most is None or most >= len(groups):
        return
    used = []
    for members in groups:
        group = members[0] if len(members) == 1 else rows.new_variable()
        used.append(group)
        for member in members if len(members) > 1 else ():
            rows.add(((group, 1.0), (member, -1.0)), low=0.0)
    rows.add(((group, 1.0) for group in used), high=float(most))


def _require_groups(rows: _Rows, groups: Sequence[Sequence[int]], least: int) -> None:
    """A group counts only if one member is in."""
    counted = []
    for members in groups:
        group = members[0] if len(members) == 1 else rows.new_variable()
        counted.append(group)
        if len(members) > 1:
            rows.add(((group, -1.0), *((member, 1.0) for member in members)), low=0.0)
    rows.add(((group, 1.0) for group in counted), low=float(least))


def _run(rows: _Rows, read: Callable[[NDArray[np.float64]], Solution]) -> Solution:
    """Any solution will do: a wish beside the constraints makes the search many times longer."""
    found = milp(
        np.zeros(rows.variables),
        integrality=np.ones(rows.variables),
        bounds=Bounds(0, 1),
        constraints=rows.constraint(),
        options={"node_limit": NODE_LIMIT, "time_limit": TIME_LIMIT_SECONDS},
    )
    if found.x is None:
        return Solution(chosen=(), seeds=(), proven=found.status == _INFEASIBLE)
    return read(found.x)


def _read(values: NDArray[np.float64], clusters: int, seeds: range) -> Solution:
    chosen = np.flatnonzero(values[:clusters] > 0.5)
    seeded = np.flatnonzero(values[seeds.start : seeds.stop] > 0.5)
    return Solution(chosen=tuple(chosen.tolist()), seeds=tuple(seeded.tolist()), proven=True)
