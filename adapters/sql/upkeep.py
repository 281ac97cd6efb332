"""Rows whose time is over, and parked events on their way to their topic."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, Table, delete, exists, select, tuple_, update
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

_BY_TIME: Final[tuple[Table, ...]] = (cycles, parked_events, idempotency)
_SHOWN: Final = exists().where(workloads.c.id == decisions.c.workload, workloads.c.decision == decisions.c.id)
_EXPLAINS: Final = exists().where(decisions.c.explanation == explanations.c.id)
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
        """What a workload still shows stays, however old: its decision, with the explanation."""
        gone = await self._delete(decisions, self._old(decisions, before_ms).where(~_SHOWN), limit)
        gone += await self._delete(explanations, self._old(explanations, before_ms).where(~_EXPLAINS), limit)
        for table in _BY_TIME:
            gone += await self._delete(table, self._old(table, before_ms), limit)
        released = placements.c.released == 1, placements.c.id < encoded(max(0, before_ms) << 80)
        orphans = select(placements.c.id).where(*released, placements.c.workload.not_in(select(workloads.c.id)))
        return gone + await self._delete(placements, orphans, limit)

    def _old(self, table: Table, before_ms: int) -> Select[Any]:
        return select(*table.primary_key.columns).where(table.c.at_ms < before_ms)

    async def _delete(self, table: Table, keys: Select[Any], limit: int) -> int:
        key = tuple_(*table.primary_key.columns)
        return int((await self.connection.execute(delete(table).where(key.in_(keys.limit(limit))))).rowcount)
