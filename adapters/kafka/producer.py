"""Appending to Kafka: acknowledged by all replicas, in order for each key, within a time limit."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import MAX_MESSAGE_BYTES, Topics
from federation.domain.cloudevents import MAX_BODY_BYTES
from federation.domain.errors import Invalid, Unavailable
from federation.ports import Message, RawMessage

BATCH_BYTES: Final = 256 * 1024
STOP_SECONDS: Final = 2.0
TIMEOUTS_IN_A_ROW: Final = 3
log = logging.getLogger(__name__)


class Appender:
    """One producer for the process, made when it is first needed, and made anew when it has failed.

    aiokafka's idempotent producer never gives a batch up, and after some errors (the broker forgot its sequence)
    refuses all that follow; so an error replaces it, and so do three time-outs in a row.
    """

    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings = settings
        self._topics = topics
        self._producer: AIOKafkaProducer | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._timeouts = 0

    async def append(self, messages: Sequence[Message | RawMessage]) -> None:
        """Raises Unavailable when not all were acknowledged in time; some may have been, or may still be written."""
        if any(len(message.value) > MAX_BODY_BYTES for message in messages):
            raise Invalid(f"a record is longer than {MAX_BODY_BYTES} bytes")
        try:
            async with asyncio.timeout(self._settings.append_seconds):
                await self._append(messages)
        except TimeoutError:
            self._timeouts += 1
            if self._timeouts >= TIMEOUTS_IN_A_ROW:
                await self.close()
            raise Unavailable("Kafka did not acknowledge in time") from None
        except (KafkaError, OSError) as error:
            self._topics.forget()
            await self.close()
            raise Unavailable(f"Kafka refused: {type(error).__name__}") from error
        self._timeouts = 0

    async def close(self) -> None:
        """Let go of the producer, with what it could not deliver."""
        if self._preparing is not None:
            await asyncio.wait([self._preparing], timeout=STOP_SECONDS)
        producer, self._producer, self._timeouts = self._producer, None, 0
        if producer is not None:
            await stop(producer)

    async def _append(self, messages: Sequence[Message | RawMessage]) -> None:
        producer = await self._ready({message.topic for message in messages})
        futures = [
            await producer.send(
                message.topic,
                key=message.key.encode(),
                value=message.value,
                headers=list(message.headers),
            )
            for message in messages
        ]
        for future in futures:
            future.add_done_callback(retrieve)
        if futures:
            # Not gather: a caller that gives up must not cancel what its neighbours in the batch wait for.
            await asyncio.wait(futures)
        for future in futures:
            future.result()

    async def _ready(self, topics: set[str]) -> AIOKafkaProducer:
        while self._producer is None or not self._topics.knows(topics):
            if self._preparing is None:
                self._preparing = asyncio.create_task(self._prepare(topics))
                self._preparing.add_done_callback(self._prepared)
            # Shielded: aiokafka leaks its connection where it is cancelled while it connects.
            await asyncio.shield(self._preparing)
        return self._producer

    async def _prepare(self, topics: set[str]) -> None:
        async with asyncio.timeout(self._settings.start_seconds):
            await self._topics.ensure(topics)
            if self._producer is None:
                self._producer = await self._start()

    def _prepared(self, task: "asyncio.Task[None]") -> None:
        self._preparing = None
        retrieve(task)

    async def _start(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._settings.client(),
            acks="all",
            enable_idempotence=True,
            linger_ms=self._settings.linger_milliseconds,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES,
        )
        try:
            await producer.start()
        except BaseException:
            await stop(producer)
            raise
        return producer


def retrieve(future: "asyncio.Future[Any]") -> None:
    """See the outcome of a future that nobody may wait for any more, else asyncio logs it as lost."""
    if not future.cancelled():
        future.exception()


async def stop(producer: AIOKafkaProducer) -> None:
    """Stop it within a time limit. It would wait for ever for what it cannot deliver."""
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await producer.stop()
            return
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await producer.client.close()
