"""Events and actions as AsyncAPI 3.0, made from the types that read and write them."""

from typing import Any, Final

import msgspec

from federation.domain.cloudevents import EVENTS_TOPIC, PARKED_TOPIC
from federation.domain.events import ACTION_TYPES, EVENT_TYPES

ACTIONS_TOPIC: Final = "federation.actions"
_SCHEMA_REF: Final = "#/components/schemas/{name}"
_HEADERS: Final = {
    "ce_specversion": {"type": "string", "const": "1.0"},
    "ce_id": {"type": "string", "minLength": 1, "maxLength": 256},
    "ce_source": {"type": "string", "minLength": 1, "maxLength": 253},
    "ce_subject": {"type": "string", "maxLength": 512},
    "ce_time": {"type": "string", "format": "date-time"},
    "content-type": {"type": "string", "const": "application/json"},
}
_STAMP: Final = {
    "ce_epochuid": {"type": "string", "minLength": 1, "maxLength": 128},
    "ce_epoch": {"type": "string", "pattern": "^[0-9]{1,16}$"},
    "ce_sequence": {"type": "string", "pattern": "^[0-9]{1,16}$"},
}


def document() -> dict[str, Any]:
    """The whole document."""
    kinds = [*EVENT_TYPES.values(), *ACTION_TYPES.values()]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_SCHEMA_REF)
    messages = {_key(name): _message(name) for name in [*EVENT_TYPES, *ACTION_TYPES]}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Federation: events and actions",
            "version": "1.0.0",
            "description": "CloudEvents 1.0 in binary mode over Kafka; the key is the cluster's name.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "events": _channel(EVENTS_TOPIC, list(EVENT_TYPES), "Observations of trusted producers"),
            "clusterEvents": _channel(EVENTS_TOPIC + ".{cluster}", list(EVENT_TYPES), "Observations of one cluster"),
            "actions": _channel(ACTIONS_TOPIC + ".{cluster}", list(ACTION_TYPES), "Orders for one cluster"),
            "parked": {
                "address": PARKED_TOPIC,
                "description": "Records that could not be folded, as they came, with headers reason, partition, offset",
                "messages": {"parked": {"$ref": "#/components/messages/parked"}},
            },
        },
        "operations": {
            "observe": _operation("receive", "events"),
            "observeCluster": _operation("receive", "clusterEvents"),
            "order": _operation("send", "actions"),
            "park": _operation("send", "parked"),
        },
        "components": {"schemas": schemas, "messages": {**messages, "parked": _PARKED}},
    }


_PARKED: Final = {
    "name": "parked",
    "headers": {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("reason", "partition", "offset")},
    },
    "payload": {},
}


def _key(name: str) -> str:
    return name.replace(".", "-")


def _message(name: str) -> dict[str, Any]:
    is_event = name in EVENT_TYPES
    kind = EVENT_TYPES[name] if is_event else ACTION_TYPES[name]
    stamp = _STAMP if is_event else {}
    headers = {**_HEADERS, **stamp, "ce_type": {"type": "string", "const": name}}
    required = ["ce_specversion", "ce_id", "ce_source", "ce_type", *stamp]
    return {
        "name": name,
        "title": kind.__name__,
        "summary": (kind.__doc__ or "").strip().partition("\n")[0],
        "contentType": "application/json",
        "headers": {"type": "object", "properties": headers, "required": required},
        "payload": {"$ref": _SCHEMA_REF.format(name=kind.__name__)},
    }


def _channel(address: str, names: list[str], description: str) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": address,
        "description": description,
        "messages": {_key(name): {"$ref": f"#/components/messages/{_key(name)}"} for name in names},
    }
    if "{cluster}" in address:
        channel["parameters"] = {"cluster": {"description": "The cluster's name, a DNS label"}}
    return channel


def _operation(action: str, channel: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}
