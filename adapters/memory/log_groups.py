"""Consumers and their groups for logs that live in one process: no threads, no tasks, the caller's own await only.

As on Kafka a member that joins or leaves, or a topic that appears, takes every source from every member of the group
for a moment, and positions are asked for anew.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from federation.domain.cloudevents import topic_matches
from federation.domain.errors import Unavailable
from federation.ports import Batch, PositionReader, Record


class Shelf(Protocol):
    """What such a log offers to its consumers."""

    def sources(self) -> Sequence[str]: ...

    def bounds(self, source: str) -> tuple[int, int]:
        """The first offset that is held, and the next one to be given."""

    def is_up(self) -> bool: ...

    async def read(self, source: str, offset: int, limit: int) -> Sequence[Record]: ...


class Groups:
    """Who reads what. *version* moves with everything that a waiting consumer may want to look at."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.version = 0
        self._members: dict[str, list[LocalConsumer]] = {}
        self._waiters: set[asyncio.Future[None]] = set()

    def join(self, group: str, topics: Sequence[str], positions: PositionReader) -> "LocalConsumer":
        consumer = LocalConsumer(self, group, topics, positions)
        self._members.setdefault(group, []).append(consumer)
        self._share_out(group)
        return consumer

    def rejoin(self, consumer: "LocalConsumer") -> None:
        self._members[consumer.group].append(consumer)
        self._share_out(consumer.group)

    def leave(self, consumer: "LocalConsumer") -> None:
        self._members[consumer.group].remove(consumer)
        self._share_out(consumer.group)

    def topic_appeared(self, topic: str) -> None:
        for group, members in self._members.items():
            if any(topic_matches(member.topics, topic) for member in members):
                self._share_out(group)

    def wake(self) -> None:
        """Let every waiting consumer look again."""
        self.version += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seconds: float) -> bool:
        """Whether something moved before the time was over."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    def _share_out(self, group: str) -> None:
        members = self._members[group]
        shares: dict[int, list[str]] = {id(member): [] for member in members}
        for place, source in enumerate(sorted(self.shelf.sources())):
            willing = [m for m in members if topic_matches(m.topics, source.rpartition("/")[0])]
            if willing:
                shares[id(willing[place % len(willing)])].append(source)
        for member in members:
            member.assign(shares[id(member)])
        self.wake()


class LocalConsumer:
    """A member of a group; it holds nothing but the offsets that it hands out next."""

    def __init__(self, groups: Groups, group: str, topics: Sequence[str], positions: PositionReader) -> None:
        self.group = group
        self.topics = tuple(topics)
        self._groups = groups
        self._positions = positions
        self._assigned: tuple[str, ...] = ()
        self._next: dict[str, int] = {}
        self._epoch = 0
        self._turn = 0
        self._closed = False

    def assign(self, sources: Sequence[str]) -> None:
        self._assigned = tuple(sources)
        self._next.clear()
        self._epoch += 1

    async def poll(self, limit: int, wait_seconds: float) -> Batch:
        """What there is, at once; else what comes within the time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while True:
            if self._closed:
                raise Unavailable("the consumer is closed")
            seen = self._groups.version
            batch = await self._look(limit)
            left = deadline - loop.time()
            if batch.records or batch.reset or left <= 0:
                return batch
            if self._groups.version == seen and not await self._groups.wait(left):
                return batch

    async def hint(self, positions: Mapping[str, int]) -> None:
        """Nobody else watches this log."""

    async def rewind(self, source: str) -> None:
        # What a poll is reading right now is dropped too, else it would move the position on again.
        self._next.pop(source, None)
        self._epoch += 1
        self._groups.wake()

    async def lag(self) -> Mapping[str, int]:
        bounds = {source: self._groups.shelf.bounds(source) for source in self._assigned}
        return {source: end - self._next.get(source, first) for source, (first, end) in bounds.items()}

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.assign(())
            self._groups.leave(self)

    def expel(self) -> None:
        """The group goes on without this member, as after its session has timed out; it does not know."""
        self.assign(())
        self._groups.leave(self)

    def rejoin(self) -> None:
        """It was heard of again."""
        self._groups.rejoin(self)

    async def _look(self, limit: int) -> Batch:
        if not self._groups.shelf.is_up():
            return Batch()
        epoch = self._epoch
        await self._place()
        reset = self._passed_by_retention()
        records = await self._read(limit) if epoch == self._epoch and not reset else []
        if epoch != self._epoch:
            return Batch()
        return Batch(records=records, ends=self._ends(), reset=reset)

    async def _place(self) -> None:
        """Ask where to go on in sources that were just given to us. A source without a position starts at its start."""
        epoch, missing = self._epoch, [source for source in self._assigned if source not in self._next]
        if not missing:
            return
        stored: Mapping[str, int] = await self._positions(missing)
        if epoch == self._epoch:
            for source in missing:
                position = stored.get(source, -1)
                self._next[source] = position if position >= 0 else self._groups.shelf.bounds(source)[0]

    def _passed_by_retention(self) -> dict[str, int]:
        """Sources whose position is no longer held, or lies beyond the end (the log began anew)."""
        reset = {}
        for source, position in self._next.items():
            first, end = self._groups.shelf.bounds(source)
            if not first <= position <= end:
                reset[source] = first
        self._next.update(reset)
        return reset

    async def _read(self, limit: int) -> list[Record]:
        """Up to *limit* records, beginning with another source each time, so that none waits behind a busy one."""
        epoch, records = self._epoch, list[Record]()
        sources = [source for source in self._assigned if source in self._next]
        self._turn += 1
        for place in range(len(sources)):
            source = sources[(place + self._turn) % len(sources)]
            if len(records) < limit and self._next[source] < self._groups.shelf.bounds(source)[1]:
                found = await self._groups.shelf.read(source, self._next[source], limit - len(records))
                if epoch != self._epoch:
                    return []
                # Retention may have passed between the look and the read: then the next look says so.
                if found and found[0].offset == self._next[source]:
                    records.extend(found)
        # Nothing is awaited from here on: a poll that is cancelled has handed out nothing and forgets nothing.
        for record in records:
            self._next[record.source] = record.offset + 1
        return records

    def _ends(self) -> frozenset[str]:
        bounds = self._groups.shelf.bounds
        return frozenset(source for source, position in self._next.items() if position >= bounds(source)[1])
