"""The event log on Kafka."""

import asyncio
from collections.abc import Sequence

from aiokafka.errors import KafkaError

from adapters.kafka.consumer import KafkaConsumer
from adapters.kafka.producer import Appender
from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import Topics
from federation.domain.errors import Unavailable
from federation.ports import Message, PositionReader, RawMessage


class KafkaLog:
    """Appends through one producer; each consumer is a group member of its own. For one event loop."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topics = Topics(settings)
        self._appender = Appender(settings, self._topics)
        self._consumers: list[KafkaConsumer] = []

    async def append(self, messages: Sequence[Message | RawMessage]) -> None:
        await self._appender.append(messages)

    async def consume(self, group: str, topics: Sequence[str], positions: PositionReader) -> KafkaConsumer:
        try:
            async with asyncio.timeout(self._settings.start_seconds):
                await self._topics.ensure(topic for topic in topics if not topic.endswith("*"))
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"Kafka does not answer: {type(error).__name__}") from error
        consumer = KafkaConsumer(self._settings, group, topics, positions)
        await consumer.open()
        self._consumers = [*(other for other in self._consumers if not other.closed), consumer]
        return consumer

    async def close(self) -> None:
        """Leave all groups and let go of the producer."""
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            await consumer.close()
        await self._appender.close()
