"""From columns to counts: the strategy, the spread, one cluster only, and what to do where not all fits.

Both the cycle and whoever computes a decision again call `divide` with the same columns, and get the same counts.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from federation.domain.workload import SpreadConstraint, Strategy, WorkloadSpec
from federation.planner.divide import divide_counts, webster_counts
from federation.planner.nodes import Int64
from federation.planner.spread import Candidate, Infeasible, Selection, Spread, ensure_groups, select

_AT_HOME: Final = 100


class Columns(Struct, frozen=True, kw_only=True):
    """Candidates in ascending order of name: how many more fit, how many the last decision wanted, static weights.

    *groups*: by spread field, where the workload is spread. *holds*: whether anything is there already.
    """

    names: Sequence[str]
    fits: Int64
    previous: Int64
    weights: Int64
    groups: Sequence[Mapping[str, str]] = ()
    holds: bool = True


class Division(Struct, frozen=True, kw_only=True):
    """*counts* by candidate, None where it does not fit; *short*: (cluster, wants, fits) of each share that is too large.

    *possible*: the most that would have fitted. *reason*: why the spread cannot be had.
    """

    counts: Int64 | None
    short: tuple[tuple[str, int, int], ...] = ()
    possible: int = 0
    reason: str = ""


def divide(spec: WorkloadSpec, total: int, columns: Columns) -> Division:
    """How many replicas each candidate is to have of *total* (of each copy, where copies are made)."""
    if total == 0:
        return Division(counts=np.zeros_like(columns.previous))
    if spec.single or len(spec.components) > 1:
        return _in_one(spec, total, columns)
    if spec.rules.strategy is Strategy.DUPLICATED:
        return _duplicated(spec, total, columns)
    if spec.rules.strategy is Strategy.STATIC:
        return _against_room(spec, webster_counts(total, columns.weights), columns)
    if spec.rules.spread:
        return _spread(spec, total, columns)
    return _by_room(spec, total, columns)


def least_of_use(spec: WorkloadSpec, total: int) -> int:
    """The fewest replicas that the workload may be given of *total*."""
    partial = spec.rules.partial
    if partial == "never" or len(spec.components) > 1:
        return total
    return 1 if partial == "allow" else min(total, int(partial.removeprefix("min ")))


def _by_room(spec: WorkloadSpec, total: int, columns: Columns) -> Division:
    if total == 1 and not columns.holds:
        return _first(columns)
    held, room = int(columns.previous.sum()), int(columns.fits.sum())
    possible = total if held >= total else min(total, held + room)
    if possible < least_of_use(spec, total):
        return Division(counts=None, possible=possible)
    aggregated = spec.rules.strategy is Strategy.AGGREGATED
    counts = divide_counts(possible, columns.fits, columns.previous, aggregated=aggregated)
    return Division(counts=columns.previous if counts is None else counts, possible=possible)


def _first(columns: Columns) -> Division:
    """One replica, as `divide_counts` would place it: where most room is."""
    at = int(columns.fits.argmax()) if len(columns.names) else 0
    if not len(columns.names) or not columns.fits[at]:
        return Division(counts=None)
    counts = np.zeros(len(columns.names), np.int64)
    counts[at] = 1
    return Division(counts=counts, possible=1)


def _in_one(spec: WorkloadSpec, total: int, columns: Columns) -> Division:
    """All in the cluster that has it; a new one goes where most room is. It is not moved to grow."""
    room = columns.fits + columns.previous
    if not len(room):
        return Division(counts=None)
    at = int((columns.previous if columns.previous.any() else room).argmax())
    possible = min(total, int(room[at]))
    counts = np.zeros_like(columns.previous)
    counts[at] = possible
    if possible < least_of_use(spec, total):
        return Division(counts=None, possible=possible, short=((columns.names[at], total, possible),))
    return Division(counts=counts, possible=possible)


def _duplicated(spec: WorkloadSpec, total: int, columns: Columns) -> Division:
    if not spec.rules.spread:
        return _against_room(spec, np.full(len(columns.names), total, np.int64), columns)
    reason = ""
    for least in sorted({total, least_of_use(spec, total)}, reverse=True):
        able = [candidate for candidate in _candidates(columns) if candidate.available >= least]
        found = select(able, _spreads(spec.rules.spread), None)
        if isinstance(found, Selection):
            chosen = frozenset(found.clusters)
            shares = np.array([total if name in chosen else 0 for name in columns.names], np.int64)
            return _against_room(spec, shares, columns)
        reason = reason or f"copies of {total}: {found.reason}"
    return Division(counts=None, reason=reason)


def _against_room(spec: WorkloadSpec, shares: Int64, columns: Columns) -> Division:
    """Shares that were computed without regard to room, held against it."""
    wanted = int(shares.sum())
    counts = np.minimum(shares, columns.previous + columns.fits)
    possible = int(counts.sum())
    over = np.flatnonzero(shares > counts).tolist()
    short = tuple((columns.names[at], int(shares[at]), int(counts[at])) for at in over)
    if possible < max(1, least_of_use(spec, wanted)):
        return Division(counts=None, short=short, possible=possible)
    return Division(counts=counts, short=short, possible=possible)


def _spread(spec: WorkloadSpec, total: int, columns: Columns) -> Division:
    if int(columns.previous.sum()) == total and _satisfied(spec.rules.spread, columns):
        return Division(counts=columns.previous.copy(), possible=total)
    candidates, spreads = _candidates(columns), _spreads(spec.rules.spread)
    found = select(candidates, spreads, total)
    possible = total
    if isinstance(found, Infeasible):
        possible, fewer = _most_that_spreads(spec, total, candidates)
        if fewer is None:
            return Division(counts=None, possible=possible, reason=found.reason)
        found = fewer
    chosen = frozenset(found.clusters)
    inside = np.array([name in chosen for name in columns.names], np.bool_)
    restricted = replace(columns, fits=columns.fits * inside, previous=columns.previous * inside)
    division = _by_room(spec, possible, restricted)
    if division.counts is None:
        return division
    return replace(division, counts=_with_groups(division.counts, found, restricted))


def _most_that_spreads(spec: WorkloadSpec, total: int, candidates: Sequence[Candidate]) -> tuple[int, Selection | None]:
    """The most replicas below *total* for which clusters are found, if the workload has a use for as few."""
    spreads, high = _spreads(spec.rules.spread), total - 1
    low = max(least_of_use(spec, total), *(spread.min_groups for spread in spreads)) - 1
    best: Selection | None = None
    while low < high:
        middle = (low + high + 1) // 2
        found = select(candidates, spreads, middle)
        if isinstance(found, Selection):
            low, best = middle, found
        else:
            high = middle - 1
    return (low if best else 0), best


def _with_groups(counts: Int64, selection: Selection, columns: Columns) -> Int64:
    before = {name: count for name, count in zip(columns.names, columns.previous.tolist(), strict=True) if count}
    now = dict(zip(columns.names, counts.tolist(), strict=True))
    after = ensure_groups(now, selection, before)
    return np.array([after.get(name, 0) for name in columns.names], np.int64)


def _satisfied(constraints: Sequence[SpreadConstraint], columns: Columns) -> bool:
    """Whether the previous counts keep every constraint."""
    used = np.flatnonzero(columns.previous).tolist()
    for constraint in constraints:
        groups = len({_group(columns, at, constraint.by) for at in used})
        if groups < constraint.min_groups or groups > (constraint.max_groups or groups):
            return False
    return True


def _group(columns: Columns, at: int, by: str) -> str | None:
    return columns.names[at] if by == "cluster" else columns.groups[at].get(by)


def _candidates(columns: Columns) -> list[Candidate]:
    room = (columns.fits + columns.previous).tolist()
    return [
        Candidate(name=name, available=room[at], groups=columns.groups[at], score=_AT_HOME if previous else 0)
        for at, (name, previous) in enumerate(zip(columns.names, columns.previous.tolist(), strict=True))
    ]


def _spreads(constraints: Sequence[SpreadConstraint]) -> tuple[Spread, ...]:
    return tuple(Spread(by=c.by, min_groups=c.min_groups, max_groups=c.max_groups) for c in constraints)
