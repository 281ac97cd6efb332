"""What an API server's answers mean: bodies read within bounds, and problems told apart by what the caller can do."""

from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from federation.domain.errors import Conflict, FederationError, Invalid, NotFound, Unavailable

MOST_SHOWN: Final = 1024
_TERMINATING: Final = "NamespaceTerminating"
_DISRUPTION: Final = "DisruptionBudget"
# Server-side apply answers 500 to fields and values that its schema does not know; no later try can succeed.
_OUTSIDE_SCHEMA: Final = "failed to create typed patch object"
_FROM_THE_FUTURE: Final = "ResourceVersionTooLarge"


class Expired(Unavailable):
    """The resourceVersion or continue token is too old, or of a time that the server has forgotten: list again."""


class Busy(Unavailable):
    """The server asks to come again after *retry_after* seconds; *put_off* says that it surely did nothing."""

    def __init__(self, message: str, retry_after: float, *, put_off: bool) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.put_off = put_off


class TooLarge(Unavailable):
    """The answer is longer than what is read of one."""


class Unauthenticated(Unavailable):
    """The credentials are no longer taken; new ones may be."""


class Denied(Invalid):
    """The server forbids it: by its RBAC, a quota or an admission plugin."""


class Disrupted(Conflict):
    """A disruption budget forbids the eviction now."""


class Cause(Struct, frozen=True):
    """One entry of a Status' details."""

    reason: str | None = None


class Details(Struct, frozen=True, rename="camel"):
    """What a Status says beside its message."""

    causes: list[Cause] | None = None
    retry_after_seconds: float | None = None


class Status(Struct, frozen=True):
    """Kubernetes' own word for how a request went."""

    kind: str = ""
    status: str | None = None
    message: str | None = None
    reason: str | None = None
    code: int | None = None
    details: Details | None = None

    def caused_by(self, reason: str) -> bool:
        """Whether one of the causes has this reason."""
        causes = self.details.causes if self.details is not None else None
        return any(cause.reason == reason for cause in causes or ())


class Body(Protocol):
    """As much of an HTTP answer as is read here."""

    content: Any


_STATUS: Final = msgspec.json.Decoder(Status)


async def read_bounded(response: Body, most_bytes: int) -> bytes:
    """The whole body; TooLarge when it is longer."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > most_bytes:
            raise TooLarge(f"the API server's answer is longer than {most_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def status_of(body: bytes) -> Status:
    """The Status in *body*; what is no Status gives an empty one."""
    try:
        return _STATUS.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return Status()


def problem(code: int, body: bytes, retry_after: str | None = None) -> FederationError:
    """The error that an answer of *code* stands for."""
    status = status_of(body)
    message = _message(code, status)
    if code == 500 and (status.message or "").startswith(_OUTSIDE_SCHEMA):
        return Invalid(message)
    if code in (401, 408, 410, 429) or code >= 500:
        return _passing(code, message, _seconds(retry_after, status), status)
    if status.caused_by(_TERMINATING):
        return Unavailable(message)
    kinds: dict[int, type[FederationError]] = {403: Denied, 404: NotFound, 409: Conflict}
    return kinds.get(code, Invalid)(message)


def _passing(code: int, message: str, retry_after: float, status: Status) -> FederationError:
    if code == 401:
        return Unauthenticated(message)
    if code == 410 or status.caused_by(_FROM_THE_FUTURE):
        return Expired(message)
    if code == 429 and status.caused_by(_DISRUPTION):
        return Disrupted(message)
    return Busy(message, retry_after, put_off=code == 429) if code in (429, 503) else Unavailable(message)


def stream_problem(raw: bytes) -> FederationError:
    """The error that an ERROR event of a watch stands for."""
    status = status_of(raw)
    if status.reason in ("Expired", "Gone"):
        return Expired(_message(410, status))
    return problem(status.code or 500, raw)


def failure_in(body: bytes) -> FederationError | None:
    """The error in a success that is none: a Status with Failure."""
    status = status_of(body)
    if status.kind == "Status" and status.status == "Failure":
        return Unavailable(f"the API server answered a success with a failure: {_message(status.code or 0, status)}")
    return None


def _message(code: int, status: Status) -> str:
    text = status.message or status.reason or "no reason given"
    return f"{text[:MOST_SHOWN]} ({code})"


def _seconds(header: str | None, status: Status) -> float:
    """The wait that is asked for, in whole seconds as Kubernetes writes it; 0 where it is none."""
    told = status.details.retry_after_seconds if status.details is not None else None
    if header and header.isascii() and header.isdigit() and len(header) < 9:
        return float(header)
    return max(0.0, told or 0.0)
