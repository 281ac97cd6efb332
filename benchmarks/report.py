"""What a benchmark says, and the arithmetic that all share."""

import statistics
import time
from collections.abc import Callable, Sequence

import msgspec


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of standard output. *ratio* is how *value* stands to *yardstick*, which has the same unit."""

    name: str
    value: float | None
    unit: str
    yardstick: float | None = None
    ratio: float | None = None
    conditions: str

    def encoded(self) -> str:
        return msgspec.json.encode(self).decode()


def rate(name: str, unit: str, ours: Sequence[float], theirs: Sequence[float], conditions: str) -> Line:
    """Rates of alternating rounds: the medians, and the median of the ratios of neighbours."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return Line(
        name=name,
        value=rounded(statistics.median(ours)),
        unit=unit,
        yardstick=rounded(statistics.median(theirs)),
        ratio=rounded(statistics.median(ratios)),
        conditions=conditions,
    )


def absent(name: str, unit: str, why: str) -> Line:
    """The line of a benchmark that could not run here."""
    return Line(name=name, value=None, unit=unit, conditions=f"unavailable: {why}")


def rounded(value: float) -> float:
    """Three digits say as much as a noisy machine can."""
    return float(f"{value:.3g}") if value < 1000 else float(round(value))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of *values* that at least *share* of them do not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def cpu_seconds(work: Callable[[], object]) -> float:
    """Time on the processor that *work* takes: what else the machine does meanwhile counts for nothing."""
    began = time.thread_time()
    work()
    return time.thread_time() - began
