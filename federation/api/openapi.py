"""The API as OpenAPI 3.1, made from the table of routes and the types on the wire."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import msgspec

from federation.api.cursors import DEFAULT_LIMIT, MAX_LIMIT
from federation.api.parts import DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS
from federation.api.problems import CONTENT_TYPE, Problem
from federation.api.routes import ROUTES, Route
from federation.domain.workload import DNS_LABEL, WorkloadPhase

_REF: Final = "#/components/schemas/{name}"
_LABEL: Final = {"type": "string", "pattern": DNS_LABEL, "maxLength": 63}
_QUERY: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "limit": ("Items of a page", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
    "after": ("The cursor that the page before gave as `next`", {"type": "string", "maxLength": 1024}),
    "dryRun": ("Plan only, as POST /v1/plans does", {"type": "boolean", "default": False}),
    "team": ("Workloads of this team", _LABEL),
    "name": ("Workloads of this name", _LABEL),
    "phase": ("Workloads in this phase", {"type": "string", "enum": [str(phase) for phase in WorkloadPhase]}),
}
_WAIT: Final = (
    f"`wait=N`: answer once it is decided, after N seconds at most ({DEFAULT_WAIT_SECONDS} of {MAX_WAIT_SECONDS})"
)
_HEADERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "Prefer": (_WAIT, {"type": "string", "examples": ["wait=10"]}),
    "If-Match": ("Only at this version; the entity tag of an answer", {"type": "string"}),
    "If-None-Match": ("Only if it changed since", {"type": "string"}),
    "Idempotency-Key": (
        "The same request again under this key, within a day, has one effect",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
    ),
    "Last-Event-ID": ("Go on after this event", {"type": "string", "maxLength": 64}),
}
_PATH: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "id": ("A ULID; for workloads also a name", {"type": "string", "minLength": 1, "maxLength": 63}),
    "name": ("A cluster", _LABEL),
}


@cache
def encoded() -> bytes:
    """The document as it is published."""
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """The whole document."""
    kinds = sorted(_kinds(), key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components([*kinds, Problem], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Federation",
            "version": "1.0.0",
            "description": "Many Kubernetes clusters as one pool. Refusals are problems as RFC 9457 has them, "
            "with `type` urn:federation:problem:<slug>.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _kinds() -> set[type]:
    kinds = {kind for route in ROUTES for kind in (*route.answers.values(), route.body)}
    return {kind for kind in kinds if isinstance(kind, type)}


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": list(_parameters(route)),
        "responses": {
            **{str(status): _answer(kind) for status, kind in sorted(route.answers.items())},
            "default": {"description": "A problem", "content": {CONTENT_TYPE: {"schema": _reference(Problem)}}},
        },
        "security": [{"bearer": []}] if route.roles else [],
    }
    if route.roles:
        operation["description"] = f"For {', '.join(sorted(route.roles))}."
    if route.body is not None:
        content = {kind: {"schema": _reference(route.body)} for kind in route.types}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(route: Route) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", route.path):
        yield {**_parameter(name, "path", _PATH[name]), "required": True}
    for name in route.query:
        yield _parameter(name, "query", _QUERY[name])
    for name in route.headers:
        yield _parameter(name, "header", _HEADERS[name])


def _parameter(name: str, place: str, about: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "in": place, "description": about[0], "schema": about[1]}


def _answer(kind: Any) -> dict[str, Any]:
    if kind is None:
        return {"description": "Nothing more to say"}
    if isinstance(kind, str):
        return {"description": kind, "content": {kind: {}}}
    described = {"application/json": {"schema": _reference(kind)}}
    return {"description": (kind.__doc__ or kind.__name__).strip().partition("\n")[0], "content": described}


def _reference(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {"$ref": _REF.format(name=kind.__name__)}
    return {"type": ["object", "array"]}
