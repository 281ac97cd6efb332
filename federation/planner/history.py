"""What a team used lately: it fades by half in each half-life, so that two with equal shares take turns."""

from collections.abc import Mapping
from math import exp2
from typing import Final

from federation.domain.quota import Pair, PairAmounts

# History is kept in millionths of a base unit, or single devices would fade to nothing at once.
MILLIONTHS: Final = 1_000_000
_FINE: Final = 2**32


def fade(sampling_seconds: float, half_life_seconds: float) -> int:
    """The part of itself that history loses in one sample, in steps of 2^-32; without a half-life it is the present."""
    if half_life_seconds <= 0:
        return _FINE
    return round((1 - exp2(-sampling_seconds / half_life_seconds)) * _FINE)


def sampled(history: Mapping[Pair, int], current: PairAmounts, lost: int) -> dict[Pair, int]:
    """History after one more sample: (1 - A) × history + A × current."""
    pairs = sorted({*history, *current})
    faded = {p: ((_FINE - lost) * history.get(p, 0) + lost * current.get(p, 0) * MILLIONTHS) // _FINE for p in pairs}
    return {pair: value for pair, value in faded.items() if value}


def admitted(history: Mapping[Pair, int], request: PairAmounts, lost: int) -> dict[Pair, int]:
    """Charged once at admission, before any sample sees it, so that a burst gains nothing."""
    pairs = sorted({*history, *request})
    return {p: history.get(p, 0) + lost * request.get(p, 0) * MILLIONTHS // _FINE for p in pairs}
