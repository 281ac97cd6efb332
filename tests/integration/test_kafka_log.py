"""What only a real broker can show: outages, rebalances, poison that cannot be decoded, a consumer that stands still."""

import asyncio
import gc
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.record._crc32c import crc as crc32c

from adapters.kafka.consumer import KafkaConsumer, pattern_of
from adapters.kafka.log import KafkaLog
from adapters.kafka.settings import KafkaSettings
from federation.domain.errors import Unavailable
from federation.ports import Record
from tests.contract.log_suite import Owner, make_message, make_topic, numbers, read, values
from tests.testbed.kafka import KafkaBroker


@asynccontextmanager
async def logging_to(broker: KafkaBroker, **settings: object) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(KafkaSettings(bootstrap=broker.bootstrap, **{"append_seconds": 3.0, **settings}))  # type: ignore[arg-type]
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def administering(broker: KafkaBroker) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def producing(broker: KafkaBroker) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def make_group() -> str:
    return f"group-{next(numbers)}"


async def keep_polling(consumer: KafkaConsumer, owner: Owner, taken: list[Record], stop: asyncio.Event) -> None:
    """As the ingester does: commit what follows, go back where another was faster, go on after an outage."""
    while not stop.is_set():
        try:
            batch = await consumer.poll(100, 0.2)
        except Unavailable:
            await asyncio.sleep(0.2)
            continue
        fresh = owner.commit(batch)
        taken += fresh
        for source in {record.source for record in batch.records} - {record.source for record in fresh}:
            await consumer.rewind(source)


async def append_all(log: KafkaLog, topics: Sequence[str], count: int, pause: float) -> None:
    for number in range(count):
        while True:
            try:
                await log.append([make_message(topics[number % len(topics)], number)])
                break
            except Unavailable:
                await asyncio.sleep(0.1)
        await asyncio.sleep(pause)


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is awaited is in another process
            await asyncio.sleep(0.05)


async def test_topics_are_made_with_the_brokers_clock_and_only_the_shared_one_has_partitions(
    kafka: KafkaBroker,
) -> None:
    topic = make_topic()

    async with logging_to(kafka, partitions=5) as log, administering(kafka) as admin:
        await log.append([make_message("federation.events", 1), make_message(topic, 2)])
        described = await admin.describe_topics(["federation.events", topic])
        [configs] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])

    partitions = {entry["topic"]: len(entry["partitions"]) for entry in described}
    assert partitions == {"federation.events": 5, topic: 1}
    found = {entry[0]: entry[1] for entry in configs.resources[0][4]}
    assert found["message.timestamp.type"] == "LogAppendTime"
    assert found["cleanup.policy"] == "delete"


async def test_keys_are_spread_over_the_shared_topic_and_all_come_back(kafka: KafkaBroker) -> None:
    owner = Owner()

    async with logging_to(kafka, partitions=5) as log:
        await log.append([make_message("federation.events", n, key=f"spread{n % 12}") for n in range(120)])
        consumer = await log.consume(make_group(), ["federation.events"], owner)
        records: list[Record] = []
        while len(records) < 120:
            records += [r for r in await read(consumer, owner, 1) if r.key.startswith("spread")]

    assert len({record.source for record in records}) > 1
    for key in {record.key for record in records}:
        mine = [record for record in records if record.key == key]
        assert values(mine) == sorted(values(mine))
        assert len({record.source for record in mine}) == 1


async def test_a_producers_time_is_never_taken_for_later_than_now(kafka: KafkaBroker) -> None:
    topic, owner = make_topic(), Owner()
    async with administering(kafka) as admin, producing(kafka) as producer:
        config = {"message.timestamp.type": "CreateTime"}
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=config)])
        tomorrow = time.time_ns() // 1_000_000 + 30 * 60 * 1000
        await producer.send_and_wait(topic, b"1", timestamp_ms=tomorrow)

    async with logging_to(kafka) as log:
        consumer = await log.consume(make_group(), [topic], owner)
        [record] = await read(consumer, owner, 1)

    assert abs(record.appended_ms - time.time_ns() // 1_000_000) < 60_000


async def test_tombstones_and_records_without_key_or_headers_come_as_empty(kafka: KafkaBroker) -> None:
    topic, owner = make_topic(), Owner()

    async with logging_to(kafka) as log, producing(kafka) as producer:
        await log.append([make_message(topic, 1)])
        await producer.send_and_wait(topic, None, key=b"\xff", headers=[("ce_id", None)])
        await producer.send_and_wait(topic, b"value")
        consumer = await log.consume(make_group(), [topic], owner)
        _, tombstone, bare = await read(consumer, owner, 3)

    assert (tombstone.key, tombstone.value, tombstone.headers) == ("\ufffd", b"", (("ce_id", b""),))
    assert (bare.key, bare.value, bare.headers) == ("", b"value", ())


async def test_a_record_that_cannot_be_decoded_is_handed_out_empty_and_stops_nobody(kafka: KafkaBroker) -> None:
    bad, good, owner = make_topic(), make_topic(), Owner()

    async with logging_to(kafka) as log, producing(kafka) as producer:
        await log.append([make_message(bad, 0), make_message(good, 100)])
        await produce_undecodable(producer, bad)
        await log.append([make_message(bad, 1), *(make_message(good, 101 + n) for n in range(50))])
        consumer = await log.consume(make_group(), [bad, good], owner)
        records = await read(consumer, owner, 54)

    from_bad = [record for record in records if record.source == f"{bad}/0"]
    assert [record.offset for record in from_bad] == [0, 1, 2]
    assert (from_bad[1].key, from_bad[1].headers, from_bad[1].value) == ("", (), b"")
    assert values([r for r in records if r.source == f"{good}/0"]) == list(range(100, 151))


async def produce_undecodable(producer: AIOKafkaProducer, topic: str) -> None:
    """A record with a header whose name is no UTF-8; the letters are exchanged on the way out, with their checksum."""
    batch = producer.create_batch()
    batch.append(key=b"east", value=b"x", timestamp=None, headers=[("NAME", b"1")])
    buffer = bytearray(batch._build())
    place = buffer.index(b"NAME")
    buffer[place : place + 4] = b"\xff\xfe\xff\xfe"
    buffer[17:21] = crc32c(bytes(buffer[21:])).to_bytes(4, "big")
    batch._buffer = bytes(buffer)
    await (await producer.send_batch(batch, topic, partition=0))


async def test_a_hint_is_committed_for_our_own_partitions_only(kafka: KafkaBroker) -> None:
    topic, owner, group = make_topic(), Owner(), make_group()

    async with logging_to(kafka, hint_seconds=0.0) as log, administering(kafka) as admin:
        await log.append([make_message(topic, n) for n in range(5)])
        consumer = await log.consume(group, [topic], owner)
        await read(consumer, owner, 5)
        await consumer.hint({f"{topic}/0": 3, "federation.events.elsewhere/0": 9})
        committed = await admin.list_consumer_group_offsets(group)

    assert {tp: found.offset for tp, found in committed.items()} == {TopicPartition(topic, 0): 3}


async def test_the_hint_is_never_where_a_consumer_goes_on(kafka: KafkaBroker) -> None:
    topic, owner, group = make_topic(), Owner(), make_group()

    async with logging_to(kafka, hint_seconds=0.0) as log:
        await log.append([make_message(topic, n) for n in range(5)])
        first = await log.consume(group, [topic], owner)
        await read(first, owner, 5)
        await first.hint({f"{topic}/0": 5})
        await first.close()
        owner.positions[f"{topic}/0"] = 2
        second = await log.consume(group, [topic], owner)
        records = await read(second, owner, 3)

    assert values(records) == [2, 3, 4]


async def test_a_hint_while_the_broker_hangs_is_given_up_quietly(kafka: KafkaBroker) -> None:
    topic, owner = make_topic(), Owner()

    async with logging_to(kafka, hint_seconds=0.0) as log:
        await log.append([make_message(topic, 1)])
        consumer = await log.consume(make_group(), [topic], owner)
        await read(consumer, owner, 1)
        kafka.pause()
        try:
            async with asyncio.timeout(4):
                await consumer.hint({f"{topic}/0": 1})
        finally:
            kafka.resume()


async def test_positions_that_cannot_be_asked_for_reach_the_owner_and_are_asked_again(kafka: KafkaBroker) -> None:
    topic, owner = make_topic(), Owner()
    down = True

    async def positions(sources: Sequence[str]) -> object:
        if down:
            raise Unavailable("the database is down")
        return await owner(sources)

    async with logging_to(kafka) as log:
        await log.append([make_message(topic, 1)])
        consumer = await log.consume(make_group(), [topic], positions)
        with pytest.raises(Unavailable, match="database"):
            await read(consumer, owner, 1)
        down = False
        records = await read(consumer, owner, 1)

    assert values(records) == [1]


async def test_nobody_stands_at_the_end_while_the_broker_is_away(kafka: KafkaBroker) -> None:
    topic, owner = make_topic(), Owner()

    async with logging_to(kafka) as log:
        await log.append([make_message(topic, 1)])
        consumer = await log.consume(make_group(), [topic], owner)
        await read(consumer, owner, 1)
        before = await consumer.poll(10, 1.0)
        kafka.pause()
        try:
            await asyncio.sleep(4)
            away = await consumer.poll(10, 0.2)
        finally:
            kafka.resume()
        await until_at_end(consumer, f"{topic}/0")

    assert f"{topic}/0" in before.ends
    assert not away.ends


async def until_at_end(consumer: KafkaConsumer, source: str) -> None:
    async with asyncio.timeout(30):
        while source not in (await consumer.poll(10, 0.2)).ends:
            pass


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_broker_that_dies_and_comes_back_costs_nothing(kafka: KafkaBroker) -> None:
    topic, owner, stop = make_topic(), Owner(), asyncio.Event()
    taken: list[Record] = []

    async with logging_to(kafka) as log:
        await log.append([make_message(topic, 0)])
        consumer = await log.consume(make_group(), [topic], owner)
        polling = asyncio.create_task(keep_polling(consumer, owner, taken, stop))
        appending = asyncio.create_task(append_all(log, [topic], 200, 0.02))
        await asyncio.sleep(1)
        await asyncio.to_thread(kafka.stop)
        await asyncio.sleep(3)
        await asyncio.to_thread(kafka.start)
        async with asyncio.timeout(60):
            await appending
        await until(lambda: 199 in values(taken), 60)
        stop.set()
        await polling

    assert set(values(taken)) == set(range(200))
    assert len({record.offset for record in taken}) == len(taken)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_members_that_come_and_go_lose_nothing_and_take_nothing_twice(kafka: KafkaBroker) -> None:
    topics, owner, stop, group = [make_topic(), make_topic(), make_topic()], Owner(), asyncio.Event(), make_group()
    taken: list[Record] = []

    async with logging_to(kafka) as log:
        await log.append([make_message(topic, 9999) for topic in topics])
        steady = await log.consume(group, topics, owner)
        polling = asyncio.create_task(keep_polling(steady, owner, taken, stop))
        appending = asyncio.create_task(append_all(log, topics, 600, 0.01))
        for _ in range(3):
            guest = await log.consume(group, topics, owner)
            leave = asyncio.Event()
            visiting = asyncio.create_task(keep_polling(guest, owner, taken, leave))
            await asyncio.sleep(1.5)
            leave.set()
            await visiting
            await guest.close()
        await appending
        await until(lambda: len(taken) >= 603, 60)
        stop.set()
        await polling

    assert sorted(values(taken)) == [*range(600), 9999, 9999, 9999]


async def test_a_consumer_that_stands_still_begins_anew(kafka: KafkaBroker) -> None:
    topic, owner = make_topic(), Owner()

    async with logging_to(kafka, stall_seconds=1.0) as log:
        await log.append([make_message(topic, 1)])
        consumer = await log.consume(make_group(), [topic], owner)
        await read(consumer, owner, 1)
        # What aiokafka does to itself: the task that fetches has ended, and nothing says so.
        assert consumer._kafka is not None
        consumer._kafka._fetcher._fetch_task.cancel()
        await log.append([make_message(topic, 2)])
        records = await read(consumer, owner, 1)

    assert values(records) == [2]
    assert consumer.restarts == 1


async def test_a_consumer_with_nothing_to_read_is_left_alone(kafka: KafkaBroker) -> None:
    topic, owner = make_topic(), Owner()

    async with logging_to(kafka, stall_seconds=0.5) as log:
        await log.append([make_message(topic, 1)])
        consumer = await log.consume(make_group(), [topic], owner)
        await read(consumer, owner, 1)
        for _ in range(10):
            await consumer.poll(10, 0.2)
        stalled = consumer.stalled
        await asyncio.sleep(2)  # the owner is busy elsewhere, and records come meanwhile
        await log.append([make_message(topic, 2)])
        records = await read(consumer, owner, 1)

    assert values(records) == [2]
    assert (consumer.restarts, stalled) == (0, False)


async def test_a_topic_that_was_deleted_and_made_again_is_read_from_its_beginning(kafka: KafkaBroker) -> None:
    topic, owner = make_topic(), Owner()

    async with logging_to(kafka) as log, administering(kafka) as admin:
        await log.append([make_message(topic, n) for n in range(5)])
        consumer = await log.consume(make_group(), [topic], owner)
        await read(consumer, owner, 5)
        await consumer.close()
        await admin.delete_topics([topic])
        await asyncio.sleep(1)
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await log.append([make_message(topic, 77)])
        again = await log.consume(make_group(), [topic], owner)
        reset: dict[str, int] = {}
        async with asyncio.timeout(20):
            while not reset:
                reset = dict((await again.poll(10, 0.2)).reset)
        owner.positions |= reset
        records = await read(again, owner, 1)

    assert reset == {f"{topic}/0": 0}
    assert values(records) == [77]


async def test_appends_that_are_cancelled_while_they_connect_leak_no_connection(
    kafka: KafkaBroker, caplog: pytest.LogCaptureFixture
) -> None:
    topic = make_topic()

    with caplog.at_level(logging.ERROR):
        for number in range(40):
            async with logging_to(kafka) as log:
                append = asyncio.create_task(log.append([make_message(topic, number)]))
                await asyncio.sleep(0.0007 * (number % 20))
                append.cancel()
                await asyncio.gather(append, return_exceptions=True)
        gc.collect()
        await asyncio.sleep(0)

    assert "Unclosed" not in caplog.text


async def test_a_broker_that_is_not_there_is_unavailable_in_its_time() -> None:
    settings = KafkaSettings(bootstrap="127.0.0.1:1", append_seconds=1.0, start_seconds=1.0)
    log, topic = KafkaLog(settings), make_topic()

    async with asyncio.timeout(8):
        with pytest.raises(Unavailable):
            await log.append([make_message(topic, 1)])
        with pytest.raises(Unavailable):
            await log.consume("group", [topic], Owner())
        await log.close()


async def test_an_agent_writes_to_its_own_topic_and_to_no_other(secure_kafka: KafkaBroker) -> None:
    name = f"acl{next(numbers)}"
    secure_kafka.allow("agent-east", "Write", topic=f"federation.events.{name}")
    # The first to write over TLS finds a broker that has just begun: it may take its time.
    async with logging_to(secure_kafka, **secured(secure_kafka, "admin"), append_seconds=60.0) as admin:
        await admin.append([make_message(f"federation.events.{name}", 1), make_message("federation.events.other", 1)])

    async with logging_to(secure_kafka, **secured(secure_kafka, "agent-east")) as agent:
        await agent.append([make_message(f"federation.events.{name}", 2)])
        with pytest.raises(Unavailable):
            await agent.append([make_message("federation.events.other", 2)])
        await agent.append([make_message(f"federation.events.{name}", 3)])


async def test_a_group_that_we_may_not_read_in_is_unavailable(secure_kafka: KafkaBroker) -> None:
    async with logging_to(secure_kafka, **secured(secure_kafka, "agent-west"), start_seconds=5.0) as agent:
        with pytest.raises(Unavailable):
            await read(await agent.consume("hub", ["federation.events*"], Owner()), Owner(), 1)


async def test_a_wrong_password_is_unavailable(secure_kafka: KafkaBroker) -> None:
    wrong = {**secured(secure_kafka, "agent-east"), "sasl_password": "guess"}

    async with logging_to(secure_kafka, **wrong) as agent:
        with pytest.raises(Unavailable):
            await agent.append([make_message(make_topic(), 1)])


def secured(broker: KafkaBroker, user: str) -> dict[str, object]:
    assert broker.security is not None
    return {
        "security_protocol": "SASL_SSL",
        "sasl_username": user,
        "sasl_password": broker.security.password,
        "ca_file": broker.ca,
    }


def test_settings_do_not_show_the_password() -> None:
    assert "hush" not in repr(KafkaSettings(bootstrap="h:1", sasl_password="hush"))


@pytest.mark.parametrize(
    ("topics", "topic", "matches"),
    [
        (["federation.events*"], "federation.events", True),
        (["federation.events*"], "federation.events.east", True),
        (["federation.events*"], "federation.events.parked", False),
        (["federation.events*"], "federation.events.parked2", True),
        (["federation.events*"], "federationXevents", False),
        (["federation.events.parked"], "federation.events.parked", True),
        (["a.b", "c*"], "a.b", True),
        (["a.b", "c*"], "a.bc", False),
        (["a.b", "c*"], "axb", False),
        (["a.b", "c*"], "cd", True),
    ],
)
def test_the_expression_for_kafka_takes_what_a_topic_or_pattern_names(
    topics: list[str], topic: str, matches: bool
) -> None:
    assert bool(re.compile(pattern_of(topics)).match(topic)) is matches
