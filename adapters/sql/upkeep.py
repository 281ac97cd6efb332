"""Rows whose time is over, and parked events on their way to their topic."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Table, delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.tables import (
    cycles,
    decisions,
    explanations,
    idempotency,
    parked_events,
    placements,
    workloads,
)
from adapters.system import encoded
from federation.domain.records import Parked

_BY_TIME: Final[tuple[Table, ...]] = (decisions, explanations, cycles, parked_events, idempotency)
_HEADERS: Final = msgspec.json.Decoder(tuple[tuple[str, bytes], ...])


def parked_from(row: Any) -> Parked:
    """A row of parked events."""
    return Parked(
        source=row.source,
        offset=row.position,
        at_ms=row.at_ms,
        reason=row.reason,
        key=row.key,
        headers=_HEADERS.decode(row.headers),
        value=row.value,
    )


class UpkeepVerbs:
    """The part of a transaction that keeps the tables small."""

    connection: AsyncConnection

    async def parked_untold(self, limit: int) -> list[Parked]:
        query = select(parked_events).where(parked_events.c.told_ms == 0).order_by(parked_events.c.at_ms).limit(limit)
        return [parked_from(row) for row in await self.connection.execute(query)]

    async def mark_told(self, parked: Sequence[Parked], at_ms: int) -> None:
        keys = [(event.source, event.offset) for event in parked]
        row = tuple_(parked_events.c.source, parked_events.c.position)
        await self.connection.execute(update(parked_events).where(row.in_(keys)).values(told_ms=at_ms))

    async def expired(self, now_ms: int, limit: int) -> list[str]:
        until = workloads.c.lease_until_ms
        query = select(workloads.c.id).where(until > 0, until <= now_ms, workloads.c.phase != "deleting")
        return list((await self.connection.execute(query.limit(limit))).scalars())

    async def prune(self, before_ms: int, limit: int) -> int:
        """Decisions that a workload still shows are old too after the retention: a newer one follows any change."""
        gone = 0
        for table in _BY_TIME:
            key = tuple_(*table.primary_key.columns)
            old = select(*table.primary_key.columns).where(table.c.at_ms < before_ms).limit(limit)
            gone += (await self.connection.execute(delete(table).where(key.in_(old)))).rowcount
        orphans = select(placements.c.id).where(
            placements.c.released == 1, placements.c.workload.not_in(select(workloads.c.id))
        )
        old_ids = orphans.where(placements.c.id < encoded(max(0, before_ms) << 80)).limit(limit)
        gone += (await self.connection.execute(delete(placements).where(placements.c.id.in_(old_ids)))).rowcount
        return gone
