"""Shrinking: what each leaf of a quota tree gives back when there is less, by what it has above its guarantee."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from federation.planner.runtime_quota import by_weight

Split = Callable[[int, Sequence[int]], list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    name: str
    parent: str
    allocated: int
    guaranteed: int = 0

    @property
    def excess(self) -> int:
        return max(0, self.allocated - self.guaranteed)


def within_excess(amount: int, excesses: Sequence[int]) -> list[int]:
    """All of it that can be had, by the largest remainder, and from no one more than it has above its guarantee."""
    return by_weight(min(amount, sum(excesses)), excesses)


def rounded_down(amount: int, excesses: Sequence[int]) -> list[int]:
    """Each part by itself, as YuniKorn does it: what rounding leaves is given by nobody, a guarantee below may suffer."""
    return [amount * excess // sum(excesses) for excess in excesses]


def given_back(amount: int, holdings: Iterable[Holding], split: Split = within_excess) -> dict[str, int]:
    """What each leaf gives; a node at or below its guarantee is not asked."""
    children: dict[str, list[Holding]] = {}
    for holding in sorted(holdings, key=lambda holding: holding.name):
        children.setdefault(holding.parent, []).append(holding)
    named = {holding.name for siblings in children.values() for holding in siblings}
    given: dict[str, int] = {}
    for root in sorted(set(children) - named):
        _give(root, min(amount, sum(holding.excess for holding in children[root])), children, given, split)
    return given


def _give(node: str, amount: int, children: dict[str, list[Holding]], given: dict[str, int], split: Split) -> None:
    if node not in children:
        given[node] = amount
    elif asked := [holding for holding in children[node] if holding.excess]:
        for holding, part in zip(asked, split(amount, [holding.excess for holding in asked]), strict=True):
            _give(holding.name, part, children, given, split)
