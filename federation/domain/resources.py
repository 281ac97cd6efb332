"""Resource vectors: how much of each resource, as whole numbers in base units (cpu in millicores, the rest in units).

A missing resource is zero, and no vector keeps a zero. What is needed is rounded up, what is offered down, so that
rounding never promises what is not there.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from federation.domain.quantities import NANOS_PER_MILLI, NANOS_PER_UNIT, InvalidQuantity, Quantity, parse, shown

Amounts = Mapping[str, int]

# One pod or node: 1 PiB of bytes or 10^12 cores. 8,191 nodes at this bound still sum within int64; totals of a whole
# pool are Python integers, or checked.
MAX_AMOUNT: Final = 2**50
MAX_NAMES: Final = 64
_NAME: Final = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_./]{0,252}")
_CPU: Final = frozenset({"cpu", "requests.cpu", "limits.cpu"})
_BYTES: Final = re.compile(r"(?:(?:requests|limits)\.)?(?:memory|storage|ephemeral-storage|hugepages-.+)")
_BINARY_SUFFIXES: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


class InvalidAmounts(ValueError):
    """The vector cannot be read; the message names the resource and what is wrong with it."""


def parse_needed(quantities: Mapping[str, str], *, most: int = MAX_AMOUNT) -> dict[str, int]:
    """Requests, each rounded up."""
    _check_size(quantities)
    return {name: value for name, text in quantities.items() if (value := _needed(name, text, most))}


def parse_offered(quantities: Mapping[str, str], *, most: int = MAX_AMOUNT) -> dict[str, int]:
    """What there is, each rounded down."""
    _check_size(quantities)
    return {name: value for name, text in quantities.items() if (value := _offered(name, text, most))}


def amount(name: str, text: str) -> int:
    """One request in base units, rounded up."""
    return _needed(name, text, MAX_AMOUNT)


def add(left: Amounts, right: Amounts) -> dict[str, int]:
    return _without_zeros({name: left.get(name, 0) + right.get(name, 0) for name in {**left, **right}})


def subtract(left: Amounts, right: Amounts) -> dict[str, int]:
    """What is left; negative where *right* is more."""
    return _without_zeros({name: left.get(name, 0) - right.get(name, 0) for name in {**left, **right}})


def scale(amounts: Amounts, count: int) -> dict[str, int]:
    return {name: value * count for name, value in amounts.items() if value} if count else {}


def largest(left: Amounts, right: Amounts) -> dict[str, int]:
    """The larger of each resource."""
    return _without_zeros({name: max(left.get(name, 0), right.get(name, 0)) for name in {**left, **right}})


def fits_in(need: Amounts, free: Amounts) -> bool:
    return all(value <= 0 or value <= free.get(name, 0) for name, value in need.items())


def shortfall(need: Amounts, free: Amounts) -> dict[str, int]:
    """How much is missing of each resource that is short."""
    return {name: value - free.get(name, 0) for name, value in need.items() if value > max(0, free.get(name, 0))}


def format_amount(name: str, value: int) -> str:
    """The shortest exact Kubernetes quantity: "500m", "1Gi"."""
    if name in _CPU:
        return f"{value}m" if value % 1000 else str(value // 1000)
    return _in_binary(value) if _BYTES.fullmatch(name) else str(value)


def format_amounts(amounts: Amounts) -> dict[str, str]:
    return {name: format_amount(name, amounts[name]) for name in sorted(amounts)}


@lru_cache(maxsize=65_536)
def _needed(name: str, text: str, most: int) -> int:
    return _checked(name, _quantity(name, text).rounded_up(_nanos_each(name)), most)


@lru_cache(maxsize=65_536)
def _offered(name: str, text: str, most: int) -> int:
    return _checked(name, _quantity(name, text).rounded_down(_nanos_each(name)), most)


def _quantity(name: str, text: str) -> Quantity:
    if _NAME.fullmatch(name) is None:
        raise InvalidAmounts(f"not a resource name: {shown(name)}")
    try:
        quantity = parse(text)
    except InvalidQuantity as error:
        raise InvalidAmounts(f"{name}: {error}") from error
    if quantity.nanos < 0:
        raise InvalidAmounts(f"{name}: {shown(text)} is negative")
    return quantity


def _checked(name: str, value: int, most: int) -> int:
    if value > most:
        raise InvalidAmounts(f"{name}: more than {format_amount(name, most)}")
    return value


def _check_size(quantities: Mapping[str, str]) -> None:
    if len(quantities) > MAX_NAMES:
        raise InvalidAmounts(f"{len(quantities)} resources, at most {MAX_NAMES} are taken")


def _nanos_each(name: str) -> int:
    return NANOS_PER_MILLI if name in _CPU else NANOS_PER_UNIT


def _in_binary(value: int) -> str:
    power = 0
    while value and value % 1024 == 0 and power < len(_BINARY_SUFFIXES) - 1:
        value, power = value // 1024, power + 1
    return f"{value}{_BINARY_SUFFIXES[power]}"


def _without_zeros(amounts: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in amounts.items() if value}
