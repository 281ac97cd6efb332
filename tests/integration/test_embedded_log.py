"""What only the file can show: durability over a kill, batching, retention, and a disk that does not take it."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.embedded.log import EmbeddedLog
from adapters.embedded.log_file import LogFile, Row
from adapters.embedded.log_writer import LogSettings
from federation.domain.errors import Unavailable
from tests.contract.log_suite import Owner, make_message, read, values

TOPIC = "federation.events.east"
SOURCE = f"{TOPIC}/0"
ROOT = Path(__file__).resolve().parents[2]

APPENDER = """
import asyncio, sys
from pathlib import Path
from adapters.embedded.log import EmbeddedLog
from tests.contract.log_suite import make_message
from tests.integration.test_embedded_log import SteppedClock, TOPIC

async def main():
    log = EmbeddedLog(Path(sys.argv[1]), SteppedClock())
    for number in range(100_000):
        await log.append([make_message(TOPIC, number)])
        print(number, flush=True)

asyncio.run(main())
"""


class SteppedClock:
    """Stands until it is moved."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


def open_log(path: Path, clock: SteppedClock | None = None, settings: LogSettings | None = None) -> EmbeddedLog:
    return EmbeddedLog(path / "log.db", clock or SteppedClock(), settings)


def make_rows(count: int, *, topic: str = TOPIC) -> list[Row]:
    return [Row(topic, b"east", b"\x90", b"%d" % number) for number in range(count)]


async def read_all(log: EmbeddedLog, topics: Sequence[str], want: int) -> list[int]:
    consumer = await log.consume("readers", topics, owner := Owner())
    records = await read(consumer, owner, want)
    await consumer.close()
    return values(records)


@pytest.mark.parametrize("acknowledged", [1, 40])
async def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path, acknowledged: int) -> None:
    command = [sys.executable, "-c", APPENDER, str(tmp_path / "log.db")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220 - nothing else runs
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(acknowledged)]
        process.kill()
        seen += [int(line) for line in process.stdout.read().split()]

    log = open_log(tmp_path)
    found = await read_all(log, [TOPIC], len(seen))
    await log.append([make_message(TOPIC, 7)])
    first, following = log.bounds(SOURCE)
    await log.close()

    assert found[: len(seen)] == seen == list(range(len(seen)))
    assert first == 0
    assert following > len(seen)


async def test_appends_of_many_callers_share_transactions_and_keep_each_callers_order(tmp_path: Path) -> None:
    log = open_log(tmp_path)

    async def caller(number: int) -> None:
        for step in range(10):
            await log.append([make_message(TOPIC, number * 10 + step)])

    started = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(100)))
    spent = time.perf_counter() - started
    found = await read_all(log, [TOPIC], 1000)
    await log.close()

    assert sorted(found) == list(range(1000))
    for number in range(100):
        mine = [value for value in found if value // 10 == number]
        assert mine == sorted(mine)
    assert spent < 30


async def test_a_waiting_consumer_is_woken_by_the_append_itself(tmp_path: Path) -> None:
    log, owner = open_log(tmp_path), Owner()
    consumer = await log.consume("readers", [TOPIC], owner)

    delays = []
    for number in range(20):
        waiting = asyncio.create_task(consumer.poll(10, 10.0))
        await asyncio.sleep(0.005)
        await log.append([make_message(TOPIC, number)])
        acknowledged = time.perf_counter()
        batch = await waiting
        delays.append(time.perf_counter() - acknowledged)
        owner.commit(batch)
    await log.close()

    assert sorted(delays)[len(delays) // 2] < 0.05


async def test_records_carry_the_time_of_the_log_not_of_the_event(tmp_path: Path) -> None:
    clock, owner = SteppedClock(5_000), Owner()
    log = open_log(tmp_path, clock)

    await log.append([make_message(TOPIC, 1)])
    clock.now = 9_000
    await log.append([make_message(TOPIC, 2)])
    consumer = await log.consume("readers", [TOPIC], owner)
    records = await read(consumer, owner, 2)
    await log.close()

    assert [record.appended_ms for record in records] == [5_000, 9_000]


async def test_what_is_older_than_the_retention_goes_even_when_all_of_it_is(tmp_path: Path) -> None:
    clock = SteppedClock()
    log = open_log(tmp_path, clock, LogSettings(retention_seconds=60, trim_every_records=10))

    await log.append([make_message(TOPIC, number) for number in range(9)])
    clock.now += 61_000
    await log.append([make_message(TOPIC, 9)])
    await log.close()
    log = open_log(tmp_path, clock, LogSettings(retention_seconds=60, trim_every_records=10))
    bounds = log.bounds(SOURCE)
    await log.close()

    assert bounds == (9, 10)


def test_offsets_go_on_after_everything_was_trimmed(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log.db", "FULL")
    file.append(make_rows(5), 1_000)

    trimmed = file.trim(TOPIC, keep=100, horizon_ms=2_000, at_most=100)
    file.close()
    file = LogFile(tmp_path / "log.db", "FULL")
    after = file.append(make_rows(1), 3_000)[TOPIC]
    [record] = file.read(after, SOURCE, after.first, 10)
    file.close()

    assert (trimmed.first, trimmed.next) == (5, 5)
    assert (after.first, after.next, record.offset) == (5, 6, 5)


def test_trimming_takes_no_more_at_a_time_than_it_may_and_only_from_its_topic(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log.db", "FULL")
    file.append([*make_rows(10), *make_rows(10, topic="other")], 1_000)

    steps = [file.trim(TOPIC, keep=2, horizon_ms=0, at_most=5).first for _ in range(3)]
    others = file.read(file.topics["other"], "other/0", 0, 100)
    file.close()

    assert steps == [5, 8, 8]
    assert len(others) == 10


async def test_an_append_fails_whole_and_the_next_one_works(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    await log.append([make_message(TOPIC, 0)])

    locker = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    results = await asyncio.gather(*(log.append([make_message(TOPIC, 9)]) for _ in range(3)), return_exceptions=True)
    locker.execute("ROLLBACK")
    locker.close()
    await log.append([make_message(TOPIC, 1)])
    found = await read_all(log, [TOPIC], 2)
    await log.close()

    assert [type(result) for result in results] == [Unavailable] * 3
    assert found == [0, 1]


async def test_callers_beyond_the_bound_are_turned_away_at_once(tmp_path: Path) -> None:
    log = open_log(tmp_path, settings=LogSettings(waiting_appends=2))
    await log.append([make_message(TOPIC, 0)])
    locker = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")

    busy = [asyncio.create_task(log.append([make_message(TOPIC, n)])) for n in range(8)]
    results = await asyncio.gather(*busy, return_exceptions=True)
    locker.close()
    await log.close()

    assert all(isinstance(result, Unavailable) for result in results)
    assert any("too many" in str(result) for result in results)


async def test_closing_writes_what_was_submitted_and_refuses_what_comes_later(tmp_path: Path) -> None:
    log = open_log(tmp_path)

    appends = [asyncio.create_task(log.append([make_message(TOPIC, number)])) for number in range(50)]
    await asyncio.sleep(0)
    await log.close()
    await asyncio.gather(*appends)
    with pytest.raises(Unavailable):
        await log.append([make_message(TOPIC, 99)])
    with pytest.raises(Unavailable):
        await log.consume("readers", [TOPIC], Owner())
    await log.close()

    again = open_log(tmp_path)
    assert again.bounds(SOURCE) == (0, 50)
    await again.close()


async def test_a_topic_without_records_is_read_to_its_end(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    consumer = await log.consume("readers", [TOPIC], Owner())

    batch = await consumer.poll(10, 0.0)
    await log.close()

    assert batch.ends == {SOURCE}
