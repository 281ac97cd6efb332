"""The event log of one process, durable in a SQLite file of its own; each topic is one partition."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from adapters.embedded.log_file import LogFile, Row, Topic
from adapters.embedded.log_writer import Append, LogSettings, Writer
from adapters.memory.log_groups import Groups, LocalConsumer
from federation.domain.cloudevents import MAX_BODY_BYTES
from federation.domain.errors import Invalid, Unavailable
from federation.ports import Clock, Message, PositionReader, RawMessage, Record

CLOSE_SECONDS: Final = 10.0
_headers_encoder = msgspec.msgpack.Encoder()


class EmbeddedLog:
    """Appends are durable when they return; consumers are woken by them at once. For one process and one event loop."""

    def __init__(self, path: Path, clock: Clock, settings: LogSettings | None = None) -> None:
        self._settings = settings or LogSettings()
        self._file = LogFile(path, self._settings.synchronous)
        self._topics: dict[str, Topic] = dict(self._file.topics)
        self._asked: set[str] = set()
        self._groups = Groups(self)
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-reader")
        self._writer = Writer(self._file, clock, self._settings, self._moved)
        self._open = True

    async def append(self, messages: Sequence[Message | RawMessage]) -> None:
        if not self._open:
            raise Unavailable("the event log is closed")
        if not messages:
            return
        append = Append([row_of(message) for message in messages], asyncio.get_running_loop())
        self._writer.submit(append)
        try:
            async with asyncio.timeout(self._settings.append_seconds):
                outcome = await append.done
        except TimeoutError:
            raise Unavailable("the event log did not answer in time") from None
        if outcome is not None:
            raise outcome

    async def consume(self, group: str, topics: Sequence[str], positions: PositionReader) -> LocalConsumer:
        if not self._open:
            raise Unavailable("the event log is closed")
        for topic in topics:
            if not topic.endswith("*") and topic not in self._topics and topic not in self._asked:
                self._asked.add(topic)
                self._groups.topic_appeared(topic)
        return self._groups.join(group, topics, positions)

    async def close(self) -> None:
        """What was submitted is still written."""
        if self._open:
            self._open = False
            self._groups.wake()
            await asyncio.to_thread(self._writer.stop, CLOSE_SECONDS)
            await asyncio.to_thread(self._reader.shutdown)
            self._file.close()

    # --- what its consumers ask --------------------------------------------------------------------------------------

    def sources(self) -> list[str]:
        return [f"{topic}/0" for topic in {*self._topics, *self._asked}]

    def bounds(self, source: str) -> tuple[int, int]:
        topic = self._topics.get(source.rpartition("/")[0])
        return (topic.first, topic.next) if topic else (0, 0)

    def is_up(self) -> bool:
        return self._open

    async def read(self, source: str, offset: int, limit: int) -> list[Record]:
        topic = self._topics[source.rpartition("/")[0]]
        return await asyncio.get_running_loop().run_in_executor(
            self._reader, self._file.read, topic, source, offset, limit
        )

    def _moved(self, topics: dict[str, Topic]) -> None:
        new = [name for name in topics if name not in self._topics and name not in self._asked]
        self._topics.update(topics)
        for name in new:
            self._groups.topic_appeared(name)
        self._groups.wake()


def row_of(message: Message | RawMessage) -> Row:
    if len(message.value) > MAX_BODY_BYTES:
        raise Invalid(f"a record is longer than {MAX_BODY_BYTES} bytes")
    headers = _headers_encoder.encode(message.headers)
    return Row(message.topic, message.key.encode(), headers, message.value)
