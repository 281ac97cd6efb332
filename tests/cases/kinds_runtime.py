"""Kinds of cases about dividing what is there right now: runtime quota, dominant resource fairness."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from federation.planner.drf import User, fill
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
}
