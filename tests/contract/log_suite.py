"""What every event log must do, whichever adapter it is: order, positions, groups, ends, gaps, outages."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Protocol

import pytest

from federation.domain.cloudevents import MAX_BODY_BYTES, decode_record
from federation.domain.errors import Invalid, Unavailable
from federation.domain.events import Envelope, Stamp
from federation.ports import Batch, Consumer, EventLog, Message, Record

numbers = count(1)


class World(Protocol):
    """A log with the handles that break and mend it."""

    @property
    def log(self) -> EventLog: ...

    async def break_down(self) -> None: ...

    async def mend(self) -> None: ...

    async def restart(self) -> None:
        """End what holds the records, and start it again; *log* may be another one afterwards."""

    async def forget(self, topic: str) -> None:
        """Let retention take at least the first five records of *topic*."""


class Owner:
    """Keeps positions as the ingester does, and reads with them."""

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}
        self.asked: list[tuple[str, ...]] = []

    async def __call__(self, sources: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(tuple(sources))
        return {source: self.positions[source] for source in sources if source in self.positions}

    def commit(self, batch: Batch) -> list[Record]:
        """Take the records that follow on what was committed, as the compare-and-set in the database does."""
        taken = []
        for record in batch.records:
            if self.positions.get(record.source, 0) == record.offset:
                self.positions[record.source] = record.offset + 1
                taken.append(record)
        return taken


def make_topic() -> str:
    return f"federation.events.c{next(numbers)}-{id(numbers) % 997}"


def make_message(topic: str, number: int, *, key: str = "east", value: bytes | None = None) -> Message:
    envelope = Envelope(
        id=f"id-{number}",
        type="federation.node.gone.v1",
        source=f"/clusters/{key}/agent",
        stamp=Stamp("uid", 1, number),
    )
    return Message(topic=topic, key=key, envelope=envelope, value=b"%d" % number if value is None else value)


@asynccontextmanager
async def consuming(world: World, topics: Sequence[str], owner: Owner, group: str = "") -> AsyncIterator[Consumer]:
    consumer = await world.log.consume(group or f"group-{next(numbers)}", topics, owner)
    try:
        yield consumer
    finally:
        await consumer.close()


async def read(consumer: Consumer, owner: Owner, want: int, seconds: float = 20.0) -> list[Record]:
    """Poll and commit until so many records were taken."""
    taken: list[Record] = []
    async with asyncio.timeout(seconds):
        while len(taken) < want:
            taken += owner.commit(await consumer.poll(100, 0.2))
    return taken


def values(records: Sequence[Record]) -> list[int]:
    return [int(record.value) for record in records]


async def until_ends(consumer: Consumer, owner: Owner, source: str, seconds: float = 20.0) -> Batch:
    async with asyncio.timeout(seconds):
        while True:
            batch = await consumer.poll(100, 0.2)
            owner.commit(batch)
            if source in batch.ends:
                return batch


class LogSuite:
    """Inherit it, and give a fixture `world`."""

    async def test_a_record_comes_back_as_it_was_appended(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        message = make_message(topic, 1, value=b"\x00\xff body")

        await world.log.append([message])
        async with consuming(world, [topic], owner) as consumer:
            [record] = await read(consumer, owner, 1)

        assert decode_record(record.key, record.headers) == message.envelope
        assert (record.key, record.value, record.offset) == ("east", b"\x00\xff body", 0)
        assert record.source.rpartition("/")[0] == topic
        assert record.appended_ms > 0

    async def test_records_of_a_key_keep_their_order_across_appends(self, world: World) -> None:
        topic, owner = make_topic(), Owner()

        for start in range(0, 60, 20):
            await world.log.append([make_message(topic, n, key=f"c{n % 3}") for n in range(start, start + 20)])
        async with consuming(world, [topic], owner) as consumer:
            records = await read(consumer, owner, 60)

        for key in ("c0", "c1", "c2"):
            mine = [n for n in values(records) if f"c{n % 3}" == key]
            assert mine == sorted(mine)
            assert len(mine) == 20
        assert len({record.source for record in records if record.key == "c0"}) == 1

    async def test_a_poll_hands_out_no_more_than_its_limit(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, n) for n in range(30)])

        async with consuming(world, [topic], owner) as consumer:
            sizes: list[int] = []
            async with asyncio.timeout(20):
                while sum(sizes) < 30:
                    sizes.append(len((await consumer.poll(7, 0.2)).records))

        assert max(sizes) == 7

    async def test_a_new_consumer_goes_on_at_the_owners_positions(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, n) for n in range(10)])
        async with consuming(world, [topic], owner) as consumer:
            first = (await read(consumer, owner, 10))[0]
        owner.positions[first.source] = 6

        async with consuming(world, [topic], owner) as consumer:
            records = await read(consumer, owner, 4)

        assert values(records) == [6, 7, 8, 9]

    async def test_rewind_hands_out_again_what_was_not_committed(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, n) for n in range(10)])

        async with consuming(world, [topic], owner) as consumer:
            taken = await read(consumer, owner, 10)
            source = taken[0].source
            owner.positions[source] = 4
            await consumer.rewind(source)
            again = await read(consumer, owner, 6)

        assert values(again) == [4, 5, 6, 7, 8, 9]

    async def test_rewinding_a_source_of_another_member_does_nothing(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, 1)])

        async with consuming(world, [topic], owner) as consumer:
            await consumer.rewind("federation.events.elsewhere/0")
            records = await read(consumer, owner, 1)

        assert values(records) == [1]

    async def test_hints_and_lag_are_told_without_harm(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, n) for n in range(5)])

        async with consuming(world, [topic], owner) as consumer:
            records = await read(consumer, owner, 5)
            await until_ends(consumer, owner, records[0].source)
            await consumer.hint({**owner.positions, "federation.events.elsewhere/0": 3})
            lag = await consumer.lag()

        assert lag[records[0].source] == 0

    async def test_a_pattern_finds_topics_that_appear_later_and_leaves_the_parked_ones(self, world: World) -> None:
        prefix, owner = make_topic(), Owner()
        await world.log.append([make_message(f"{prefix}.a", 1)])

        async with consuming(world, [f"{prefix}*"], owner) as consumer:
            await read(consumer, owner, 1)
            await world.log.append([make_message("federation.events.parked", 9)])
            await world.log.append([make_message(f"{prefix}.b", 2)])
            [later] = await read(consumer, owner, 1)

        assert later.source.startswith(f"{prefix}.b/")

    async def test_appended_records_reach_a_waiting_consumer_soon(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, 1)])

        async with consuming(world, [topic], owner) as consumer:
            await read(consumer, owner, 1)
            waiting = asyncio.create_task(consumer.poll(10, 20.0))
            await asyncio.sleep(0.05)
            await world.log.append([make_message(topic, 2)])
            async with asyncio.timeout(2.0):
                batch = await waiting

        assert values(batch.records) == [2]

    async def test_the_end_of_a_source_is_told_only_where_it_is_reached(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, n) for n in range(10)])

        async with consuming(world, [topic], owner) as consumer:
            seen: list[tuple[int, bool]] = []
            async with asyncio.timeout(20):
                while not seen or not seen[-1][1]:
                    batch = await consumer.poll(4, 0.2)
                    for record in owner.commit(batch)[-1:]:
                        source = record.source
                    if owner.positions:
                        seen.append((owner.positions[source], source in batch.ends))

        assert all(position == 10 for position, ended in seen if ended)
        assert any(position < 10 for position, ended in seen if not ended)

    async def test_two_members_share_the_sources_and_a_leave_loses_nothing(self, world: World) -> None:
        topics, owner = [make_topic(), make_topic()], Owner()
        sent = 0

        async def append() -> None:
            nonlocal sent
            batch = [make_message(topics[n % 2], sent + n, key=f"k{n}") for n in range(20)]
            sent += 20
            await world.log.append(batch)

        await append()
        group = f"group-{next(numbers)}"
        taken: list[Record] = []
        async with consuming(world, topics, owner, group) as first:
            taken += await read(first, owner, 20)
            async with consuming(world, topics, owner, group) as second:
                await append()
                shares = await both_until(first, second, owner, taken, 40)
                await append()
                await both_until(first, second, owner, taken, 60)
                assert all(share for share in shares)
                assert not shares[0] & shares[1]
            await append()
            taken += await read(first, owner, 20)

        assert sorted(values(taken)) == list(range(80))

    async def test_a_position_that_retention_has_passed_is_told_and_reading_goes_on_behind_it(
        self, world: World
    ) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, n) for n in range(10)])
        async with consuming(world, [topic], owner) as consumer:
            source = (await read(consumer, owner, 10))[0].source
        await world.forget(topic)
        owner.positions[source] = 2

        async with consuming(world, [topic], owner) as consumer:
            reset = await until_reset(consumer, source)
            owner.positions[source] = reset
            await world.log.append([make_message(topic, 777)])
            records: list[Record] = []
            async with asyncio.timeout(20):
                while 777 not in values(records):
                    records += owner.commit(await consumer.poll(100, 0.2))

        assert reset >= 5
        assert records[0].offset == reset

    async def test_a_position_beyond_the_end_is_told_and_reading_starts_at_the_beginning(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, n) for n in range(3)])
        async with consuming(world, [topic], owner) as consumer:
            source = (await read(consumer, owner, 3))[0].source
        owner.positions[source] = 1000

        async with consuming(world, [topic], owner) as consumer:
            reset = await until_reset(consumer, source)
            owner.positions[source] = reset
            records = await read(consumer, owner, 3)

        assert reset == 0
        assert values(records) == [0, 1, 2]

    async def test_a_source_without_position_starts_at_what_is_held_and_that_is_no_reset(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, n) for n in range(10)])
        await world.forget(topic)

        async with consuming(world, [topic], owner) as consumer:
            batch = Batch()
            async with asyncio.timeout(20):
                while not batch.records and not batch.reset:
                    batch = await consumer.poll(100, 0.2)

        assert not batch.reset
        assert batch.records[0].offset >= 5

    async def test_what_was_appended_outlives_a_restart(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, n) for n in range(5)])

        await world.restart()
        async with consuming(world, [topic], owner) as consumer:
            before = await read(consumer, owner, 5, seconds=60)
            await world.log.append([make_message(topic, 5)])
            after = await read(consumer, owner, 1, seconds=60)

        assert values(before) == [0, 1, 2, 3, 4]
        assert [record.offset for record in after] == [5]

    async def test_an_append_during_an_outage_is_unavailable_in_its_time_and_works_again_afterwards(
        self, world: World
    ) -> None:
        topic, owner = make_topic(), Owner()
        await world.log.append([make_message(topic, 1)])

        await world.break_down()
        with pytest.raises(Unavailable):
            async with asyncio.timeout(20):
                await world.log.append([make_message(topic, 2)])
        await world.mend()
        await append_when_possible(world, make_message(topic, 3))

        async with consuming(world, [topic], owner) as consumer:
            found: list[int] = []
            while 3 not in found:
                found += values(await read(consumer, owner, 1, seconds=60))
        assert found[0] == 1

    async def test_a_record_that_is_too_long_is_refused_and_nothing_of_the_append_stands(self, world: World) -> None:
        topic, owner = make_topic(), Owner()

        with pytest.raises(Invalid):
            await world.log.append([make_message(topic, 1), make_message(topic, 2, value=b"x" * (MAX_BODY_BYTES + 1))])
        await world.log.append([make_message(topic, 3, value=b"x" * MAX_BODY_BYTES)])

        async with consuming(world, [topic], owner) as consumer:
            [record] = await read(consumer, owner, 1)
        assert record.offset == 0
        assert len(record.value) == MAX_BODY_BYTES

    async def test_polls_that_are_cancelled_lose_nothing(self, world: World) -> None:
        topic, owner = make_topic(), Owner()
        taken: list[Record] = []

        async with consuming(world, [topic], owner) as consumer:
            for number in range(30):
                poll = asyncio.create_task(consumer.poll(100, 5.0))
                await asyncio.sleep(0.002 * (number % 5))
                appended = asyncio.create_task(world.log.append([make_message(topic, number)]))
                await asyncio.sleep(0.001 * (number % 4))
                poll.cancel()
                with suppress(asyncio.CancelledError):
                    taken += owner.commit(await poll)
                await appended
            if len(taken) < 30:
                taken += await read(consumer, owner, 30 - len(taken))

        assert values(taken) == list(range(30))

    async def test_an_append_that_is_cancelled_leaves_the_log_in_order(self, world: World) -> None:
        topic, owner = make_topic(), Owner()

        for number in range(20):
            append = asyncio.create_task(world.log.append([make_message(topic, number)]))
            await asyncio.sleep(0.0005 * (number % 4))
            append.cancel()
            await asyncio.gather(append, return_exceptions=True)
        await world.log.append([make_message(topic, 99)])

        async with consuming(world, [topic], owner) as consumer:
            found: list[int] = []
            while 99 not in found:
                found += values(await read(consumer, owner, 1))
        assert found == sorted(found)


async def both_until(
    first: Consumer, second: Consumer, owner: Owner, taken: list[Record], want: int
) -> tuple[set[str], set[str]]:
    """Poll both members until so many records were taken; returns the sources that each told of last."""
    shares: list[set[str]] = [set(), set()]
    async with asyncio.timeout(40):
        while len(taken) < want or not all(shares) or shares[0] & shares[1]:
            batches = await asyncio.gather(first.poll(100, 0.2), second.poll(100, 0.2))
            for place, consumer in enumerate((first, second)):
                taken += owner.commit(batches[place])
                shares[place] = set(await consumer.lag())
    return shares[0], shares[1]


async def until_reset(consumer: Consumer, source: str) -> int:
    async with asyncio.timeout(20):
        while True:
            batch = await consumer.poll(100, 0.2)
            if source in batch.reset:
                return batch.reset[source]
            assert not batch.records, "records were handed out before the reset was told"


async def append_when_possible(world: World, message: Message) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await world.log.append([message])
            except Unavailable:
                await asyncio.sleep(0.2)
            else:
                return
