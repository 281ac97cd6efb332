"""Kafka's records as ours."""

from typing import Any, Final

from aiokafka import TopicPartition

from federation.ports import Record

LOG_APPEND_TIME: Final = 1


def source_of(tp: TopicPartition) -> str:
    return f"{tp.topic}/{tp.partition}"


def record_of(source: str, message: Any, now_ms: int) -> Record:
    """A record as the broker gave it; what no producer of ours would leave out is empty, and refused further on."""
    headers = message.headers
    if any(value is None for _, value in headers):
        headers = tuple((name, value or b"") for name, value in headers)
    appended_ms = message.timestamp
    if message.timestamp_type != LOG_APPEND_TIME:
        # A topic that somebody else made: the time is the producer's word, which may at least not be in the future.
        appended_ms = max(0, min(appended_ms, now_ms))
    return Record(
        source=source,
        offset=message.offset,
        appended_ms=appended_ms,
        key="" if message.key is None else message.key.decode(errors="replace"),
        headers=headers,
        value=message.value or b"",
    )


def unreadable_record(source: str, offset: int, now_ms: int) -> Record:
    """Stands for one that cannot be decoded: it has a place in the log, and nothing in it."""
    return Record(source=source, offset=offset, appended_ms=now_ms, key="", headers=(), value=b"")
