"""The event log of a simulation: it may deliver late, many times and out of order, lose, and hold what is no event."""

import asyncio
import random
from collections.abc import Callable, Sequence

from adapters.memory.log import MemoryLog
from federation.ports import Clock, Message, RawMessage


class SimulatedLog(MemoryLog):
    """*copies* is the most often that a message comes, *spread_seconds* within which; *losing* how many are lost next.

    *told* sees every message that is meant to be delivered, once.
    """

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        super().__init__(clock, partitions=2)
        self.copies = 1
        self.spread_seconds = 0.0
        self.losing = 0
        self.lost = 0
        self.told: Callable[[Message], None] | None = None
        self._rng = rng

    async def append(self, messages: Sequence[Message | RawMessage]) -> None:
        if self.copies == 1 and not self.losing:
            await super().append(messages)
        else:
            await super().append([])
            self._scatter(messages)
        for message in messages:
            if self.told is not None and isinstance(message, Message):
                self.told(message)

    def _scatter(self, messages: Sequence[Message | RawMessage]) -> None:
        """A log that acknowledged and did not keep: what no real one may do but does when it is misconfigured."""
        for message in messages:
            if self.losing and message.topic.startswith("federation.events"):
                self.losing -= 1
                self.lost += 1
                continue
            for _ in range(self._rng.randint(1, self.copies)):
                delay = self._rng.uniform(0, self.spread_seconds)
                content = (message.topic, message.key, message.headers, message.value)
                asyncio.get_running_loop().call_later(delay, self.append_raw, *content)
