"""Bytes to checked JSON: type and encoding, size and time, depth and numbers, and no text that a database refuses."""

import asyncio
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from federation.api.parts import MAX_BODY_BYTES
from federation.api.problems import TooLarge, TooSlow, Unsupported
from federation.domain.errors import Invalid

T = TypeVar("T")

JSON: Final = ("application/json",)
MERGE_PATCH: Final = ("application/json", "application/merge-patch+json")
_CHUNK: Final = 2**16
_DEPTH: Final = 64
_MOST: Final = 2**63 - 1
_OPAQUE: Final = "manifest"


async def read_bytes(request: web.Request, most: int, seconds: float) -> bytes:
    """The body, if it is plain, not beyond *most* bytes, and here within *seconds*."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Unsupported("a compressed body is not taken")
    if (request.content_length or 0) > most:
        raise TooLarge(f"the body is longer than {most} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > most:
                    raise TooLarge(f"the body is longer than {most} bytes")
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {seconds:g} s") from None
    return bytes(body)


async def read_json(
    request: web.Request, seconds: float, types: tuple[str, ...] = JSON
) -> tuple[bytes, dict[str, Any]]:
    """The body as it came, and as a checked JSON object."""
    if request.content_type not in types:
        raise Unsupported(f"the content type is {' or '.join(types)}")
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise Unsupported("JSON is UTF-8")
    body = await read_bytes(request, MAX_BODY_BYTES, seconds)
    return body, parse_object(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """*body* as a JSON object, its values within bounds."""
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise Invalid("the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise Invalid("the body is not UTF-8") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Invalid("a JSON object is expected")
    check_values(value)
    return value


def convert(value: dict[str, Any], kind: type[T]) -> T:
    """*value* as *kind*, strictly: nothing is coerced, an unknown field is refused."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise Invalid(message, _pointer(path.rstrip("`"))) from None


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396: *target* with what *patch* says, nulls removing."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def check_values(value: dict[str, Any]) -> None:
    """Bound what types do not: depth, whole numbers, and text (only a manifest's values may hold line breaks)."""
    pending: list[tuple[Any, int, bool]] = [(value, 1, False)]
    while pending:
        item, depth, opaque = pending.pop()
        if isinstance(item, str):
            _check_text(item, opaque)
        elif isinstance(item, int):
            if not -_MOST <= item <= _MOST:
                raise Invalid("a number is beyond 64 bits")
        elif isinstance(item, dict | list):
            if depth > _DEPTH:
                raise Invalid(f"the JSON is nested more than {_DEPTH} deep")
            pending += _children(item, depth, opaque)


def _children(item: dict[str, Any] | list[Any], depth: int, opaque: bool) -> list[tuple[Any, int, bool]]:
    if isinstance(item, list):
        return [(value, depth + 1, opaque) for value in item]
    for name in item:
        _check_text(name, opaque)
    return [(value, depth + 1, opaque or (depth == 1 and name == _OPAQUE)) for name, value in item.items()]


def _check_text(text: str, opaque: bool) -> None:
    if "\0" in text:
        raise Invalid("the text holds a NUL character")
    if not opaque and not text.isprintable():
        raise Invalid("the text holds a control character")


def _pointer(path: str) -> str:
    return path.replace("[...]", "").replace("[", "/").replace("]", "").replace(".", "/")
