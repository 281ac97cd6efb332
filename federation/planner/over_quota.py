"""Division over quota: what is deserved first, then level after level of priority by weight, in whole units.

A queue that used more lately than its weight says weighs less, as far as the caller lets history count.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

Number = Fraction | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """*deserved* and *most* of None are unlimited; *used* lately, as a part of all there is."""

    name: str
    request: Number
    deserved: Number | None = 0
    most: Number | None = None
    weight: Number = 1
    priority: int = 0
    used: Number = 0

    @property
    def wanted(self) -> Number:
        return self.request if self.most is None else min(self.request, self.most)


def fair_shares(total: Number, queues: Iterable[Queue], history: Number = 0) -> dict[str, Number]:
    ordered = sorted(queues, key=lambda queue: (-queue.priority, queue.name))
    shares: dict[str, Number] = {q.name: min(total if q.deserved is None else q.deserved, q.wanted) for q in ordered}
    left: Number = max(0, total - sum(shares.values()))
    for priority in dict.fromkeys(queue.priority for queue in ordered):
        left = _divide([q for q in ordered if q.priority == priority], left, shares, history)
    return shares


def _divide(level: Sequence[Queue], left: Number, shares: dict[str, Number], history: Number) -> Number:
    """Rounds, as long as someone wants less than its part; then single units by the largest rest. Returns what is left."""
    rests: dict[str, Number] = {}
    another_round = True
    while another_round and left:
        missing = {q.name: q.wanted - shares[q.name] for q in level}
        parts = _parts([q for q in level if missing[q.name] > 0], left, history)
        given = {name: missing[name] if missing[name] <= part else floor(part) for name, part in parts.items()}
        rests = {name: part - given[name] for name, part in parts.items() if missing[name] > part}
        another_round = any(missing[name] < part for name, part in parts.items())
        for name, amount in given.items():
            shares[name] += amount
        left -= sum(given.values())
    for name in sorted(rests, key=lambda name: (-rests[name], name)):
        unit: Number = min(1, left) if rests[name] else 0
        shares[name] += unit
        left -= unit
    return left


def _parts(level: Sequence[Queue], left: Number, history: Number) -> Mapping[str, Fraction]:
    total = sum(queue.weight for queue in level)
    if not total:
        return {}
    weights = {q.name: Fraction(q.weight) / total for q in level}
    corrected = {q.name: max(Fraction(0), weights[q.name] + history * (weights[q.name] - q.used)) for q in level}
    whole = sum(corrected.values())
    return {name: left * weight / whole for name, weight in corrected.items() if weight}
