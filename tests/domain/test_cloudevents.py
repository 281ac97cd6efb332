"""The edge: what is no whole, bounded, honest CloudEvent is refused with a reason, and never anything but refused."""

import json
import re
from base64 import b64encode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.domain.cloudevents import (
    BOUNDS,
    MAX_BATCH_EVENTS,
    MAX_BODY_BYTES,
    cluster_of,
    decode_action,
    decode_event,
    decode_record,
    encode,
    encode_headers,
    from_http,
    readable_stamp,
    topic_allows,
    topic_matches,
)
from federation.domain.errors import Invalid
from federation.domain.events import (
    ACTION_TYPES,
    EVENT_TYPES,
    ClusterObserved,
    Envelope,
    NodeGone,
    NodeObserved,
    PlacementUnwanted,
    ResyncFinished,
    Stamp,
)

Headers = tuple[tuple[str, bytes], ...]
TEXTS = ("ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_epochuid")
REQUIRED = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_epochuid", "ce_epoch", "ce_sequence")


def make_envelope(**changes: object) -> Envelope:
    envelope = Envelope(
        id="01JD",
        type="federation.node.gone.v1",
        source="/clusters/east/agent",
        subject="nodes/n-017",
        time="2026-01-02T03:04:05.678Z",
        stamp=Stamp("7b0d2a3e-3a5b", 3, 12_345),
    )
    return msgspec.structs.replace(envelope, **changes)


def make_action_envelope(**changes: object) -> Envelope:
    action = {"type": "federation.placement.unwanted.v1", "source": "/hub", "subject": "", "stamp": None}
    return make_envelope(**{**action, **changes})


def make_headers(**changes: bytes | None) -> Headers:
    """Whole headers with some exchanged, or left out where None."""
    headers: dict[str, bytes | None] = {**dict(encode_headers(make_envelope())), **changes}
    return tuple((name, value) for name, value in headers.items() if value is not None)


def make_structured(**changes: object) -> dict[str, object]:
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": "01JD",
        "source": "/clusters/east/agent",
        "type": "federation.node.gone.v1",
        "datacontenttype": "application/json",
        "epochuid": "7b0d",
        "epoch": 3,
        "sequence": 12_345,
        "data": {"cluster": "east", "node": "n-017"},
    }
    return {name: value for name, value in {**event, **changes}.items() if value != "absent"}


def refusal(headers: Headers, key: str = "east") -> str:
    with pytest.raises(Invalid) as caught:
        decode_record(key, headers)
    return str(caught.value)


def body_refusal(value: bytes, kind: str = "federation.node.observed.v1") -> str:
    with pytest.raises(Invalid) as caught:
        decode_event(make_envelope(type=kind), value)
    return str(caught.value)


def check_reason(refused: Invalid) -> None:
    """What is logged is short and cannot forge a line."""
    assert str(refused).isprintable()
    assert len(str(refused)) <= 200


# --- the envelope


def test_headers_are_those_of_the_published_interface() -> None:
    headers = encode_headers(make_envelope())

    assert headers == (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"01JD"),
        ("ce_source", b"/clusters/east/agent"),
        ("ce_type", b"federation.node.gone.v1"),
        ("ce_subject", b"nodes/n-017"),
        ("ce_time", b"2026-01-02T03:04:05.678Z"),
        ("ce_epochuid", b"7b0d2a3e-3a5b"),
        ("ce_epoch", b"3"),
        ("ce_sequence", b"12345"),
        ("content-type", b"application/json"),
    )


def test_an_action_has_no_stamp_and_comes_back_as_it_was() -> None:
    envelope = make_action_envelope()

    headers = encode_headers(envelope)

    assert "ce_epoch" not in dict(headers)
    assert decode_record("east", headers) == envelope


printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@given(
    st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True),
    printable,
    printable,
    st.integers(0, 2**53),
    st.integers(0, 2**53),
)
def test_every_envelope_comes_back_as_it_was(cluster: str, name: str, subject: str, epoch: int, sequence: int) -> None:
    stamp = Stamp(name, epoch, sequence)
    envelope = make_envelope(id=name, source=f"/clusters/{cluster}/{name}", subject=subject, stamp=stamp)

    assert decode_record(cluster, encode_headers(envelope)) == envelope
    assert readable_stamp(encode_headers(envelope)) == stamp


@pytest.mark.parametrize("name", REQUIRED)
def test_what_is_required_and_absent_is_named(name: str) -> None:
    assert refusal(make_headers(**{name: None})) == f"{name} is absent"


@pytest.mark.parametrize("name", [*TEXTS, "ce_specversion", "ce_epoch", "ce_sequence"])
def test_what_is_empty_is_refused(name: str) -> None:
    assert refusal(make_headers(**{name: b""})).startswith(name)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"x" * 10_000, "is longer than"),
        (b"a\x00b", "holds a control character"),
        (b"a\nlevel=error forged", "holds a control character"),
        ("a\u202eb".encode(), "holds a control character"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"\xed\xa0\x80", "is not UTF-8"),
    ],
)
def test_texts_are_bounded_and_printable(name: str, value: bytes, reason: str) -> None:
    assert reason in refusal(make_headers(**{name: value}))


@pytest.mark.parametrize("name", ["ce_epoch", "ce_sequence"])
@pytest.mark.parametrize(
    "value",
    [b"-1", b"+1", b" 1", b"1.0", b"1e3", b"0x10", b"1_000", "１".encode(), b"NaN", b"true", b"9" * 5000]
    + [str(number).encode() for number in (2**53 + 1, 2**63 - 1, 2**63, 10**30)],
)
def test_epoch_and_sequence_are_plain_numbers_up_to_two_to_the_53(name: str, value: bytes) -> None:
    assert refusal(make_headers(**{name: value})) == f"{name} is not an integer from 0 to 2^53"


@pytest.mark.parametrize("value", [0, 1, 2**53])
def test_the_bounds_of_a_sequence_are_taken(value: int) -> None:
    envelope = decode_record("east", make_headers(ce_sequence=b"%d" % value))

    assert envelope.stamp is not None
    assert envelope.stamp.sequence == value


WRONG_SOURCES = (
    "/clusters/west/agent",
    "/clusters/east",
    "/clusters/east/",
    "clusters/east/agent",
    "/clusters//agent",
    "/clusters/../agent",
    "/clusters/%2e%2e/agent",
    "/clusters/East/agent",
    "/clusters/-e/agent",
    f"/clusters/{'e' * 64}/agent",
    "/CLUSTERS/east/agent",
    "x/clusters/east/agent",
    "/hub/",
    "/",
)


@pytest.mark.parametrize("source", WRONG_SOURCES)
def test_a_source_names_the_cluster_of_the_key_or_is_refused(source: str) -> None:
    assert "key" in refusal(make_headers(ce_source=source.encode()))


def test_no_cluster_is_named_as_the_parked_events_are() -> None:
    headers = make_headers(ce_source=b"/clusters/parked/agent")

    assert "no cluster may be named 'parked'" in refusal(headers, "parked")


def test_a_source_that_names_no_cluster_does_not_fit_a_key_that_names_none() -> None:
    assert "key" in refusal(make_headers(ce_source=b"nonsense"), "")


@pytest.mark.parametrize("key", ["", "west", "EAST", "east\x00", "east/agent", "\ufffd"])
def test_a_key_of_another_cluster_is_refused(key: str) -> None:
    assert "key" in refusal(make_headers(), key)


@pytest.mark.parametrize("key", ["", "no label", "."])
def test_an_action_is_keyed_by_a_cluster_too(key: str) -> None:
    assert "key" in refusal(encode_headers(make_action_envelope()), key)


@pytest.mark.parametrize("version", [b"0.3", b"1", b"2.0", b"1.0 "])
def test_only_version_one_is_spoken(version: bytes) -> None:
    assert refusal(make_headers(ce_specversion=version)) == "ce_specversion is not 1.0"


@pytest.mark.parametrize("time", ["yesterday", "2026-01-02", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05", "1767"])
def test_a_time_is_rfc_3339(time: str) -> None:
    assert refusal(make_headers(ce_time=time.encode())) == "ce_time is not an RFC 3339 time"


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999+14:00"])
def test_times_at_the_ends_of_the_calendar_do_no_harm(time: str) -> None:
    assert decode_record("east", make_headers(ce_time=time.encode())).time == time


@pytest.mark.parametrize("name", ["ce_subject", "ce_time", "content-type"])
def test_what_is_optional_may_be_absent(name: str) -> None:
    assert decode_record("east", make_headers(**{name: None})).id == "01JD"


@pytest.mark.parametrize("value", [b"application/json; charset=utf-8", b'Application/JSON;charset="UTF-8"'])
def test_json_in_utf8_may_be_named_at_length(value: bytes) -> None:
    assert decode_record("east", make_headers(**{"content-type": value})).id == "01JD"


@pytest.mark.parametrize("value", [b"", b"text/html", b"application/json; charset=latin-1", b"application/jsonx"])
def test_other_content_is_refused(value: bytes) -> None:
    assert refusal(make_headers(**{"content-type": value})).startswith("content-type")


@pytest.mark.parametrize("name", ["ce_sequence", "ce_source", "content-type"])
def test_an_attribute_that_stands_twice_is_refused(name: str) -> None:
    assert refusal((*make_headers(), (name, b"1"))) == "an attribute is given twice"


def test_headers_of_others_may_stand_twice() -> None:
    assert decode_record("east", (*make_headers(), ("trace", b"1"), ("trace", b"2"))).id == "01JD"


def test_a_stamp_is_read_from_a_record_that_is_wrong_otherwise() -> None:
    headers = make_headers(ce_source=b"", ce_type=None)

    assert readable_stamp(headers) == Stamp("7b0d2a3e-3a5b", 3, 12_345)
    assert readable_stamp(make_headers(ce_sequence=b"x")) is None


names = st.sampled_from([*REQUIRED, "ce_subject", "ce_time", "content-type", "other"])
pieces = st.one_of(st.binary(max_size=40), st.sampled_from([b"1.0", b"/clusters/east/a", b"/hub", b"7", b"\x00"]))


@given(st.text(max_size=10) | st.just("east"), st.lists(st.tuples(names, pieces), max_size=12))
@settings(max_examples=400)
def test_any_headers_are_an_envelope_or_invalid(key: str, headers: list[tuple[str, bytes]]) -> None:
    try:
        envelope = decode_record(key, headers)
    except Invalid as refused:
        check_reason(refused)
    else:
        assert decode_record(key, encode_headers(envelope)) == envelope
    readable_stamp(headers)


@given(names, st.binary(max_size=60))
def test_one_wrong_header_is_an_envelope_or_invalid(name: str, value: bytes) -> None:
    try:
        decode_record("east", make_headers(**{name: value}))
    except Invalid as refused:
        check_reason(refused)


# --- the body


def test_events_and_actions_come_back_as_they_were() -> None:
    event, action = (
        NodeGone(cluster="east", node="n-1"),
        PlacementUnwanted(order=1, generation=2, placement="p", version=3),
    )

    assert decode_event(make_envelope(), encode(event)) == event
    assert decode_action(make_action_envelope(), encode(action)) == action


def test_an_unknown_field_is_ignored() -> None:
    event = decode_event(make_envelope(), b'{"cluster": "east", "node": "n-1", "colour": {"deep": [1, null]}}')

    assert event == NodeGone(cluster="east", node="n-1")


def test_a_body_of_another_cluster_is_refused() -> None:
    assert "another cluster" in body_refusal(b'{"cluster": "west", "node": "n-1"}', "federation.node.gone.v1")


def test_a_body_cannot_name_a_cluster_that_only_begins_like_the_source() -> None:
    value = b'{"cluster": "east/agent", "node": "n-1"}'

    with pytest.raises(Invalid, match="another cluster"):
        decode_event(make_envelope(source="/clusters/east/agent/x"), value)


def test_events_and_actions_are_not_taken_for_one_another() -> None:
    body = encode(NodeGone(cluster="east", node="n-1"))

    with pytest.raises(Invalid, match="known event"):
        decode_event(make_envelope(type="federation.placement.unwanted.v1"), body)
    with pytest.raises(Invalid, match="known action"):
        decode_action(make_action_envelope(type="federation.node.gone.v1"), body)
    with pytest.raises(Invalid, match="epoch"):
        decode_event(make_action_envelope(type="federation.node.gone.v1"), body)
    with pytest.raises(Invalid, match="hub"):
        decode_action(make_envelope(type="federation.placement.unwanted.v1"), body)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b'{"cluster": "east"} {"cluster": "east"}',
        b"[" * 100_000,
        b'{"cluster": "east", "x": ' + b"[" * 100_000,
        b"9" * 5000,
        b'{"cluster": "east", "nodes": ' + b"9" * 5000 + b"}",
        '{"cluster": "east", "kind": "ü"}'.encode("latin-1"),
        '{"cluster": "east"}'.encode("utf-16"),
        b'{"cluster": "east", "kind": "a\\u0000b"}',
        b'{"cluster": "east", "kind": "a\\\\\\u0000b"}',
        b'{"cluster": "east", "labels": {"\\u0000": ""}}',
        b'{"cluster": "east", "kind": "\x00"}',
        b'{"cluster": "east", "kind": "\\ud800"}',
        b'{"cluster": "east", "kind": "\\udc00 lone"}',
        b'{"cluster": "east", "nodes": true}',
        b'{"cluster": "east", "nodes": "1"}',
        b'{"cluster": "east", "nodes": 1.5}',
        b'{"cluster": "east", "nodes": -1}',
        b'{"cluster": "east", "nodes": NaN}',
        b'{"cluster": "east", "nodes": 1e999}',
        b'{"cluster": "east", "nodes": 2147483648}',
        b'{"cluster": "east", "nodes": 9223372036854775808}',
        b'{"cluster": "east", "orders": {"generation": 9007199254740993}}',
        b'{"cluster": null}',
        b'{"cluster": ["east"]}',
        b" " * MAX_BODY_BYTES + b'{"cluster": "east"}',
    ],
    ids=range(31),
)
def test_a_body_that_is_not_whole_and_bounded_is_refused_with_a_short_printable_reason(value: bytes) -> None:
    reason = body_refusal(value, "federation.cluster.observed.v1")

    assert reason.isprintable()
    assert len(reason) <= 200


def test_a_backslash_before_u0000_is_text_and_no_nul() -> None:
    event = decode_event(
        make_envelope(type="federation.cluster.observed.v1"), b'{"cluster": "east", "kind": "\\\\u0000"}'
    )

    assert event == ClusterObserved(cluster="east", kind="\\u0000")


@pytest.mark.parametrize("name", ["a\nb", "a\u202eb", "\x7f", "\u2028"])
def test_names_are_printable(name: str) -> None:
    value = json.dumps({"cluster": "east", "node": name, "allocatable": {}}).encode()

    assert "control character" in body_refusal(value)


def test_ten_thousand_resources_on_a_node_are_refused() -> None:
    resources = {f"r{n}": "1" for n in range(10_000)}

    assert body_refusal(json.dumps({"cluster": "east", "node": "n", "allocatable": resources}).encode())


@pytest.mark.parametrize(("length", "fits"), [(253, True), (254, False)])
def test_a_name_has_at_most_253_letters(length: int, fits: bool) -> None:
    event = NodeObserved(cluster="east", node="n" * length, allocatable={})

    if fits:
        assert decode_event(make_envelope(type="federation.node.observed.v1"), encode(event)) == event
    else:
        assert "node" in body_refusal(encode(event))


@given(st.sampled_from(sorted(EVENT_TYPES)), st.binary(max_size=200))
def test_any_bytes_are_an_event_or_invalid(kind: str, value: bytes) -> None:
    with pytest.raises(Invalid):
        decode_event(make_envelope(type=kind), value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["node", "nodes", "labels", "allocatable", "orders", "placement", "placements", "resync"])


@given(st.sampled_from(sorted(EVENT_TYPES)), st.dictionaries(fields, json_values, max_size=6))
@settings(max_examples=300)
def test_any_json_is_an_event_or_invalid(kind: str, body: dict[str, object]) -> None:
    value = json.dumps({"cluster": "east", **body}).encode()
    try:
        event = decode_event(make_envelope(type=kind), value)
    except Invalid as refused:
        check_reason(refused)
    else:
        assert decode_event(make_envelope(type=kind), encode(event)) == event


@given(st.sampled_from(sorted(ACTION_TYPES)), st.binary(max_size=100))
def test_any_bytes_are_an_action_or_invalid(kind: str, value: bytes) -> None:
    with pytest.raises(Invalid):
        decode_action(make_action_envelope(type=kind), value)


def test_a_finished_resync_of_five_thousand_nodes_fits() -> None:
    names = tuple(f"ip-10-0-{n // 256}-{n % 256}.eu-central-1.compute.internal" for n in range(5000))
    event = ResyncFinished(cluster="east", resync="r", nodes=names)

    assert decode_event(make_envelope(type="federation.resync.finished.v1"), encode(event)) == event


# --- topics


@pytest.mark.parametrize(
    ("source", "cluster", "allowed"),
    [
        ("federation.events/0", "east", True),
        ("federation.events/17", "west", True),
        ("federation.events.east/0", "east", True),
        ("federation.events.east/0", "west", False),
        ("federation.events.parked/0", "parked", False),
        ("federation.events.parked/0", "east", False),
        ("federation.actions.east/0", "east", False),
        ("other/0", "east", False),
    ],
)
def test_an_event_speaks_for_the_cluster_of_its_topic_only(source: str, cluster: str, allowed: bool) -> None:
    assert topic_allows(source, cluster) is allowed


@pytest.mark.parametrize(
    ("patterns", "topic", "matches"),
    [
        (["federation.events*"], "federation.events", True),
        (["federation.events*"], "federation.events.east", True),
        (["federation.events*"], "federation.events.parked", False),
        (["federation.events.parked"], "federation.events.parked", True),
        (["federation.actions.east"], "federation.actions.east2", False),
        ([], "federation.events", False),
    ],
)
def test_a_pattern_takes_what_begins_like_it_but_never_the_parked(
    patterns: list[str], topic: str, matches: bool
) -> None:
    assert topic_matches(patterns, topic) is matches


@given(st.text(max_size=90))
def test_what_a_source_names_is_a_label_or_nothing(source: str) -> None:
    assert re.fullmatch(r"(|[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)", cluster_of(source))


# --- HTTP


BINARY = {
    "CE-SpecVersion": "1.0",
    "ce-id": "01JD",
    "ce-source": "/clusters/east/agent",
    "ce-type": "federation.node.gone.v1",
    "ce-subject": "nodes/n%20017",
    "ce-epochuid": "7b0d",
    "ce-epoch": "3",
    "ce-sequence": "12345",
    "Content-Type": "application/json; charset=utf-8",
    "Host": "hub",
}
BODY = b'{"cluster":"east","node":"n-017"}'


def test_binary_mode_over_http_has_its_attributes_in_headers_percent_decoded() -> None:
    [(envelope, value)] = from_http(BINARY, BODY)

    assert envelope.subject == "nodes/n 017"
    assert envelope.stamp == Stamp("7b0d", 3, 12_345)
    assert value == BODY


def test_structured_mode_over_http_has_everything_in_the_body() -> None:
    headers = {"content-type": "application/cloudevents+json; charset=UTF-8"}

    [(envelope, value)] = from_http(headers, json.dumps(make_structured(sequence="12345")).encode())

    assert envelope.stamp == Stamp("7b0d", 3, 12_345)
    assert decode_event(envelope, value) == NodeGone(cluster="east", node="n-017")


def test_structured_data_may_be_base64() -> None:
    event = make_structured(data="absent", data_base64=b64encode(BODY).decode())

    [(_, value)] = from_http({"content-type": "application/cloudevents+json"}, json.dumps(event).encode())

    assert value == BODY


def test_a_batch_over_http_is_taken_whole_in_its_order() -> None:
    batch = [make_structured(id=f"id-{n}", sequence=n) for n in range(3)]

    events = from_http({"content-type": "application/cloudevents-batch+json"}, json.dumps(batch).encode())

    assert [envelope.id for envelope, _ in events] == ["id-0", "id-1", "id-2"]


def test_one_wrong_event_refuses_its_batch_and_is_pointed_at() -> None:
    batch = [make_structured(), make_structured(data={"cluster": "west", "node": "n"})]

    with pytest.raises(Invalid) as caught:
        from_http({"content-type": "application/cloudevents-batch+json"}, json.dumps(batch).encode())

    assert caught.value.pointer == "/1/cluster"


@pytest.mark.parametrize(
    "changes",
    [
        {"specversion": None},
        {"specversion": 1.0},
        {"id": ""},
        {"source": "/clusters/west/agent"},
        {"source": "/hub"},
        {"source": ["/clusters/east/agent"]},
        {"type": "federation.placement.unwanted.v1"},
        {"type": "federation.unheard.of.v1"},
        {"time": "yesterday"},
        {"epoch": -1},
        {"epoch": 2**53 + 1},
        {"epoch": 10**30},
        {"sequence": True},
        {"sequence": 1.5},
        {"sequence": "absent"},
        {"datacontenttype": "text/xml"},
        {"data": "absent"},
        {"data": None},
        {"data": "text"},
        {"data_base64": "e30="},
        {"data": "absent", "data_base64": "!"},
        {"data": "absent", "data_base64": "e30"},
    ],
    ids=str,
)
def test_a_structured_event_with_something_wrong_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        from_http({"content-type": "application/cloudevents+json"}, json.dumps(make_structured(**changes)).encode())


def test_actions_do_not_come_over_http() -> None:
    action = PlacementUnwanted(order=1, generation=1, placement="p", version=1)
    headers = {**BINARY, "ce-source": "/hub", "ce-type": "federation.placement.unwanted.v1"}

    with pytest.raises(Invalid):
        from_http(headers, encode(action))


def test_batches_and_bodies_are_bounded() -> None:
    batch_type = {"content-type": "application/cloudevents-batch+json"}

    with pytest.raises(Invalid, match="length"):
        from_http(batch_type, json.dumps([make_structured()] * (MAX_BATCH_EVENTS + 1)).encode())
    with pytest.raises(Invalid, match="longer"):
        from_http(batch_type, b" " * 9_000_000)
    with pytest.raises(Invalid, match="longer"):
        from_http({"content-type": "application/cloudevents+json"}, b" " * (MAX_BODY_BYTES + 1))


def test_a_header_that_stands_twice_in_other_letters_is_refused() -> None:
    with pytest.raises(Invalid, match="twice"):
        from_http({**BINARY, "Ce-Id": "other"}, BODY)


header_names = st.sampled_from([*BINARY, "ce-time", "content-type"])
header_values = st.text(st.characters(), max_size=30) | st.sampled_from(
    ["application/cloudevents+json", "application/cloudevents-batch+json", "%ff", "%", "\udcff"]
)


@given(st.dictionaries(header_names, header_values, max_size=4), st.binary(max_size=60) | st.just(BODY))
@settings(max_examples=400)
def test_any_request_is_events_or_invalid(changes: dict[str, str], body: bytes) -> None:
    try:
        events = from_http({**BINARY, **changes}, body)
    except Invalid as refused:
        check_reason(refused)
    else:
        assert all(decode_event(envelope, value) for envelope, value in events)


def test_each_text_has_a_bound() -> None:
    assert set(BOUNDS) == set(TEXTS)
