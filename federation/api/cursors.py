"""Pages: bounded limits, and cursors that are opaque and good only for the list that they were made for."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Struct

from federation.domain.errors import Invalid

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
_LONGEST: Final = 1024
Scope = tuple[str | None, ...]


class _Cursor(Struct, frozen=True, array_like=True):
    after: str
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """At most *limit* items after *after*."""

    limit: int
    after: str
    scope: Scope

    @classmethod
    def read(cls, limit: str | None, after: str | None, scope: Scope) -> "Page":
        """The page that the query parameters ask for."""
        return cls(limit=_limit(limit), after="" if after is None else _after(after, scope), scope=scope)

    def next(self, last: str) -> str | None:
        """The cursor after *last*; None when *last* is empty."""
        if not last:
            return None
        return urlsafe_b64encode(msgspec.json.encode(_Cursor(last, _digest(self.scope)))).decode().rstrip("=")


def listed(items: list[Any], following: str | None) -> dict[str, Any]:
    """A page as it stands on the wire."""
    return {"items": items, "next": following}


def _limit(given: str | None) -> int:
    if given is None:
        return DEFAULT_LIMIT
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= MAX_LIMIT):
        raise Invalid(f"limit is a number from 1 to {MAX_LIMIT}")
    return int(given)


def _after(given: str, scope: Scope) -> str:
    if len(given) > _LONGEST or not given.isascii():
        raise Invalid("after is not a cursor of this list")
    try:
        raw = urlsafe_b64decode(given + "=" * (-len(given) % 4))
        cursor = msgspec.json.decode(raw, type=_Cursor)
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("after is not a cursor of this list") from None
    if cursor.scope != _digest(scope) or not cursor.after.isprintable():
        raise Invalid("after is not a cursor of this list")
    return cursor.after


def _digest(scope: Scope) -> str:
    return blake2b(msgspec.json.encode(scope), digest_size=6).hexdigest()
