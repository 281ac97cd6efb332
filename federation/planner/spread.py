"""Which clusters a workload may use, so that it is spread over enough groups (region, zone, any label) and fits.

One constraint is chosen as the reference does for clusters. Several are tried in a few good orders first; only where none
of these does, the choice goes to a solver, so that a feasible choice is found if one exists.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from federation.planner.regions import Region, select_regions
from federation.planner.spread_exact import Problem, roomy_choices, solve

__all__ = [
    "CLUSTER",
    "Candidate",
    "Infeasible",
    "Region",
    "Selection",
    "Spread",
    "ensure_groups",
    "select",
    "select_regions",
]

CLUSTER: Final = "cluster"
# No workload has so many replicas; as a bound it keeps sums over all clusters within int64.
_ENOUGH_ROOM: Final = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """*available*: replicas that it can take in all, those that run there already included."""

    name: str
    available: int
    groups: Mapping[str, str]
    score: int = 0

    def group(self, by: str) -> str | None:
        return self.name if by == CLUSTER else self.groups.get(by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """*by*: `cluster`, or the key of a label. No *max_groups*: any number."""

    by: str
    min_groups: int = 1
    max_groups: int | None = None

    def at_most(self, groups: int) -> int:
        return groups if self.max_groups is None else min(groups, self.max_groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """*seeds*: clusters which, with one replica each, already satisfy every minimum."""

    candidates: tuple[Candidate, ...]
    constraints: tuple[Spread, ...]
    seeds: tuple[str, ...]

    @property
    def clusters(self) -> tuple[str, ...]:
        return tuple(candidate.name for candidate in self.candidates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasible:
    """*proven*: no choice exists; otherwise the search ended at its limit."""

    reason: str
    proven: bool = True


def select(candidates: Iterable[Candidate], constraints: Iterable[Spread], need: int | None) -> Selection | Infeasible:
    """The clusters that may be used, the best first. No *need*: each takes a full copy, and room is the caller's concern."""
    spreads = _merged(constraints)
    ranked = sorted((c for c in candidates if ineligible(c, spreads, need) is None), key=_rank)
    reason = _impossible(ranked, spreads, need)
    if reason is not None:
        return Infeasible(reason=reason)
    for chosen in _attempts(ranked, spreads, need):
        selection = _accepted(chosen, spreads, need)
        if selection is not None:
            return selection
    return _exactly(ranked, spreads, need)


def ineligible(candidate: Candidate, constraints: Iterable[Spread], need: int | None) -> str | None:
    """Why *candidate* cannot count for *constraints*, or None."""
    missing = [spread.by for spread in constraints if not candidate.group(spread.by)]
    if missing:
        return f"no {', '.join(missing)} to spread by"
    if need is not None and candidate.available < 1:
        return "no room for a replica"
    return None


def ensure_groups(counts: Mapping[str, int], selection: Selection, previous: Mapping[str, int]) -> dict[str, int]:
    """*counts* with as few replicas moved as it takes for every minimum to hold; new replicas move before running ones."""
    result = {name: count for name, count in counts.items() if count > 0}
    used = sorted((c for c in selection.candidates if c.name in result), key=lambda c: (-result[c.name], c.name))
    unused = [c for c in selection.candidates if c.name not in result]
    seeds = _seeds((*used, *unused), selection.constraints)
    if seeds is None or len(seeds) > sum(result.values()):
        seeds = selection.seeds
    for name in seeds:
        if name not in result:
            donor = _donor(result, frozenset(seeds), previous)
            if donor is None:
                break
            result[donor] -= 1
            result[name] = 1
    return {name: result[name] for name in sorted(result) if result[name]}


def _merged(constraints: Iterable[Spread]) -> tuple[Spread, ...]:
    """One constraint a field: where a field is named twice, both hold."""
    merged: dict[str, Spread] = {}
    for spread in constraints:
        other = merged.get(spread.by, spread)
        maxima = [most for most in (spread.max_groups, other.max_groups) if most is not None]
        merged[spread.by] = Spread(
            by=spread.by,
            min_groups=max(spread.min_groups, other.min_groups),
            max_groups=min(maxima, default=None),
        )
    return tuple(merged.values())


def _rank(candidate: Candidate) -> tuple[int, int, str]:
    return -candidate.score, -candidate.available, candidate.name


def _impossible(ranked: Sequence[Candidate], spreads: Sequence[Spread], need: int | None) -> str | None:
    """What already forbids any choice: each constraint alone, at its best."""
    if not ranked:
        return "no cluster can take a replica"
    for spread in spreads:
        rooms = sorted(_rooms(ranked, spread.by).values(), reverse=True)
        most = spread.at_most(len(rooms))
        if most < spread.min_groups:
            return f"{spread.by}: {most} groups can be used, at least {spread.min_groups} are asked for"
        if need is not None and need < spread.min_groups:
            return f"{spread.by}: {need} replicas cannot be in {spread.min_groups} groups"
        if need is not None and sum(rooms[:most]) < need:
            return f"{spread.by}: {need} replicas are asked for, the {most} roomiest take {sum(rooms[:most])}"
    if need is not None and sum(c.available for c in ranked) < need:
        return f"{need} replicas are asked for, all clusters together take {sum(c.available for c in ranked)}"
    return None


def _rooms(candidates: Iterable[Candidate], by: str) -> dict[str, int]:
    rooms: dict[str, int] = defaultdict(int)
    for candidate in candidates:
        rooms[_group(candidate, by)] += candidate.available
    return rooms


def _group(candidate: Candidate, by: str) -> str:
    return candidate.group(by) or ""


def _attempts(ranked: Sequence[Candidate], spreads: Sequence[Spread], need: int | None) -> Iterator[list[Candidate]]:
    if len(spreads) == 1:
        yield _by_one(ranked, spreads[0], need)
        return
    yield _greedy(ranked, spreads)
    yield _greedy(sorted(ranked, key=lambda c: (-c.available, c.name)), spreads)
    for spread in spreads:
        rooms = _rooms(ranked, spread.by)
        yield _greedy(sorted(ranked, key=lambda c: (-rooms[_group(c, spread.by)], -c.available, c.name)), spreads)


def _by_one(ranked: Sequence[Candidate], spread: Spread, need: int | None) -> list[Candidate]:
    """The best groups; while they are too small the last of them gives way to the roomiest group left out."""
    rooms = _rooms(ranked, spread.by)
    scores: dict[str, int] = {}
    for candidate in ranked:
        scores.setdefault(_group(candidate, spread.by), candidate.score)
    order = sorted(rooms, key=lambda group: (-scores[group], -rooms[group], group))
    most = spread.at_most(len(order))
    chosen, left = order[:most], order[most:]
    short = (need or 0) - sum(rooms[group] for group in chosen)
    for at in reversed(range(most)):
        if short <= 0 or not left:
            break
        roomiest = max(range(len(left)), key=lambda i: rooms[left[i]])
        if rooms[left[roomiest]] > rooms[chosen[at]]:
            short -= rooms[left[roomiest]] - rooms[chosen[at]]
            chosen[at], left[roomiest] = left[roomiest], chosen[at]
    used = frozenset(chosen)
    return [candidate for candidate in ranked if _group(candidate, spread.by) in used]


def _greedy(ranked: Sequence[Candidate], spreads: Sequence[Spread]) -> list[Candidate]:
    """First whoever brings a group that is still missing, then whoever fits under the maxima."""
    used: dict[str, set[str]] = {spread.by: set() for spread in spreads}
    chosen: dict[str, Candidate] = {}
    for wanted in (True, False):
        for candidate in ranked:
            new = [s for s in spreads if _group(candidate, s.by) not in used[s.by]]
            allowed = all(s.max_groups is None or len(used[s.by]) < s.max_groups for s in new)
            missing = any(len(used[s.by]) < s.min_groups for s in new)
            if candidate.name not in chosen and allowed and (missing or not wanted):
                chosen[candidate.name] = candidate
                for spread in new:
                    used[spread.by].add(_group(candidate, spread.by))
    return list(chosen.values())


def _accepted(chosen: Sequence[Candidate], spreads: tuple[Spread, ...], need: int | None) -> Selection | None:
    """The selection if *chosen* keeps every promise, and few enough of it do for the minima."""
    ranked = sorted(chosen, key=_rank)
    seeds = _seeds(ranked, spreads)
    if seeds is None or not _admissible(ranked, spreads, need) or (need is not None and len(seeds) > need):
        return None
    return Selection(candidates=tuple(ranked), constraints=spreads, seeds=seeds)


def _admissible(chosen: Sequence[Candidate], spreads: Iterable[Spread], need: int | None) -> bool:
    if not chosen or (need is not None and sum(c.available for c in chosen) < need):
        return False
    groups = {spread: len({_group(c, spread.by) for c in chosen}) for spread in spreads}
    return all(spread.min_groups <= count == spread.at_most(count) for spread, count in groups.items())


def _seeds(ordered: Sequence[Candidate], spreads: Iterable[Spread]) -> tuple[str, ...] | None:
    """Few clusters, the earlier the better, that reach every minimum; None where even all do not."""
    missing = Counter({spread.by: spread.min_groups for spread in spreads if spread.min_groups > 1})
    used: set[tuple[str, str]] = set()
    seeds: list[str] = []
    while missing := +missing:
        best, new = _next_seed(ordered, frozenset(missing), used)
        if best is None:
            return None
        seeds.append(best.name)
        used.update((by, _group(best, by)) for by in new)
        missing.subtract(new)
    return tuple(seeds)


def _next_seed(
    ordered: Sequence[Candidate], missing: frozenset[str], used: set[tuple[str, str]]
) -> tuple[Candidate | None, list[str]]:
    """The first candidate that brings a new group for the most of the constraints still *missing* some."""
    best: tuple[Candidate | None, list[str]] = (None, [])
    for candidate in ordered:
        new = [by for by in missing if (by, _group(candidate, by)) not in used]
        if len(new) > len(best[1]):
            best = candidate, new
        if len(new) == len(missing):
            break
    return best


def _donor(counts: Mapping[str, int], seeds: frozenset[str], previous: Mapping[str, int]) -> str | None:
    """Who can best spare a replica: first where it is not running yet, then where most are."""
    able = [name for name, count in counts.items() if count > (1 if name in seeds else 0)]
    return min(able, key=lambda name: (counts[name] <= previous.get(name, 0), -counts[name], name), default=None)


def _exactly(ranked: Sequence[Candidate], spreads: tuple[Spread, ...], need: int | None) -> Selection | Infeasible:
    """Combination by combination; then what the solver chose, filled up with whoever else fits under the maxima."""
    problem = Problem(
        rooms=tuple(min(c.available, _ENOUGH_ROOM) for c in ranked),
        scores=tuple(c.score for c in ranked),
        groups=tuple(tuple(_group(c, s.by) for c in ranked) for s in spreads),
        bounds=tuple((s.min_groups, s.max_groups) for s in spreads),
        need=need,
    )
    choices = roomy_choices(problem)
    if choices == []:
        return _none_found(spreads, proven=True)
    accepted = (_accepted([ranked[at] for at in choice], spreads, need) for choice in choices or ())
    return next(filter(None, accepted), None) or _solved(problem, ranked, spreads)


def _solved(problem: Problem, ranked: Sequence[Candidate], spreads: tuple[Spread, ...]) -> Selection | Infeasible:
    need = problem.need
    solution = solve(problem)
    if not solution.chosen:
        return _none_found(spreads, proven=solution.proven)
    first, seeds = ([ranked[at] for at in indices] for indices in (solution.chosen, solution.seeds))
    filled = _greedy((*seeds, *first, *ranked), spreads)
    return _accepted(filled, spreads, need) or _with_seeds(filled, seeds, spreads, need)


def _with_seeds(
    chosen: Sequence[Candidate], seeds: Sequence[Candidate], spreads: tuple[Spread, ...], need: int | None
) -> Selection | Infeasible:
    """Where the quick cover takes more clusters than there are replicas, the solver's seeds stand; checked in integers."""
    names = _seeds(seeds, spreads)
    if names is None or len(names) > (need or 0) or not _admissible(chosen, spreads, need):
        return _none_found(spreads, proven=False)
    return Selection(candidates=tuple(sorted(chosen, key=_rank)), constraints=spreads, seeds=names)


def _none_found(spreads: Iterable[Spread], *, proven: bool) -> Infeasible:
    together = " and ".join(spread.by for spread in spreads)
    if proven:
        return Infeasible(reason=f"no choice of clusters satisfies {together} together")
    return Infeasible(reason=f"no choice of clusters was found that satisfies {together} together", proven=False)
