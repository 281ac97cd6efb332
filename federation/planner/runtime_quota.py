"""Runtime quota, Koordinator's way: what is divided among children right now, by what they ask for.

Nominal first (min, or what is guaranteed), then the rest by weight among those who want more, largest remainder, never
above the request. A child that lends gives its unused minimum to the others; one that does not keeps it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """*max* of None is no limit; *weight* of None is the maximum, or with no limit either the request."""

    name: str
    request: int
    min: int = 0
    max: int | None = None
    weight: int | None = None
    guarantee: int = 0
    lends: bool = True
    scalable: bool = True

    @property
    def limited(self) -> int:
        """What it asks for, as its parent sees it."""
        wanted = self.request if self.max is None else min(self.request, self.max)
        return wanted if self.lends else max(wanted, self.min)

    @property
    def floor(self) -> int:
        return max(self.min, self.guarantee)

    @property
    def share(self) -> int:
        return next(weight for weight in (self.weight, self.max, self.limited) if weight is not None)


def runtimes(total: int, children: Iterable[Child]) -> dict[str, int]:
    """Each child's part of *total*. Minima that sum to more than there is are served all the same: scale them before."""
    ordered = sorted(children, key=lambda child: child.name)
    runtime = {child.name: _first(child) for child in ordered}
    wanting = [child for child in ordered if child.limited > child.floor]
    left = total - sum(runtime.values())
    while left > 0 and any(child.share > 0 for child in wanting):
        parts = by_weight(left, [child.share for child in wanting])
        left = 0
        for child, part in zip(wanting, parts, strict=True):
            grown = runtime[child.name] + part
            runtime[child.name] = min(grown, child.limited)
            left += grown - runtime[child.name]
        wanting = [child for child in wanting if runtime[child.name] < child.limited]
    return runtime


def scaled(total: int, children: Sequence[Child]) -> list[Child]:
    """The children with minima that *total* can serve: those that may not be scaled first, the rest in proportion."""
    if sum(child.min for child in children) <= total:
        return list(children)
    scalable = sum(child.min for child in children if child.scalable)
    left = max(0, total - sum(child.min for child in children if not child.scalable))
    return [replace(c, min=c.min * left // scalable) if c.scalable and scalable else c for c in children]


def propagated(chain: Sequence[Child], request: int) -> list[Child]:
    """A chain from the top down to the leaf that asks for *request*: each asks for what the one below may have."""
    asking = []
    for child in reversed(chain):
        asking.append(replace(child, request=request))
        request = asking[-1].limited
    return asking[::-1]


def runtime_of_leaf(total: int, chain: Sequence[Child]) -> int:
    """Top down: the runtime of each is the total of the one below."""
    for child in chain:
        total = runtimes(total, [child])[child.name]
    return total


def by_weight(amount: int, weights: Sequence[int]) -> list[int]:
    """All of *amount* in whole units; what rounding leaves goes to the largest remainders, ties to the earlier ones."""
    whole = sum(weights)
    parts = [amount * weight // whole for weight in weights]
    order = sorted(
        (i for i, weight in enumerate(weights) if weight > 0), key=lambda i: (-(amount * weights[i] % whole), i)
    )
    for i in order[: amount - sum(parts)]:
        parts[i] += 1
    return parts


def _first(child: Child) -> int:
    if child.limited > child.floor:
        return child.floor
    return child.limited if child.lends else child.floor
