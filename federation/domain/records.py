"""Rows that are kept: positions, parked events, decisions with their explanations, orders in the outbox, audit."""

from typing import Any

from msgspec import Struct

from federation.domain.workload import WorkloadSpec


class Partition(Struct, frozen=True, gc=False):
    """A source of the log: the next offset to read (-1: no row yet), and when its consumer last stood at its end.

    *resets* counts how often the position went back, as it does where a topic was made anew.
    """

    source: str
    position: int = -1
    caught_up_ms: int = 0
    resets: int = 0


class Parked(Struct, frozen=True, kw_only=True, gc=False):
    """A record that could not be folded, as it came, with the reason."""

    source: str
    offset: int
    at_ms: int
    reason: str
    key: str
    headers: tuple[tuple[str, bytes], ...]
    value: bytes


class Orders(Struct, frozen=True, gc=False):
    """What an agent has stored: the generation of the hub that it obeys, and the last order carried out."""

    generation: int = 0
    done: int = 0


class OutboxRow(Struct, frozen=True, kw_only=True, gc=False):
    """An order on its way. *number* is 0 until dispatch; *waits_for* names a precondition (a loan); *doc* is the body.

    *type* is the CloudEvents type; *doc* lacks `order` and `generation`, which dispatch adds.
    """

    id: int = 0
    cluster: str
    placement: str = ""
    version: int = 0
    type: str
    doc: dict[str, Any]
    waits_for: str = ""
    number: int = 0
    generation: int = 0
    decision: str = ""
    created_ms: int = 0
    sent_ms: int = 0


class Cycle(Struct, frozen=True, kw_only=True, gc=False):
    """What a planning cycle was based on: enough to compute its decisions again (section 5)."""

    id: str
    at_ms: int
    seed: int
    planner: str
    offsets: dict[str, int]
    revisions: dict[str, int]


class Verdict(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """What a decision says of one cluster. *verdict*: chosen, feasible, refused."""

    cluster: str
    verdict: str
    reason: str = ""
    wanted: int = 0
    fits: int = 0
    previous: int = 0
    score: int = 0
    age_seconds: float = 0.0


class Explanation(Struct, frozen=True, kw_only=True, gc=False):
    """Shared by the decisions of one (cycle, shape, constraints): what holds for each cluster before dividing."""

    id: str
    cycle: str
    at_ms: int
    verdicts: tuple[Verdict, ...]


class Decision(Struct, frozen=True, kw_only=True, gc=False):
    """One decision: its own differences from the shared explanation, and the summary that a person reads first.

    *spec* is what was decided on, without the manifest: with the columns of the explanation it is enough to decide
    again.
    """

    id: str
    workload: str
    cycle: str
    explanation: str
    at_ms: int
    version: int
    total: int
    spec: WorkloadSpec
    outcome: str
    placed: dict[str, int]
    previous: dict[str, int]
    own: tuple[Verdict, ...] = ()
    reasons: tuple[str, ...] = ()
    summary: str = ""


class Idempotent(Struct, frozen=True, kw_only=True, gc=False):
    """An answer that was given under an idempotency key, and the hash of the body that it answered."""

    team: str
    key: str
    body: str
    status: int
    answer: bytes
    at_ms: int


class Audit(Struct, frozen=True, kw_only=True, gc=False):
    """Who did what, when, from where to where; refusals too."""

    at_ms: int
    who: str
    what: str
    target: str
    outcome: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class Committed(Struct, frozen=True, gc=False):
    """Counters of a store's own connection pool."""

    transactions: int = 0
    in_use: int = 0
