"""CloudEvents 1.0 as our records carry them: attributes in headers, the typed body as JSON; and the forms over HTTP.

Everything that arrives is untrusted. Each function answers with a whole value or raises `Invalid` with a short
reason that is safe to log: it never repeats what was sent, except a type's own field names.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, cast
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Struct

from federation.domain.errors import Invalid
from federation.domain.events import ACTION_TYPES, EVENT_TYPES, Action, Envelope, Event, Serial, Stamp

MAX_BODY_BYTES: Final = 2**20
MAX_BATCH_BYTES: Final = 8 * 2**20
MAX_BATCH_EVENTS: Final = 1000
MAX_SERIAL: Final = 2**53
HUB_SOURCE: Final = "/hub"
EVENTS_TOPIC: Final = "federation.events"
PARKED_NAME: Final = "parked"
PARKED_TOPIC: Final = f"{EVENTS_TOPIC}.{PARKED_NAME}"
CONTENT_TYPE: Final = b"application/json"

BOUNDS: Final[Mapping[str, int]] = {
    "ce_id": 256,
    "ce_source": 253,
    "ce_type": 128,
    "ce_subject": 512,
    "ce_time": 64,
    "ce_epochuid": 128,
}

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_JSON_TYPE = re.compile(rb"""application/json\s*(?:;\s*charset\s*=\s*"?utf-?8"?\s*)?""", re.IGNORECASE)
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_IDENTITIES: Final = ("node", "placement", "resync", "namespace", "name", "workload", "team", "revision")
_encoder = msgspec.json.Encoder()
_decoders: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    name: msgspec.json.Decoder(kind) for name, kind in {**EVENT_TYPES, **ACTION_TYPES}.items()
}
_identities: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(field for field in _IDENTITIES if field in kind.__struct_fields__)
    for name, kind in {**EVENT_TYPES, **ACTION_TYPES}.items()
}


# --- the envelope ----------------------------------------------------------------------------------------------------


def encode_headers(envelope: Envelope) -> tuple[tuple[str, bytes], ...]:
    """The headers of a record in binary mode; what is empty is left out."""
    pairs = [
        ("ce_specversion", b"1.0"),
        ("ce_id", envelope.id.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_type", envelope.type.encode()),
    ]
    if envelope.subject:
        pairs.append(("ce_subject", envelope.subject.encode()))
    if envelope.time:
        pairs.append(("ce_time", envelope.time.encode()))
    if envelope.stamp is not None:
        pairs.append(("ce_epochuid", envelope.stamp.epoch_uid.encode()))
        pairs.append(("ce_epoch", b"%d" % envelope.stamp.epoch))
        pairs.append(("ce_sequence", b"%d" % envelope.stamp.sequence))
    pairs.append(("content-type", CONTENT_TYPE))
    return tuple(pairs)


def decode_record(key: str, headers: Sequence[tuple[str, bytes]]) -> Envelope:
    """The envelope of a record: an event of the cluster that *key* names, with its stamp, or an action of the hub."""
    found = dict(headers)
    if len(found) != len(headers):
        _refuse_doubles(headers)
    if found.get("ce_specversion") != b"1.0":
        raise Invalid(_absent_or(found, "ce_specversion", "is not 1.0"))
    content_type = found.get("content-type", CONTENT_TYPE)
    if content_type != CONTENT_TYPE and not _is_json(content_type):
        raise Invalid("content-type is not application/json in UTF-8")
    source = _text(found, "ce_source")
    is_action = source == HUB_SOURCE
    if not (is_label(key) if is_action else key and cluster_of(source) == key):
        raise Invalid("the record's key is not the cluster that ce_source names")
    if key == PARKED_NAME:
        raise Invalid(f"no cluster may be named {PARKED_NAME!r}: its topic is that of parked events")
    time = _text(found, "ce_time") if "ce_time" in found else ""
    if time and not _TIME.fullmatch(time):
        raise Invalid("ce_time is not an RFC 3339 time")
    return Envelope(
        id=_text(found, "ce_id"),
        type=_text(found, "ce_type"),
        source=source,
        subject=_text(found, "ce_subject") if "ce_subject" in found else "",
        time=time,
        stamp=None if is_action else _stamp(found),
    )


def readable_stamp(headers: Sequence[tuple[str, bytes]]) -> Stamp | None:
    """The stamp of a record whatever else is wrong with it: a parked event whose sequence can be read is no gap."""
    try:
        return _stamp(dict(headers))
    except Invalid:
        return None


@lru_cache(maxsize=16_384)
def cluster_of(source: str) -> str:
    """The cluster that a source such as `/clusters/east/agent` names; empty when it names none."""
    parts = source.split("/", 3)
    is_whole = len(parts) == 4 and not parts[0] and parts[1] == "clusters" and bool(parts[3])
    return parts[2] if is_whole and is_label(parts[2]) else ""


def is_label(name: str) -> bool:
    """Whether *name* is a DNS label, as the names of clusters are."""
    return len(name) <= 63 and _LABEL.fullmatch(name) is not None


def topic_allows(source: str, cluster: str) -> bool:
    """Whether a record of *source* (`topic/partition`) may speak for *cluster*: only its own topic or the shared one."""
    topic = source.rpartition("/")[0]
    return topic == EVENTS_TOPIC or (topic == f"{EVENTS_TOPIC}.{cluster}" and topic != PARKED_TOPIC)


def topic_matches(patterns: Iterable[str], topic: str) -> bool:
    """Whether a consumer of *patterns* reads *topic*; one that ends in `*` never takes in the parked records."""
    return any(
        topic == pattern or (pattern.endswith("*") and topic.startswith(pattern[:-1]) and topic != PARKED_TOPIC)
        for pattern in patterns
    )


def _text(found: Mapping[str, bytes], name: str) -> str:
    raw = found.get(name)
    if not raw:
        raise Invalid(_absent_or(found, name, "is empty"))
    if len(raw) > BOUNDS[name]:
        raise Invalid(f"{name} is longer than {BOUNDS[name]} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Invalid(f"{name} is not UTF-8") from None
    if not text.isprintable():
        raise Invalid(f"{name} holds a control character")
    return text


def _stamp(found: Mapping[str, bytes]) -> Stamp:
    return Stamp(_text(found, "ce_epochuid"), _serial(found, "ce_epoch"), _serial(found, "ce_sequence"))


def _serial(found: Mapping[str, bytes], name: str) -> int:
    raw = found.get(name)
    # The length comes first: int() of thousands of digits costs time. isdigit() of bytes knows ASCII only.
    if raw and len(raw) <= 16 and raw.isdigit() and (number := int(raw)) <= MAX_SERIAL:
        return number
    raise Invalid(_absent_or(found, name, "is not an integer from 0 to 2^53"))


def _absent_or(found: Mapping[str, bytes], name: str, reason: str) -> str:
    return f"{name} {reason}" if name in found else f"{name} is absent"


@lru_cache(maxsize=256)
def _is_json(content_type: bytes) -> bool:
    return len(content_type) <= 128 and _JSON_TYPE.fullmatch(content_type) is not None


def _refuse_doubles(headers: Iterable[tuple[str, bytes]]) -> None:
    """What others add (traces) may stand twice, what we read may not: readers would differ in which they take."""
    names = [name for name, _ in headers if name.startswith("ce_") or name == "content-type"]
    if len(names) != len(set(names)):
        raise Invalid("an attribute is given twice")


# --- the body --------------------------------------------------------------------------------------------------------


def encode(body: Event | Action) -> bytes:
    """The body of a record."""
    return _encoder.encode(body)


def decode_event(envelope: Envelope, value: bytes) -> Event:
    """The typed event; its cluster is the one that the envelope's source names."""
    if envelope.type not in EVENT_TYPES:
        raise Invalid("ce_type is not a known event")
    if envelope.stamp is None:
        raise Invalid("an event needs an epoch and a sequence")
    event = cast(Event, _decode(envelope.type, value))
    if event.cluster != cluster_of(envelope.source):
        raise Invalid("the body names another cluster than the record", "/cluster")
    return event


def decode_action(envelope: Envelope, value: bytes) -> Action:
    """The typed order of the hub."""
    if envelope.type not in ACTION_TYPES:
        raise Invalid("ce_type is not a known action")
    if envelope.source != HUB_SOURCE:
        raise Invalid("an action comes from the hub only")
    return cast(Action, _decode(envelope.type, value))


def _decode(kind: str, value: bytes) -> Any:
    if not value:
        raise Invalid("the body is empty")
    if len(value) > MAX_BODY_BYTES:
        raise Invalid(f"the body is longer than {MAX_BODY_BYTES} bytes")
    # PostgreSQL takes no NUL in text. The bare byte is no JSON; the escape is, and msgspec lets it pass.
    if b"\\u0000" in value and _ESCAPED_NUL.search(value):
        raise Invalid("the body holds a NUL character")
    body = _parsed(_decoders[kind], value)
    for field in _identities[kind]:
        if not getattr(body, field).isprintable():
            raise Invalid("a name holds a control character", f"/{field}")
    return body


def _parsed(decoder: "msgspec.json.Decoder[Any]", value: bytes) -> Any:
    try:
        return decoder.decode(value)
    except RecursionError:
        raise Invalid("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise Invalid("the body is not UTF-8") from None
    except msgspec.DecodeError as error:  # a ValidationError is one too
        raise Invalid(_safe(str(error))) from None


def _safe(message: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in message[:200])


# --- HTTP ------------------------------------------------------------------------------------------------------------


class _Structured(Struct, frozen=True, kw_only=True):
    """One event as `application/cloudevents+json` has it; extensions that are numbers may come as strings."""

    specversion: str | None = None
    id: str | None = None
    source: str | None = None
    type: str | None = None
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    epochuid: str | None = None
    epoch: Serial | str | None = None
    sequence: Serial | str | None = None
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str | None = None


_structured = msgspec.json.Decoder(_Structured)
_batch = msgspec.json.Decoder(Annotated[list[_Structured], Meta(max_length=MAX_BATCH_EVENTS)])


def from_http(headers: Mapping[str, str], body: bytes) -> list[tuple[Envelope, bytes]]:
    """The events of one request in binary, structured or batch mode, each checked whole; all or none.

    Producers over HTTP only observe: actions are refused.
    """
    lowered = [(name.lower(), value) for name, value in headers.items()]
    mode = next((value for name, value in lowered if name == "content-type"), "").partition(";")[0].strip().lower()
    if mode == "application/cloudevents-batch+json":
        if len(body) > MAX_BATCH_BYTES:
            raise Invalid(f"the batch is longer than {MAX_BATCH_BYTES} bytes")
        return [_one(item, f"/{place}") for place, item in enumerate(_parsed(_batch, body))]
    if len(body) > MAX_BODY_BYTES:
        raise Invalid(f"the body is longer than {MAX_BODY_BYTES} bytes")
    if mode == "application/cloudevents+json":
        return [_one(_parsed(_structured, body), "")]
    return [_checked(_binary_headers(lowered), body)]


def _binary_headers(headers: Sequence[tuple[str, str]]) -> list[tuple[str, bytes]]:
    # Servers hand over bytes that are no UTF-8 as surrogates; these stay no UTF-8, and are refused as such.
    raw = [(name, value.encode(errors="surrogatepass")) for name, value in headers]
    pairs = [("ce_" + name[3:], unquote_to_bytes(value)) for name, value in raw if name.startswith("ce-")]
    return pairs + [(name, value) for name, value in raw if name == "content-type"]


def _one(item: _Structured, pointer: str) -> tuple[Envelope, bytes]:
    try:
        return _checked(_structured_headers(item), _data(item))
    except Invalid as error:
        raise Invalid(str(error), pointer + error.pointer) from None


def _structured_headers(item: _Structured) -> list[tuple[str, bytes]]:
    attributes = ("specversion", "id", "source", "type", "subject", "time", "epochuid", "epoch", "sequence")
    pairs = [("ce_" + name, str(value).encode()) for name in attributes if (value := getattr(item, name)) is not None]
    if item.datacontenttype is not None:
        pairs.append(("content-type", item.datacontenttype.encode()))
    return pairs


def _data(item: _Structured) -> bytes:
    if item.data_base64 is None:
        return bytes(item.data)
    if bytes(item.data):
        raise Invalid("data and data_base64 exclude one another")
    try:
        return b64decode(item.data_base64, validate=True)
    except ValueError:
        raise Invalid("data_base64 is not base64", "/data_base64") from None


def _checked(headers: Sequence[tuple[str, bytes]], value: bytes) -> tuple[Envelope, bytes]:
    source = dict(headers).get("ce_source", b"")
    envelope = decode_record(cluster_of(source[:254].decode(errors="replace")), headers)
    decode_event(envelope, value)
    return envelope, value
