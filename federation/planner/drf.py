"""Dominant resource fairness: tasks one at a time, always to whoever has least of the resource it has most of."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from federation.domain.resources import Amounts, add, fits_in


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """*tasks*: how many it wants at most."""

    name: str
    demand: Amounts
    weight: Fraction = Fraction(1)
    tasks: int | None = None


@dataclass(frozen=True, slots=True)
class Filled:
    tasks: int
    share: Fraction
    dominant: str


def fill(capacity: Amounts, users: Iterable[User]) -> dict[str, Filled]:
    """Serves the lowest weighted dominant share whose next task fits, until none does."""
    by_name = {user.name: user for user in sorted(users, key=lambda user: user.name)}
    filled = {name: Filled(0, Fraction(0), "") for name in by_name}
    waiting = {name for name, user in by_name.items() if user.weight > 0 and any(user.demand.values())}
    used: dict[str, int] = {}
    while waiting:
        name = min(waiting, key=lambda name: (filled[name].share / by_name[name].weight, name))
        user, tasks = by_name[name], filled[name].tasks
        after = add(used, user.demand)
        if tasks == user.tasks or not fits_in(after, capacity):
            waiting.remove(name)
        else:
            used, filled[name] = after, _filled(capacity, user, tasks + 1)
    return filled


def _filled(capacity: Amounts, user: User, tasks: int) -> Filled:
    shares = {name: Fraction(tasks * need, capacity[name]) for name, need in sorted(user.demand.items()) if need > 0}
    dominant = max(shares, key=lambda name: shares[name])
    return Filled(tasks, shares[dominant], dominant)
