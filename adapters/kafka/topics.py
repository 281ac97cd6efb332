"""Topics are made where they are missing: their append time is the broker's, which only holds if we say so."""

import logging
from collections.abc import Iterable
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from adapters.kafka.settings import KafkaSettings
from federation.domain.cloudevents import EVENTS_TOPIC, MAX_BODY_BYTES

# A record is a body with its headers.
MAX_MESSAGE_BYTES: Final = 2 * MAX_BODY_BYTES
log = logging.getLogger(__name__)


class Topics:
    """Remembers which topics were seen to, so that each is asked for once in a process."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._known: set[str] = set()

    def knows(self, names: set[str]) -> bool:
        return names <= self._known

    async def ensure(self, names: Iterable[str]) -> None:
        """See that the topics exist, as far as we may; raises what aiokafka raises when nobody answers."""
        missing = sorted(set(names) - self._known)
        if not missing:
            return
        admin = AIOKafkaAdminClient(**self._settings.client())
        try:
            await admin.start()
            answer = await admin.create_topics([self._new(name) for name in missing])
        finally:
            await admin.close()
        for name, code, *_ in answer.topic_errors:
            # An agent may not make topics: its operator has. What really lacks shows when it is written to.
            if code and for_code(code) is not TopicAlreadyExistsError:
                log.warning("topic %s was not created: %s", name, for_code(code).__name__)
        self._known.update(missing)

    def forget(self) -> None:
        """Look again next time: something that we counted on was not there."""
        self._known.clear()

    def _new(self, name: str) -> NewTopic:
        settings = {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "delete",
            "retention.ms": str(self._settings.retention_seconds * 1000),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        }
        # All records of a cluster have one key: more partitions in its own topic would stay empty.
        partitions = self._settings.partitions if name == EVENTS_TOPIC else 1
        replicas = self._settings.replication_factor
        # aiokafka takes -1, the broker's own default, only beside an assignment; an empty one is as good as none.
        assignments: dict[int, list[int]] | None = {} if replicas == -1 else None
        return NewTopic(name, partitions, replicas, assignments, settings)
