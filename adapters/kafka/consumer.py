"""A member of a Kafka consumer group whose positions are kept by its owner, not by Kafka."""

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from adapters.kafka.records import record_of, source_of, unreadable_record
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.watchdog import Watchdog
from federation.domain.cloudevents import PARKED_TOPIC
from federation.domain.errors import Unavailable
from federation.ports import Batch, PositionReader, Record
from federation.services.metrics import RESTARTS

FETCH_WAIT_MILLISECONDS: Final = 100
SLICE_SECONDS: Final = 0.2
ANSWER_SECONDS: Final = 5.0
HINT_WAIT_SECONDS: Final = 2.0
# An end is believed for so long after the broker told it; while it is away, nobody stands at the end.
FRESH_MILLISECONDS: Final = 3000
READ_TRIES: Final = 3
log = logging.getLogger(__name__)


class Assignments(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Passes on what the group gives and takes; both are called by aiokafka's own task."""

    def __init__(self, owner: "KafkaConsumer") -> None:
        self._owner = owner

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._owner.take_away()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._owner.give(assigned)


class KafkaConsumer:
    """*restarts* counts how often the watchdog had to begin anew.

    A partition that was assigned is *placed* once its owner was asked for the position, in the owner's own poll, so
    that a slow database never holds up the group. Only placed partitions are read.
    """

    def __init__(self, settings: KafkaSettings, group: str, topics: Sequence[str], positions: PositionReader) -> None:
        self.restarts = 0
        self._settings = settings
        self._group = group
        self._pattern = pattern_of(topics)
        self._positions = positions
        self._kafka: AIOKafkaConsumer | None = None
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._next: dict[TopicPartition, int] = {}
        self._unplaced_before: set[TopicPartition] = set()
        self._suspects: dict[TopicPartition, int] = {}
        self._epoch = 0
        self._given = asyncio.Event()
        self._watchdog = Watchdog(settings.stall_seconds)
        self._hints: dict[TopicPartition, int] = {}
        self._hinted_at = 0.0
        self.closed = False

    @property
    def stalled(self) -> bool:
        """Whether some partition does not move although it should; for readiness."""
        return self._kafka is None or self._watchdog.stalled(self._next)

    async def open(self) -> None:
        """Join the group."""
        kafka = AIOKafkaConsumer(
            **self._settings.client(),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS,
            max_partition_fetch_bytes=self._settings.fetch_bytes,
            session_timeout_ms=int(self._settings.session_seconds * 1000),
            # A member learns by its heartbeat that others wait for it: this is how long a rebalance takes.
            heartbeat_interval_ms=int(self._settings.session_seconds * 1000 / 10),
        )
        kafka.subscribe(pattern=self._pattern, listener=Assignments(self))
        try:
            async with asyncio.timeout(self._settings.start_seconds):
                await kafka.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await stop(kafka)
            raise Unavailable(f"the consumer could not start: {type(error).__name__}") from error
        except BaseException:
            await stop(kafka)
            raise
        self._kafka = kafka

    async def poll(self, limit: int, wait_seconds: float) -> Batch:
        """What there is, at once; else what comes within the time. Nothing and no ends while the broker is away."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        self._watchdog.looks(self._next)
        while True:
            kafka = await self._running()
            await self._place(kafka)
            left = deadline - loop.time()
            batch = await self._read(kafka, limit, max(0.0, min(left, SLICE_SECONDS)))
            self._watchdog.saw(batch, self._next)
            if batch.records or batch.reset or left <= SLICE_SECONDS:
                return batch

    async def hint(self, positions: Mapping[str, int]) -> None:
        """Commit to Kafka now and then, exactly these; whatever comes of it."""
        self._hints.update((partition_of(source), position) for source, position in positions.items())
        now = asyncio.get_running_loop().time()
        if now - self._hinted_at >= self._settings.hint_seconds:
            self._hinted_at = now
            await self._commit_hints()

    async def rewind(self, source: str) -> None:
        self._next.pop(partition_of(source), None)
        self._epoch += 1

    async def lag(self) -> Mapping[str, int]:
        if self._kafka is None:
            return {}
        known = {tp: self._kafka.highwater(tp) for tp in self._assigned & self._kafka.assignment()}
        return {
            source_of(tp): max(0, end - self._next[tp])
            for tp, end in known.items()
            if tp in self._next and end is not None
        }

    async def close(self) -> None:
        """Leave the group."""
        if not self.closed:
            self.closed = True
            await self._commit_hints()
            await self._stop()

    # --- what the group tells ----------------------------------------------------------------------------------------

    def take_away(self) -> None:
        self._assigned = frozenset()
        self._next.clear()
        self._suspects.clear()
        self._epoch += 1
        self._given.clear()
        self._watchdog.rebalancing()

    def give(self, assigned: Iterable[TopicPartition]) -> None:
        self.take_away()
        self._assigned = frozenset(assigned)
        self._given.set()
        self._watchdog.settled()

    # --- one look ----------------------------------------------------------------------------------------------------

    async def _running(self) -> AIOKafkaConsumer:
        """The consumer, begun anew where it stands still."""
        if self.closed:
            raise Unavailable("the consumer is closed")
        if self._kafka is not None and await self._watchdog.is_stuck(self._kafka, self._next):
            log.error("the consumer of group %s stands still; it begins anew", self._group)
            await self._stop()
        if self._kafka is None:
            self.restarts += 1
            RESTARTS.inc()
            await self.open()
        assert self._kafka is not None
        return self._kafka

    async def _place(self, kafka: AIOKafkaConsumer) -> None:
        epoch, missing = self._epoch, [tp for tp in self._assigned if tp not in self._next]
        if not missing:
            return
        stored: Mapping[str, int] = await self._positions([source_of(tp) for tp in missing])
        if epoch != self._epoch:
            return
        for tp in missing:
            position = stored.get(source_of(tp), -1)
            # Without a position it starts at the beginning, wherever retention has put that: found out by trying.
            (self._unplaced_before.add if position < 0 else self._unplaced_before.discard)(tp)
            self._seek(kafka, tp, max(0, position))

    def _seek(self, kafka: AIOKafkaConsumer, tp: TopicPartition, position: int) -> None:
        try:
            kafka.seek(tp, position)
        except IllegalStateError:
            return  # taken away in this very moment; its revocation follows
        self._next[tp] = position

    async def _read(self, kafka: AIOKafkaConsumer, limit: int, seconds: float) -> Batch:
        if not self._next:
            await self._wait_for_assignment(seconds)
            return Batch()
        if self._suspects:
            return await self._read_suspects(kafka, limit)
        return await self._read_many(kafka, list(self._next), limit, seconds)

    async def _wait_for_assignment(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._given.wait()
        if self._given.is_set():
            await asyncio.sleep(seconds if not self._assigned else 0)

    async def _read_many(
        self, kafka: AIOKafkaConsumer, partitions: Sequence[TopicPartition], limit: int, seconds: float
    ) -> Batch:
        epoch = self._epoch
        try:
            # During a rebalance getmany waits beyond its own time limit.
            async with asyncio.timeout(seconds + SLICE_SECONDS):
                found = await kafka.getmany(*partitions, timeout_ms=int(seconds * 1000), max_records=limit)
        except TimeoutError:
            return Batch()
        except OffsetOutOfRangeError as error:
            return await self._out_of_range(kafka, error.args[0])
        except NoOffsetForPartitionError as error:
            self._next.pop(error.args[0], None)
            return Batch()
        except (TopicAuthorizationFailedError, GroupAuthorizationFailedError) as error:
            raise Unavailable(f"Kafka does not let us read: {type(error).__name__}") from error
        except (KafkaError, ValueError) as error:
            return self._unreadable(kafka, partitions, error)
        # What was read before a rebalance or a rewind is not ours to hand out any more.
        return self._handed_out(kafka, found) if epoch == self._epoch else Batch()

    def _handed_out(self, kafka: AIOKafkaConsumer, found: Mapping[TopicPartition, Sequence[Any]]) -> Batch:
        records: list[Record] = []
        now_ms = time.time_ns() // 1_000_000
        for tp, messages in found.items():
            source = source_of(tp)
            records.extend([record_of(source, message, now_ms) for message in messages])
            self._next[tp] = messages[-1].offset + 1
            self._unplaced_before.discard(tp)
        return Batch(records=records, ends=self._ends(kafka, now_ms))

    def _ends(self, kafka: AIOKafkaConsumer, now_ms: int) -> frozenset[str]:
        assigned = kafka.assignment()
        return frozenset(
            source_of(tp)
            for tp, position in self._next.items()
            if tp in assigned
            and (end := kafka.highwater(tp)) is not None
            and position >= end
            and abs(now_ms - kafka.last_poll_timestamp(tp)) < FRESH_MILLISECONDS
        )

    # --- what went wrong ---------------------------------------------------------------------------------------------

    async def _out_of_range(self, kafka: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> Batch:
        """The log does not hold these positions: go on at its beginning, and say so where there was a position."""
        epoch, lost = self._epoch, [tp for tp, offset in offsets.items() if self._next.get(tp) == offset]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                begins = await kafka.beginning_offsets(lost) if lost else {}
        except (KafkaError, TimeoutError):
            return Batch()  # it is out of range at the next look too
        if epoch != self._epoch:
            return Batch()
        for tp, begin in begins.items():
            self._seek(kafka, tp, begin)
        return Batch(reset={source_of(tp): begin for tp, begin in begins.items() if tp not in self._unplaced_before})

    def _unreadable(self, kafka: AIOKafkaConsumer, partitions: Sequence[TopicPartition], error: Exception) -> Batch:
        """Some record cannot even be decoded, aiokafka does not say which, and has lost what it had in hand.

        All go back to where they were, and are read one record at a time until the culprit is found.
        """
        log.warning("a record cannot be read: %s", type(error).__name__)
        for tp in self._next.keys() & set(partitions):
            self._seek(kafka, tp, self._next[tp])
            self._suspects.setdefault(tp, 0)
        return Batch()

    async def _read_suspects(self, kafka: AIOKafkaConsumer, limit: int) -> Batch:
        """One record of one suspect, and whatever the others have. What stays unreadable is handed out empty."""
        tp = next(iter(self._suspects))
        tries = self._suspects.pop(tp)
        batch = await self._read_many(kafka, [tp], 1, FETCH_WAIT_MILLISECONDS / 1000)
        if tp in self._suspects:
            self._suspects.clear()
            self._suspects[tp] = tries + 1
            if tries + 1 >= READ_TRIES:
                batch = self._skip(kafka, tp)
        others = [other for other in self._next if other not in self._suspects and other != tp]
        if batch.records or batch.reset or not others:
            return batch
        return await self._read_many(kafka, others, limit, 0.0)

    def _skip(self, kafka: AIOKafkaConsumer, tp: TopicPartition) -> Batch:
        offset = self._next[tp]
        self._seek(kafka, tp, offset + 1)
        return Batch(records=[unreadable_record(source_of(tp), offset, time.time_ns() // 1_000_000)])

    async def _commit_hints(self) -> None:
        if self._kafka is None:
            return
        assigned = self._kafka.assignment()
        offsets = {tp: offset for tp, offset in self._hints.items() if tp in assigned}
        self._hints.clear()
        try:
            async with asyncio.timeout(HINT_WAIT_SECONDS):
                if offsets:
                    await self._kafka.commit(offsets)
        except (KafkaError, ValueError, TimeoutError) as error:
            log.info("positions were not told to Kafka: %s", type(error).__name__)

    async def _stop(self) -> None:
        kafka, self._kafka = self._kafka, None
        self.take_away()
        if kafka is not None:
            await stop(kafka)


def pattern_of(topics: Sequence[str]) -> str:
    """One expression for all topics; a pattern finds topics that come later, and never takes in the parked ones."""
    exact = [re.escape(topic) for topic in topics if not topic.endswith("*")]
    open_ended = [f"(?!{re.escape(PARKED_TOPIC)}$){re.escape(topic[:-1])}.*" for topic in topics if topic.endswith("*")]
    return f"^(?:{'|'.join([*exact, *open_ended])})$"


def partition_of(source: str) -> TopicPartition:
    topic, _, partition = source.rpartition("/")
    return TopicPartition(topic, int(partition))


async def stop(kafka: AIOKafkaConsumer) -> None:
    """Stop it within a time limit; one that stands still may not even leave."""
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            await kafka.stop()
            return
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            await kafka._client.close()
