"""The ingester's loop: poll the log, fold, commit, go on. It never reacts to what it folds."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Final

import structlog

from federation.domain.cloudevents import EVENTS_TOPIC
from federation.domain.errors import StaleOffset, Unavailable
from federation.ports import Batch, Clock, Consumer, EventLog, Record, Store
from federation.services.ingest import Report, forget_history, ingest
from federation.services.metrics import EVENTS, INGEST_LAG
from federation.workers.supervisor import Health, take_turns

TOPICS: Final = (EVENTS_TOPIC, f"{EVENTS_TOPIC}.*")
GROUP: Final = "federation-hub"
BATCH: Final = 2_000
WAIT_SECONDS: Final = 0.5
CAUGHT_UP_EVERY_MS: Final = 1_000
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Ingester:
    """One consumer of the events, with the positions that it believes the store to have."""

    store: Store
    log: EventLog
    clock: Clock
    health: Health
    positions: dict[str, int] = field(default_factory=dict)
    caught_up_ms: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until *stop*; what is folded is committed before it ends."""
        consumer = await self.log.consume(GROUP, TOPICS, self.read_positions)
        turn, start_over = partial(self.turn, consumer), partial(self._start_over, consumer)
        try:
            await take_turns("ingester", turn, stop, self.health, start_over)
        finally:
            await asyncio.shield(consumer.close())

    async def read_positions(self, sources: Sequence[str]) -> Mapping[str, int]:
        async with self.store.reader() as reader:
            found = await reader.positions(sources)
        for source in sources:
            self.positions[source] = found.get(source, -1)
        return found

    async def turn(self, consumer: Consumer) -> None:
        """One look at the log: fold what it has and commit."""
        batch = await consumer.poll(BATCH, WAIT_SECONDS)
        for source, position in batch.reset.items():
            await forget_history(self.store, source, position, self.positions.get(source, -1))
            self.positions[source] = position
            _log.warning("the log lost events", source=source, going_on_at=position)
        for source, records in groupby(batch.records, key=lambda record: record.source):
            await self._fold(consumer, source, list(records))
        await self._note_ends(batch)
        if batch.records:
            await consumer.hint({source: at for source, at in self.positions.items() if at >= 0})
        for source, lag in (await consumer.lag()).items():
            INGEST_LAG.labels(source).set(lag)

    async def _fold(self, consumer: Consumer, source: str, records: list[Record]) -> None:
        expected = self.positions.get(source, -1)
        fresh = [record for record in records if record.offset >= expected]
        if not fresh:
            return
        try:
            report = await ingest(self.store, source, expected, fresh, self.clock.now_ms())
        except StaleOffset as error:
            _log.info("another consumer reads this source", source=source, reason=str(error))
            self.positions.pop(source, None)
            await consumer.rewind(source)
            return
        self.positions[source] = fresh[-1].offset + 1
        _count(report)

    async def _note_ends(self, batch: Batch) -> None:
        """Silence counts only up to the moment at which a consumer last stood at the end of the log (1.5)."""
        now_ms = self.clock.now_ms()
        if batch.ends and abs(now_ms - self.caught_up_ms) >= CAUGHT_UP_EVERY_MS:
            async with self.store.transaction() as transaction:
                await transaction.set_caught_up(sorted(batch.ends), now_ms)
            self.caught_up_ms = now_ms

    async def _start_over(self, consumer: Consumer) -> None:
        """What was handed out and not committed is read again from the stored positions."""
        for source in list(self.positions):
            try:
                await consumer.rewind(source)
            except Unavailable as error:
                _log.info("cannot read the position yet", source=source, error=str(error))


def _count(report: Report) -> None:
    EVENTS.labels("folded").inc(report.folded)
    EVENTS.labels("ignored").inc(report.ignored)
    for reason in report.parked:
        EVENTS.labels("parked").inc()
        _log.warning("event parked", reason=reason)
