"""Kinds of cases about dividing what is there right now, and giving back: runtime quota, fairness, shrinking."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from federation.planner.drf import User, fill
from federation.planner.over_quota import Number, Queue, fair_shares
from federation.planner.quota_shrink import Holding, given_back, rounded_down
from federation.planner.runtime_quota import Child, propagated, runtime_of_leaf, runtimes, scaled

Input = Mapping[str, Any]


def answer_runtime(given: Input) -> Any:
    return {"runtime": runtimes(given["total"], children_of(given))}


def answer_scaling(given: Input) -> Any:
    children = scaled(given["total"], children_of(given))
    runtime = runtimes(given["total"], children)
    return {
        "scaled_min": {child.name: child.min for child in children},
        "runtime": runtime,
        "runtime_asserted": runtime,
    }


def answer_propagation(given: Input) -> Any:
    """One answer for each request of the leaf, in turn."""
    steps = [propagated([child_of(link) for link in given["chain"]], ask) for ask in given["leaf_requests"]]
    answer: dict[str, Any] = {"runtime_leaf": [runtime_of_leaf(given["total"], chain) for chain in steps]}
    for k, link in enumerate(given["chain"]):
        answer[f"{link['name']}_request"] = [chain[k].request for chain in steps]
        answer[f"runtime_{link['name']}"] = [runtime_of_leaf(given["total"], chain[: k + 1]) for chain in steps]
    return answer


def answer_filling(given: Input) -> Any:
    """A resource is named by its first word: memory_gb is memory."""
    filled = fill(given["capacity"], [user_of(user) for user in given["users"]])
    return {
        "tasks": {name: user.tasks for name, user in filled.items()},
        "dominant_share": {name: f"{user.share} {user.dominant.split('_')[0]}" for name, user in filled.items()},
    }


def answer_division(given: Input) -> Any:
    """Upstream's numbers may be fractions; whole ones are compared as integers."""
    total = number_of(given["total"])
    shares = fair_shares(total, [queue_of(queue) for queue in given["queues"]], number_of(given.get("k_value", 0)))
    left = total - sum(shares.values())
    return {
        "fair_share": {name: plain(share) for name, share in shares.items()},
        "remaining": plain(left) if left > 0 else 0,
    }


def answer_shrink(given: Input) -> Any:
    """The leaves' parts, and which nodes are not asked: those with nothing above their guarantee."""
    holdings = [
        Holding(
            name=node["name"],
            parent=node["parent"],
            allocated=node["allocated"],
            guaranteed=node.get("guaranteed", 0),
        )
        for node in given["tree"]
    ]
    excluded = sorted(holding.name for holding in holdings if not holding.excess)
    return {**given_back(given["to_reclaim"], holdings, rounded_down), "excluded": excluded}


def queue_of(queue: Input) -> Queue:
    limits = {name: None if queue.get(name) is None else number_of(queue[name]) for name in ("deserved", "max")}
    return Queue(
        name=queue["name"],
        request=number_of(queue["request"]),
        deserved=limits["deserved"],
        most=limits["max"],
        weight=number_of(queue.get("weight", 1)),
        priority=queue.get("priority", 0),
        used=number_of(queue.get("usage", 0)),
    )


def number_of(value: Any) -> Fraction:
    return Fraction(str(value))


def plain(value: Number) -> int | float:
    return int(value) if value == int(value) else float(value)


def children_of(given: Input) -> list[Child]:
    return [child_of(child) for child in given["children"]]


def child_of(child: Input) -> Child:
    return Child(
        name=child["name"],
        request=child.get("request", 0),
        min=child.get("min", 0),
        max=child.get("max"),
        weight=child.get("weight"),
        guarantee=child.get("guarantee", 0),
        lends=child.get("allow_lent", True),
        scalable=child.get("scalable", True),
    )


def user_of(user: Input) -> User:
    weight = Fraction(str(user.get("weight", 1)))
    return User(name=user["name"], demand=user["demand"], weight=weight, tasks=user.get("tasks"))


ANSWERS: Final = {
    "runtime_quota": answer_runtime,
    "min_scaling": answer_scaling,
    "request_propagation": answer_propagation,
    "drf.progressive_filling": answer_filling,
    "fair_share.division": answer_division,
    "quota_shrink.distribution": answer_shrink,
}
