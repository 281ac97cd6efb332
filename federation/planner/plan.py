"""What goes into a planning cycle and what comes out of it: plain values. A plan is data; it may be refused at commit."""

from typing import Final

from msgspec import Struct

from federation.domain.placement import Placement
from federation.domain.records import Explanation, Verdict
from federation.domain.workload import Workload

PLANNER: Final = "1"
"""Moves with every change that may decide otherwise on the same columns; kept with each cycle."""

PLACED: Final = "placed"
PARTIAL: Final = "partial"
WAITING: Final = "waiting"

CHOSEN: Final = "chosen"
FEASIBLE: Final = "feasible"
REFUSED: Final = "refused"


class Request(Struct, frozen=True, kw_only=True):
    """A workload to decide on. *placements*: all of it that are not released, ended ones included."""

    workload: Workload
    placements: tuple[Placement, ...] = ()


class Allotment(Struct, frozen=True):
    """What a cluster is to have: *replicas* (0: the placement ends), and a rollout's *surge* on top.

    *holds*: replicas by node that are newly claimed, surge included; those under no name stand on no single node.
    """

    cluster: str
    replicas: int
    holds: dict[str, int] = {}
    surge: int = 0
    component: str = "main"


class Outcome(Struct, frozen=True, kw_only=True):
    """The decision on one workload: `placed`, `partial` (a durable remainder waits) or `waiting` (nothing changes)."""

    workload: str
    version: int
    status: str
    allotments: tuple[Allotment, ...]
    reasons: tuple[str, ...] = ()
    summary: str = ""
    explanation: str = ""
    own: tuple[Verdict, ...] = ()


class Plan(Struct, frozen=True, kw_only=True):
    """The outcomes in the order of the requests. *raised*: clusters that take more, with the decisions they had seen."""

    outcomes: tuple[Outcome, ...]
    explanations: tuple[Explanation, ...]
    raised: dict[str, int]
    seed: int
    planner: str = PLANNER
