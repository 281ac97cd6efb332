"""The event log in memory: the twin of Kafka for virtual time, with the faults that tests ask for."""

from collections.abc import Sequence
from zlib import crc32

from adapters.memory.log_groups import Groups, LocalConsumer
from federation.domain.cloudevents import MAX_BODY_BYTES
from federation.domain.errors import Invalid, Unavailable
from federation.ports import Clock, Message, PositionReader, RawMessage, Record


class MemoryLog:
    """Topics of several partitions, chosen by key. *retain* is how many records each partition keeps (None: all)."""

    def __init__(self, clock: Clock, *, partitions: int = 3, retain: int | None = None) -> None:
        self._clock = clock
        self._partitions = partitions
        self._retain = retain
        self._records: dict[str, list[Record]] = {}
        self._first: dict[str, int] = {}
        self._up = True
        self._groups = Groups(self)

    async def append(self, messages: Sequence[Message | RawMessage]) -> None:
        if not self._up:
            raise Unavailable("the event log is down")
        if any(len(message.value) > MAX_BODY_BYTES for message in messages):
            raise Invalid(f"a record is longer than {MAX_BODY_BYTES} bytes")
        for message in messages:
            self.append_raw(message.topic, message.key, message.headers, message.value)

    async def consume(self, group: str, topics: Sequence[str], positions: PositionReader) -> LocalConsumer:
        if not self._up:
            raise Unavailable("the event log is down")
        for topic in topics:
            if not topic.endswith("*"):
                self._ensure(topic)
        return self._groups.join(group, topics, positions)

    async def close(self) -> None:
        """Nothing is held."""

    # --- what a test or the simulator does to it ---------------------------------------------------------------------

    def append_raw(self, topic: str, key: str, headers: tuple[tuple[str, bytes], ...], value: bytes) -> None:
        """Append as it is, whatever it says: how poison comes in."""
        self._ensure(topic)
        source = f"{topic}/{crc32(key.encode()) % self._partitions}"
        records = self._records[source]
        stamped = Record(
            source=source,
            offset=self._first[source] + len(records),
            appended_ms=self._clock.now_ms(),
            key=key,
            headers=headers,
            value=value,
        )
        records.append(stamped)
        if self._retain is not None and len(records) > self._retain:
            self.trim(source, stamped.offset + 1 - self._retain)
        self._groups.wake()

    def stop(self) -> None:
        """From now on it does not answer; what it holds stays."""
        self._up = False

    def start(self) -> None:
        self._up = True
        self._groups.wake()

    def trim(self, source: str, first: int) -> None:
        """Forget the records below *first*, as retention does."""
        passed = max(0, min(first - self._first[source], len(self._records[source])))
        del self._records[source][:passed]
        self._first[source] += passed

    def begin_anew(self, source: str) -> None:
        """Lose every record and count from 0 again, as a topic that was deleted and made again does."""
        self._records[source], self._first[source] = [], 0
        self._groups.wake()

    def held(self, topic: str) -> list[Record]:
        """All records of a topic, partition by partition."""
        return [
            record for source in self.sources() if source.startswith(f"{topic}/") for record in self._records[source]
        ]

    # --- what its consumers ask --------------------------------------------------------------------------------------

    def sources(self) -> list[str]:
        return sorted(self._records)

    def bounds(self, source: str) -> tuple[int, int]:
        first = self._first[source]
        return first, first + len(self._records[source])

    def is_up(self) -> bool:
        return self._up

    async def read(self, source: str, offset: int, limit: int) -> list[Record]:
        start = offset - self._first[source]
        return self._records[source][start : start + limit]

    def _ensure(self, topic: str) -> None:
        if f"{topic}/0" in self._records:
            return
        for partition in range(self._partitions):
            self._records[f"{topic}/{partition}"] = []
            self._first[f"{topic}/{partition}"] = 0
        self._groups.topic_appeared(topic)
