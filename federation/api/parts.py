"""What the API is made of: the ports and callables that the composition root hands over, and its settings."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from msgspec import Struct

from federation.domain.records import Decision, Explanation, Verdict
from federation.domain.workload import WorkloadSpec
from federation.ports import Clock, EventLog, Ids, Store
from federation.services.callers import Ports

MAX_BODY_BYTES: Final = 2**20
MAX_WAIT_SECONDS: Final = 60
DEFAULT_WAIT_SECONDS: Final = 10

Probe = Callable[[], Awaitable[str]]
"""Whether a part works: an empty string, or what is wrong with it."""


class Foreseen(Struct, frozen=True, kw_only=True):
    """What would be decided now. *outcome*: placed, partial or waiting."""

    outcome: str
    placed: Mapping[str, int]
    reasons: tuple[str, ...] = ()
    summary: str = ""
    verdicts: tuple[Verdict, ...] = ()


class DryRun(Protocol):
    """Plans a workload without writing anything."""

    async def __call__(self, spec: WorkloadSpec, team: str) -> Foreseen: ...


class Replayer(Protocol):
    """Computes a decision again from what it was based on; raises Conflict where that is no longer kept."""

    async def __call__(self, decision: Decision, explanation: Explanation) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Whose tokens are taken. *jwks* is a file's path, or an https address (http only on loopback)."""

    issuer: str
    audience: str
    jwks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Without *auth* only loopback is served, as an operator of all teams."""

    auth: AuthSettings | None = None
    silent_after_seconds: float = 30.0
    cache_seconds: float = 0.1
    body_seconds: float = 10.0
    append_seconds: float = 15.0
    heartbeat_seconds: float = 15.0
    write_seconds: float = 10.0
    most_streams: int = 1000
    ring_events: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """The API's surroundings. *health* is asked for readiness."""

    store: Store
    log: EventLog
    clock: Clock
    ids: Ids
    planner: DryRun
    replayer: Replayer
    settings: ApiSettings = field(default_factory=ApiSettings)
    health: Mapping[str, Probe] = field(default_factory=dict)

    @property
    def ports(self) -> Ports:
        """What the use cases need."""
        return Ports(store=self.store, clock=self.clock, ids=self.ids)
