"""The references `docs/events.md` and `docs/rest.md`, made from the published AsyncAPI and OpenAPI documents.

`python -m docs.generate` writes them; a test asserts that what is in the tree is what comes out.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from federation.api import asyncapi, openapi

FOLDER: Final = Path(__file__).parent
MADE: Final = "<!-- Made by `python -m docs.generate` from the types. Change those, not this. -->"
LONGEST_DEFAULT: Final = 60
Schema = Mapping[str, Any]

_EVENTS: Final = """# Events and actions

What agents tell and what they are told, as CloudEvents 1.0 in binary mode. The machine-readable form is served at
`/asyncapi.json` (AsyncAPI 3).

- **Key** of every record: the name of the cluster.
- **Headers**: `ce_specversion` (`1.0`), `ce_id` (unique), `ce_source` (`/clusters/east/agent`, or `/hub` for actions),
  `ce_type`, `ce_subject` (`nodes/n-017`), `ce_time`, and `content-type: application/json`. Events bear three more:
  `ce_epochuid` and `ce_epoch` (uid of the agent's Lease and its transitions) and `ce_sequence` (counts from 1 in each
  epoch, whatever the type).
- **Topics**: `federation.events` for trusted producers; `federation.events.<cluster>` and `federation.actions.<cluster>`
  where each cluster has a principal of its own. An event that names another cluster than its topic does is parked.
  What could not be folded goes to `federation.events.parked` as it came, with headers `reason`, `partition`, `offset`.
- **Values**: names are camelCase, quantities Kubernetes strings (`500m`, `1Gi`), every number is bounded. An unknown
  field is ignored.

An event is a whole observation: to apply it twice, or late, changes nothing. An action is an order for a whole desired
state, numbered for each cluster (`order`, in a `generation`), delivered at least once, with one effect.
"""

_REST: Final = """# REST

All paths with their bodies and answers. The machine-readable form is served at `/openapi.json` (OpenAPI 3.1).

- **Who**: a bearer token with the claims `sub`, `role` and `team` (see [Operating](operating.md)); without an issuer only
  this machine is served. What belongs to another team is not found.
- **Refusals** are problems as RFC 9457 has them, `application/problem+json`, with `type` `urn:federation:problem:<slug>`
  and a JSON `pointer` to the field to blame, where there is one.
- **Bodies**: an unknown field is refused, nothing is coerced.
- **Lists**: `{"items": [...], "next": cursor or null}`; give the cursor as `after` for the next page.
- **Versions**: answers bear an `ETag`; with `If-Match` a change is made only at that version. The same request again under
  the same `Idempotency-Key`, within a day, has one effect.
- **Patience**: with `Prefer: wait=10` the answer waits until it is decided, or for so many seconds.

`{id}` is the id or the name of a workload.
"""


def events() -> str:
    """The page of events and actions."""
    document = asyncapi.document()
    schemas, messages = document["components"]["schemas"], document["components"]["messages"]
    lines = [MADE, "", _EVENTS]
    for title, channel in (("Events", "events"), ("Actions", "actions")):
        lines += [f"## {title}", ""]
        for key in document["channels"][channel]["messages"]:
            message = messages[key]
            lines += _section(schemas[message["title"]], f"### `{message['name']}`")
    named = {message["title"] for message in messages.values() if "title" in message}
    return _page([*lines, "## Parts", "", *_parts(schemas, named)])


def rest() -> str:
    """The page of the REST API."""
    document = openapi.document()
    lines = [MADE, "", _REST]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += [f"## `{method.upper()} {path}`", "", *_operation(operation)]
    return _page([*lines, "## Types", "", *_parts(document["components"]["schemas"], set())])


def _operation(operation: Mapping[str, Any]) -> Iterable[str]:
    who = operation.get("description", "For anybody.")
    yield f"{operation['summary']}. {who}"
    yield ""
    for parameter in operation["parameters"]:
        yield f"- {parameter['in']} `{parameter['name']}`: {parameter['description']}"
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]
        kinds = sorted({_kind(each["schema"]) for each in content.values()})
        yield f"- body: {', '.join(kinds)} as {', '.join(f'`{kind}`' for kind in content)}"
    for status, answer in operation["responses"].items():
        if status != "default":
            yield f"- {status}: {_answer(answer)}"
    yield ""


def _answer(answer: Mapping[str, Any]) -> str:
    schemas = [each["schema"] for each in answer.get("content", {}).values() if "schema" in each]
    return _kind(schemas[0]) if schemas else ", ".join(f"`{kind}`" for kind in answer.get("content", ())) or "no body"


def _parts(schemas: Mapping[str, Schema], but: set[str]) -> Iterable[str]:
    for name in sorted(schemas.keys() - but):
        yield from _section(schemas[name], f"### {name}")


def _section(schema: Schema, heading: str) -> Iterable[str]:
    yield from (heading, "", *_described(schema))
    if "enum" in schema:
        yield from (" · ".join(f"`{value}`" for value in schema["enum"]), "")
    fields = schema.get("properties", {})
    if fields:
        yield from ("| field | type | default |", "|---|---|---|")
    for name, field in fields.items():
        default = "required" if name in schema.get("required", ()) else _default(field)
        note = f"; {field['description']}" if "description" in field else ""
        yield f"| `{name}` | {_kind(field)}{note} | {default} |"
    yield ""


def _described(schema: Schema) -> Iterable[str]:
    text = schema.get("description", "")
    if text:
        paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
        yield from ("\n\n".join(paragraphs), "")


def _default(field: Schema) -> str:
    if "default" not in field:
        return ""
    text = json.dumps(field["default"])
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else "all of its defaults"


def _kind(schema: Schema) -> str:
    """The schema in a few words: its type with its bounds."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_most(schema, 'maxItems')}{_kind(schema['items'])}" if "items" in schema else "list"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        inner = schema["additionalProperties"]
        return f"map of {_most(schema, 'maxProperties')}{_kind(inner)}" if inner else "object"
    kinds = schema.get("type", "any value")
    return (" or ".join(kinds) if isinstance(kinds, list) else kinds) + _bounds(schema)


def _most(schema: Schema, bound: str) -> str:
    return f"up to {schema[bound]:,} × " if bound in schema else ""


def _bounds(schema: Schema) -> str:
    if "pattern" in schema:
        escaped = schema["pattern"].replace("|", "\\|")
        return f" like `{escaped}`"
    if "minimum" in schema and "maximum" in schema:
        return f" {schema['minimum']:,} to {schema['maximum']:,}"
    if "maxLength" in schema:
        return f" of {schema.get('minLength', 0)} to {schema['maxLength']:,} characters"
    return f" ({schema['format']})" if "format" in schema else ""


def _page(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


PAGES: Final = {"events.md": events, "rest.md": rest}


def main() -> None:
    """Write both pages."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
