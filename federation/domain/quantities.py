"""Kubernetes quantities ("500m", "1.5Gi", "2e3"), read exactly: every value is a whole number of nanos.

Reads what Kubernetes reads and rounds as it does (what is finer than a nano goes away from zero; a binary suffix stops at
2^63-1). Narrower on purpose: a number needs a digit, and length and exponent are bounded before any arithmetic.
"""

import re
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import lru_cache
from typing import Final, Literal

Format = Literal["DecimalSI", "BinarySI", "DecimalExponent"]

MAX_LENGTH: Final = 64
MAX_EXPONENT: Final = 100
NANOS_PER_UNIT: Final = 10**9
NANOS_PER_MILLI: Final = 10**6

_GRAMMAR: Final = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]*))?"
    r"(?:(?P<binary>[KMGTPE]i)|[eE](?P<exponent>[+-]?[0-9]+)|(?P<decimal>[numkMGTPE]?))"
)
_DECIMAL_POWER: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_SHIFT: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BINARY_CEILING_NANOS: Final = (2**63 - 1) * NANOS_PER_UNIT
_WIDE: Final = Context(prec=MAX_LENGTH + MAX_EXPONENT + 32)


class InvalidQuantity(ValueError):
    """The text is not a quantity; the message shows it escaped and cut short."""


@dataclass(frozen=True, slots=True)
class Quantity:
    nanos: int
    format: Format

    @property
    def value(self) -> str:
        """The decimal value without trailing zeros: "1.5", "8E+3"."""
        return str(Decimal(self.nanos).scaleb(-9, _WIDE).normalize(_WIDE)) if self.nanos else "0"

    def rounded_up(self, nanos_each: int) -> int:
        return -(-self.nanos // nanos_each)

    def rounded_down(self, nanos_each: int) -> int:
        return self.nanos // nanos_each


@lru_cache(maxsize=65_536)
def parse(text: str) -> Quantity:
    found = _GRAMMAR.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if found is None or not (found["whole"] or found["part"]):
        raise InvalidQuantity(f"not a quantity: {shown(text)}")
    digits, places = int((found["whole"] or "") + (found["part"] or "")), len(found["part"] or "")
    if found["binary"]:
        nanos, form = _binary(digits, places, _BINARY_SHIFT[found["binary"]])
    else:
        power, form = _decimal_power(found)
        nanos = _scaled_up(digits, power - places + 9)
    return Quantity(-nanos if found["sign"] == "-" else nanos, form)


def millis(text: str) -> int:
    """Thousandths, rounded up."""
    return parse(text).rounded_up(NANOS_PER_MILLI)


def units(text: str) -> int:
    """Whole units, rounded up."""
    return parse(text).rounded_up(NANOS_PER_UNIT)


def shown(text: str) -> str:
    """*text* as it may stand in a message or a log line: escaped, and no longer than a line bears."""
    return ascii(text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + "...")


def _decimal_power(found: re.Match[str]) -> tuple[int, Format]:
    if found["exponent"] is None:
        return _DECIMAL_POWER[found["decimal"]], "DecimalSI"
    power = int(found["exponent"])
    if abs(power) > MAX_EXPONENT:
        raise InvalidQuantity(f"exponent beyond {MAX_EXPONENT}: {shown(found.string)}")
    return power, "DecimalExponent"


def _binary(digits: int, places: int, shift: int) -> tuple[int, Format]:
    nanos = min(_scaled_up(digits << shift, 9 - places), _BINARY_CEILING_NANOS)
    # A fraction of one cannot be written with a binary suffix.
    return nanos, "DecimalSI" if 0 < nanos < NANOS_PER_UNIT else "BinarySI"


def _scaled_up(digits: int, power: int) -> int:
    factor: int = 10 ** abs(power)
    return digits * factor if power >= 0 else -(-digits // factor)
