"""Appending to Kafka: acknowledged by all replicas, in order for each key, within a time limit."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import MAX_MESSAGE_BYTES, Topics
from federation.domain.cloudevents import MAX_BODY_BYTES, encode_headers
from federation.domain.errors import Invalid, Unavailable
from federation.ports import Message

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
        self._starting = asyncio.Lock()
        self._timeouts = 0

    async def append(self, messages: Sequence[Message]) -> None:
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
        producer, self._producer, self._timeouts = self._producer, None, 0
        if producer is not None:
            await stop(producer)

    async def _append(self, messages: Sequence[Message]) -> None:
        await self._topics.ensure(message.topic for message in messages)
        producer = self._producer or await self._start()
        futures = [
            await producer.send(
                message.topic,
                key=message.key.encode(),
                value=message.value,
                headers=list(encode_headers(message.envelope)),
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

    async def _start(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
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
                self._producer = producer
            return self._producer


def retrieve(future: "asyncio.Future[object]") -> None:
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
