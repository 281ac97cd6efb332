"""Who asks: the caller's role and scope, what a refusal is called, and the rows of the audit."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from federation.domain.errors import Conflict, FederationError
from federation.domain.records import Audit
from federation.ports import Clock, Ids, Store


class Role(StrEnum):
    """What a caller may do. An agent speaks for one cluster and does nothing else."""

    VIEWER = "viewer"
    MEMBER = "member"
    OPERATOR = "operator"
    AGENT = "agent"


class Forbidden(FederationError):
    """The caller is known and may not do this."""


class PreconditionFailed(Conflict):
    """The caller's condition on the version does not hold."""


class KeyReused(Conflict):
    """An idempotency key came again with another body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """*team* None sees all teams; *cluster* is set for agents; *expires_ms* 0 does not expire."""

    who: str
    role: Role
    team: str | None = None
    cluster: str | None = None
    expires_ms: int = 0

    def sees(self, team: str) -> bool:
        """Whether what belongs to *team* exists for this caller."""
        return self.team is None or self.team == team


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the use cases of callers need of the world."""

    store: Store
    clock: Clock
    ids: Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is written down of something done: a verb, its target, and the two states."""

    what: str
    target: str
    outcome: str = "done"
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


def audited(caller: Caller, act: Act, now_ms: int) -> Audit:
    """The audit row of *act*."""
    return Audit(
        at_ms=now_ms,
        who=caller.who,
        what=act.what,
        target=act.target,
        outcome=act.outcome,
        before=None if act.before is None else dict(act.before),
        after=None if act.after is None else dict(act.after),
    )


async def record_refusal(ports: Ports, caller: Caller, act: Act) -> None:
    """Write down that *caller* was refused; in a transaction of its own, since the one refused was rolled back."""
    async with ports.store.transaction() as tx:
        await tx.audit(audited(caller, act, ports.clock.now_ms()))
