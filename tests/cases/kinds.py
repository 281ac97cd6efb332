"""Kinds of cases: what a case's input asks of the planner, and how the two answers are made comparable.

A new kind is an entry in `KINDS`. An answer of None is "does not fit".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from federation.domain.quantities import InvalidQuantity, parse
from federation.planner.divide import (
    Division,
    divide_aggregated,
    divide_duplicated,
    divide_dynamic,
    divide_static,
    webster,
)
from federation.planner.regions import Region, select_regions
from tests.cases import kinds_borrowing, kinds_runtime

Input = Mapping[str, Any]


def as_it_is(answer: Any) -> Any:
    return answer


def without_zeros(answer: Any) -> Any:
    if not isinstance(answer, Mapping):
        return answer
    return {name: value for name, value in sorted(answer.items()) if value != 0}


@dataclass(frozen=True, slots=True)
class Kind:
    """*partial*: what is expected may name a part of the answer only."""

    answer: Callable[[Input], Any]
    comparable: Callable[[Any], Any] = as_it_is
    partial: bool = False

    def got(self, given: Input, expected: Any) -> Any:
        answer = self.answer(given)
        return self.comparable(named_in(expected, answer) if self.partial else answer)


def named_in(expected: Any, answer: Any) -> Any:
    """The part of *answer* that *expected* names."""
    if not isinstance(expected, Mapping) or not isinstance(answer, Mapping):
        return answer
    return {name: named_in(expected[name], value) for name, value in answer.items() if name in expected}


def answer_webster(given: Input) -> Any:
    return webster(given["seats"], given["votes"], given.get("initial") or {})


def answer_static(given: Input) -> Any:
    weights = given.get("weights") or dict.fromkeys(given.get("clusters", ()), 1)
    return divide_static(given["replicas"], weights)


def answer_duplicated(given: Input) -> Any:
    return divide_duplicated(given["replicas"], given.get("clusters") or given.get("available") or ())


def answer_dynamic(given: Input) -> Any:
    return divide_dynamic(_division(given))


def answer_aggregated(given: Input) -> Any:
    return divide_aggregated(_division(given))


def answer_regions(given: Input) -> Any:
    regions = [Region(name, clusters, score) for name, clusters, score in given["regions"]]
    return select_regions(regions, given["min_regions"], given["max_regions"], given["min_clusters"])


def answer_quantity(given: Input) -> Any:
    """What is refused has no value."""
    try:
        quantity = parse(given["text"])
    except InvalidQuantity:
        return None
    return {"value": quantity.value, "format": quantity.format}


KINDS: Final[dict[str, Kind]] = {
    "divide.webster": Kind(answer_webster, without_zeros),
    "divide.static_weight": Kind(answer_static, without_zeros),
    "divide.duplicated": Kind(answer_duplicated, without_zeros),
    "divide.dynamic_weight": Kind(answer_dynamic, without_zeros),
    "divide.aggregated": Kind(answer_aggregated, without_zeros),
    "spread.regions": Kind(answer_regions),
    "quantity": Kind(answer_quantity),
} | {
    name: Kind(answer, kinds_borrowing.without_zeros_inside, partial=True)
    for name, answer in (kinds_borrowing.ANSWERS | kinds_runtime.ANSWERS).items()
}


def _division(given: Input) -> Division:
    return Division(
        total=given["replicas"],
        allocatable=given["available"],
        previous=given.get("previous") or {},
        fresh=bool(given.get("fresh", False)),
    )
