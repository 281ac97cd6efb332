"""Sees when a consumer stands still without a sign, as aiokafka may after a broker restart or a rebalance (#1154).

The sign is that a partition's end lies beyond our position, we ask for records, and none come.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from adapters.kafka.records import source_of
from federation.ports import Batch

ASK_SECONDS: Final = 5.0
# Times the patience: how long a rebalance or a broker that does not answer is waited for.
PATIENCE: Final = 3


class Watchdog:
    """Keeps, for each partition, when it last moved or stood at its end."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._moved_at: dict[TopicPartition, float] = {}
        self._looked_at = 0.0
        self._asked_at = 0.0
        self._rebalancing_since: float | None = None

    def rebalancing(self) -> None:
        self._moved_at.clear()
        if self._rebalancing_since is None:
            self._rebalancing_since = now()

    def settled(self) -> None:
        self._rebalancing_since = None

    def looks(self, positions: Iterable[TopicPartition]) -> None:
        """Somebody is about to look. When nobody did for a while, what stood still meanwhile is not to blame."""
        moment = now()
        away = moment - self._looked_at > self._stall_seconds / 2
        self._looked_at = moment
        for tp in positions:
            if away or tp not in self._moved_at:
                self._moved_at[tp] = moment

    def saw(self, batch: Batch, positions: Iterable[TopicPartition]) -> None:
        """Note what a look brought; it may have taken long by itself."""
        self._looked_at = now()
        moved = {record.source for record in batch.records} | batch.ends | batch.reset.keys()
        for tp in positions:
            if tp not in self._moved_at or source_of(tp) in moved:
                self._moved_at[tp] = self._looked_at

    def stalled(self, positions: Iterable[TopicPartition]) -> bool:
        """Whether something has not moved for too long; it may still turn out that there is nothing to read."""
        return bool(self._still(positions, 1)) or self._rebalances_for_ever()

    async def is_stuck(self, kafka: AIOKafkaConsumer, positions: Mapping[TopicPartition, int]) -> bool:
        """Whether to begin anew: ask the broker for the ends, now and then, once something looks wrong."""
        if self._rebalances_for_ever():
            self._rebalancing_since = now()
            return True
        still = self._still(positions, 1)
        if not still or now() - self._asked_at < self._stall_seconds / 4:
            return False
        self._asked_at = now()
        try:
            async with asyncio.timeout(ASK_SECONDS):
                ends = await kafka.end_offsets(still)
        except (KafkaError, TimeoutError):
            return bool(self._still(positions, PATIENCE))
        return any(end > positions.get(tp, end) for tp, end in ends.items())

    def _still(self, positions: Iterable[TopicPartition], times: int) -> list[TopicPartition]:
        limit = now() - self._stall_seconds * times
        return [tp for tp in positions if self._moved_at.get(tp, limit) < limit]

    def _rebalances_for_ever(self) -> bool:
        since = self._rebalancing_since
        return since is not None and now() - since > self._stall_seconds * PATIENCE


def now() -> float:
    return asyncio.get_running_loop().time()
