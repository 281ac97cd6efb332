"""The bars by their names in the specification, each with the function that measures it."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Bar:
    """`benchmarks.<module>.<function>`; *unit* is that of its line."""

    module: str
    function: str
    unit: str


BARS: Final = {
    "ingest.sqlite": Bar("ingest", "sqlite", "events/s"),
    "ingest.postgresql": Bar("ingest", "postgresql", "events/s"),
    "freshness": Bar("freshness", "freshness", "ms p99"),
    "decide": Bar("decide", "decide", "ms p99"),
    "plan.one": Bar("plan", "one", "decisions/s"),
    "plan.hundred": Bar("plan", "hundred", "decisions/s"),
    "plan.wide": Bar("plan", "wide", "decisions/s"),
    "schedule.postgresql": Bar("schedule", "postgresql", "workloads/s"),
    "loop": Bar("loop", "loop", "ms p99"),
    "cold": Bar("cold", "cold", "s"),
    "memory": Bar("memory", "memory", "GiB"),
    "rest.get": Bar("rest", "get", "answers/s"),
    "fleet": Bar("fleet", "fleet", "ms p99"),
}
