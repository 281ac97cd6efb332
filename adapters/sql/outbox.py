"""Orders on their way: rows without a number wait, numbered ones are sent in order and go once confirmed."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql import codec
from adapters.sql.bulk import insert
from adapters.sql.tables import outbox
from federation.domain.records import OutboxRow


class OutboxVerbs:
    """The outbox's part of a transaction."""

    connection: AsyncConnection
    channels: set[str]

    async def enqueue(self, rows: Sequence[OutboxRow]) -> None:
        if not rows:
            return
        await insert(self.connection, outbox, [codec.outbox_row(row) for row in rows])
        self.channels.add("outbox")

    async def cancel_waiting(self, placement: str) -> int:
        gone = await self.connection.execute(
            delete(outbox).where(outbox.c.placement == placement, outbox.c.number == 0)
        )
        return int(gone.rowcount)

    async def waiting_rows(self, limit: int) -> list[OutboxRow]:
        ready = outbox.c.number == 0, outbox.c.waits_for == "", outbox.c.sent_ms == 0
        return await self._rows(select(outbox).where(*ready).order_by(outbox.c.id).limit(limit))

    async def number_rows(self, rows: Sequence[OutboxRow]) -> None:
        if not rows:
            return
        await self.connection.execute(
            update(outbox)
            .where(outbox.c.id == bindparam("row"))
            .values(number=bindparam("given"), generation=bindparam("under")),
            [{"row": row.id, "given": row.number, "under": row.generation} for row in rows],
        )

    async def rows_to_send(self, limit: int) -> list[OutboxRow]:
        unsent = outbox.c.sent_ms == 0, outbox.c.number > 0
        return await self._rows(select(outbox).where(*unsent).order_by(outbox.c.cluster, outbox.c.number).limit(limit))

    async def rows_after(self, cluster: str, done: int, limit: int) -> list[OutboxRow]:
        above = outbox.c.cluster == cluster, outbox.c.number > done
        return await self._rows(select(outbox).where(*above).order_by(outbox.c.number).limit(limit))

    async def mark_sent(self, ids: Sequence[int], at_ms: int) -> None:
        await self.connection.execute(update(outbox).where(outbox.c.id.in_(ids)).values(sent_ms=at_ms))

    async def forget_rows(self, cluster: str, done: int) -> None:
        confirmed = outbox.c.cluster == cluster, outbox.c.number > 0, outbox.c.number <= done
        await self.connection.execute(delete(outbox).where(*confirmed))

    async def drop_orders(self, generation: int) -> int:
        gone = await self.connection.execute(delete(outbox).where(outbox.c.generation < generation))
        return int(gone.rowcount)

    async def _rows(self, query: Any) -> list[OutboxRow]:
        return [codec.outbox_from(row) for row in await self.connection.execute(query)]
