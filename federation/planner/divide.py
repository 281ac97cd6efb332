"""How many replicas each cluster takes: Webster's method and the four strategies that rest on it.

Functions on mappings are for people and small inputs; those that end in `_counts` work on columns, in which clusters stand
in ascending order of name, so that a tie by index is a tie by name. `None` is "does not fit, nothing changes".
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

# Two different fractions a/b and c/d, a·d < 2^51, are never rounded to one float: below this floats compare exactly.
_EXACT_IN_FLOATS: Final = 2**51
_MAX_VOTES: Final = 2**63 - 1
_FEW_SEATS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """*allocatable*: what still fits in each candidate, without what runs there already (*previous*)."""

    total: int
    allocatable: Mapping[str, int]
    previous: Mapping[str, int]
    fresh: bool = False


Strategy = Callable[[Division], dict[str, int] | None]


def webster(seats: int, votes: Mapping[str, int], initial: Mapping[str, int] | None = None) -> dict[str, int]:
    """All seats, the *initial* ones included, after *seats* more were given to the largest votes ÷ (2·seats + 1) in turn."""
    names = sorted({**votes, **(initial or {})})
    counts = webster_counts(seats, _column(votes, names), _column(initial or {}, names))
    return dict(zip(names, counts.tolist(), strict=True))


def divide_duplicated(replicas: int, clusters: Iterable[str]) -> dict[str, int]:
    return {name: replicas for name in sorted(clusters) if replicas > 0}


def divide_static(replicas: int, weights: Mapping[str, int]) -> dict[str, int]:
    """The whole total by weight; where no cluster has a weight, all weigh the same."""
    return _without_zeros(webster(replicas, weights))


def divide_dynamic(division: Division) -> dict[str, int] | None:
    return _divide(division, aggregated=False)


def divide_aggregated(division: Division) -> dict[str, int] | None:
    return _divide(division, aggregated=True)


def largest_fitting(division: Division) -> int:
    """The most replicas, up to the total asked for, that the same division would place."""
    held = sum(_held(division).values())
    if held >= division.total and not division.fresh:
        return division.total
    return min(division.total, held + sum(max(0, count) for count in division.allocatable.values()))


def divide_tiers(division: Division, tiers: Sequence[Sequence[str]], strategy: Strategy) -> dict[str, int] | None:
    """Fill tier after tier, each by *strategy*, with what the tiers before it could not take."""
    placed: dict[str, int] = {}
    remaining = division.total
    for tier in tiers:
        inside = _restricted(division, tier)
        share = min(remaining, largest_fitting(replace(inside, total=remaining, fresh=True)))
        placed |= strategy(replace(inside, total=share)) or {}
        remaining -= share
    return placed if remaining == 0 else None


def divide_counts(
    total: int, allocatable: Counts, previous: Counts, *, fresh: bool = False, aggregated: bool = False
) -> Counts | None:
    """The new count of each cluster: growth follows what still fits, shrinking follows what is held."""
    room, held = np.maximum(allocatable, 0), int(previous.sum())
    if held == total and not fresh:
        return previous.copy()
    base, weights = np.zeros_like(previous), previous
    if fresh:
        weights = room + previous
    elif held < total:
        base, weights = previous, room
    target = total - int(base.sum())
    if aggregated:
        weights = _shortest_prefix(target, weights, holders=base > 0)
    if int(np.minimum(weights, target).sum()) < target:
        return None
    return base + webster_counts(target, weights)


def webster_counts(seats: int, votes: Counts, initial: Counts | None = None) -> Counts:
    """Exactly what giving *seats* one at a time yields; ties go to fewer seats, then to the lower index."""
    counts = np.zeros(len(votes), np.int64) if initial is None else initial.astype(np.int64)
    if seats <= 0 or not len(votes):
        return counts
    if not votes.any():
        votes = np.ones_like(votes)
    if int(votes.max()) * (2 * (int(counts.max()) + seats) + 1) >= _EXACT_IN_FLOATS:
        return np.array(_in_integers(seats, votes.tolist(), counts.tolist()), np.int64)
    if seats <= _FEW_SEATS:
        return _one_at_a_time(seats, votes, counts)
    return _by_price(seats, votes, counts)


def _divide(division: Division, *, aggregated: bool) -> dict[str, int] | None:
    names = sorted(division.allocatable)
    counts = divide_counts(
        division.total,
        _column({name: max(0, count) for name, count in division.allocatable.items()}, names),
        _column(_held(division), names),
        fresh=division.fresh,
        aggregated=aggregated,
    )
    return None if counts is None else _without_zeros(dict(zip(names, counts.tolist(), strict=True)))


def _shortest_prefix(target: int, weights: Counts, holders: NDArray[np.bool_]) -> Counts:
    """Only the first clusters that suffice keep their weight: holders first, then the largest, then by name."""
    order = np.lexsort((-weights, ~holders))
    enough = int(np.searchsorted(np.cumsum(np.minimum(weights, target)[order]), target)) + 1
    kept = np.zeros_like(weights)
    kept[order[:enough]] = weights[order[:enough]]
    return kept


def _one_at_a_time(seats: int, votes: Counts, counts: Counts) -> Counts:
    for _ in range(seats):
        priorities = votes / (2 * counts + 1)
        tied = np.flatnonzero(priorities == priorities.max())
        counts[tied[np.argmin(counts[tied])]] += 1
    return counts


def _by_price(seats: int, votes: Counts, initial: Counts) -> Counts:
    """Every seat whose priority is above a price that is certainly too high is given; the next ones are ranked.

    The seats given one at a time are the first of all seats by (priority, fewer seats, index), for a party's own
    priorities only fall. So the seats between a price too high and one too low may be ranked all at once.
    """
    low, high = _bracket(seats, votes, initial)
    extra = high - low
    party = np.repeat(np.arange(len(votes)), extra)
    seat = np.arange(len(party)) - np.repeat(np.cumsum(extra) - extra - low, extra)
    missing = seats - int((low - initial).sum())
    won = party[_best(missing, votes[party] / (2 * seat + 1), seat)]
    return low + np.bincount(won, minlength=len(votes))


def _best(missing: int, priorities: NDArray[np.float64], seat: Counts) -> NDArray[np.intp]:
    """The indices of the *missing* first candidates, which stand in the order of their parties."""
    if missing <= 0:
        return np.empty(0, np.intp)
    last = np.partition(priorities, len(priorities) - missing)[len(priorities) - missing]
    above, tied = np.flatnonzero(priorities > last), np.flatnonzero(priorities == last)
    ranked = tied[np.argsort(seat[tied], kind="stable")]
    return np.concatenate((above, ranked[: missing - len(above)]))


def _bracket(seats: int, votes: Counts, initial: Counts) -> tuple[Counts, Counts]:
    """Counts at a price too high and at one too low, a few seats a party apart."""
    total, parties, held = float(votes.sum(dtype=np.float64)), int(np.count_nonzero(votes)), int(initial.sum())
    dear = total / (2 * seats - parties) if 2 * seats > parties else np.inf
    cheap = total / (2 * (seats + held) + parties)
    low, high = _bought(dear, votes, initial), _bought(cheap, votes, initial)
    if int(low.sum()) > held + seats:
        dear, low = np.inf, initial
    while int(high.sum()) < held + seats:
        cheap, high = cheap / 2, _bought(cheap / 2, votes, initial)
    while int((high - low).sum()) > 4 * parties and dear > (price := 2 / (1 / dear + 1 / cheap)) > cheap:
        counts = _bought(price, votes, initial)
        if int(counts.sum()) <= held + seats:
            dear, low = price, counts
        else:
            cheap, high = price, counts
    return low, high


def _bought(price: float, votes: Counts, initial: Counts) -> Counts:
    """The seats of each party once it has taken every one whose priority is above *price*."""
    counts = np.maximum(np.ceil((votes / price - 1) / 2), initial).astype(np.int64)
    counts += votes / (2 * counts + 1) > price
    counts -= (counts > initial) & (votes / np.maximum(2 * counts - 1, 1) <= price)
    return counts


def _in_integers(seats: int, votes: list[int], counts: list[int]) -> list[int]:
    """The same with integers of any size, for votes that floats cannot tell apart."""
    parties, total, initial = range(len(votes)), sum(votes), sum(counts)
    low, step = 0, 1 << (4 * (seats + initial + len(votes))).bit_length() + 64
    floor = counts
    while step := step >> 1:
        # A seat's priority is above total·2^64 / spread; the largest spread that gives no seat too many.
        spread = low + step
        bought = [max(c, -(((total << 64) - v * spread) // (total << 65))) for v, c in zip(votes, counts, strict=True)]
        if sum(bought) - initial <= seats:
            low, floor = spread, bought
    heap = [(Fraction(-votes[i], 2 * floor[i] + 1), floor[i], i) for i in parties]
    heapq.heapify(heap)
    for _ in range(seats - (sum(floor) - initial)):
        _, held, i = heap[0]
        heapq.heapreplace(heap, (Fraction(-votes[i], 2 * held + 3), held + 1, i))
    return [held for _, held, _ in sorted(heap, key=lambda entry: entry[2])]


def _column(counts: Mapping[str, int], names: Sequence[str]) -> Counts:
    values = [counts.get(name, 0) for name in names]
    if values and not 0 <= min(values) <= max(values) <= _MAX_VOTES:
        raise ValueError(f"counts and votes are between 0 and {_MAX_VOTES}")
    return np.array(values, np.int64)


def _held(division: Division) -> dict[str, int]:
    return {name: count for name in division.allocatable if (count := division.previous.get(name, 0)) > 0}


def _restricted(division: Division, clusters: Sequence[str]) -> Division:
    return replace(division, allocatable={c: division.allocatable[c] for c in clusters if c in division.allocatable})


def _without_zeros(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
