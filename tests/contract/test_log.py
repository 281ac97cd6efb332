"""The contract of the event log, held to its adapters: in memory, embedded, and on a real broker."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from adapters.embedded.log import EmbeddedLog
from adapters.embedded.log_writer import LogSettings
from adapters.kafka.log import KafkaLog
from adapters.kafka.settings import KafkaSettings
from adapters.memory.log import MemoryLog
from tests.contract.log_suite import LogSuite, World, make_message
from tests.testbed.kafka import KafkaBroker


class WallClock:
    """The machine's own."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class MemoryWorld:
    def __init__(self) -> None:
        self.log = MemoryLog(WallClock())

    async def break_down(self) -> None:
        self.log.stop()

    async def mend(self) -> None:
        self.log.start()

    async def restart(self) -> None:
        self.log.stop()
        self.log.start()

    async def forget(self, topic: str) -> None:
        for source in self.log.sources():
            self.log.trim(source, 5)


class EmbeddedWorld:
    """Breaks by another's lock on its file, which is how a disk that hangs looks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.log = self._open()
        self._locker: sqlite3.Connection | None = None

    async def break_down(self) -> None:
        self._locker = sqlite3.connect(self._path, isolation_level=None)
        self._locker.execute("BEGIN IMMEDIATE")

    async def mend(self) -> None:
        assert self._locker is not None
        self._locker.close()

    async def restart(self) -> None:
        await self.log.close()
        self.log = self._open()

    async def forget(self, topic: str) -> None:
        await self.log.append([make_message(topic, 100 + n) for n in range(100)])
        async with asyncio.timeout(5):
            while self.log.bounds(f"{topic}/0")[0] < 5:  # noqa: ASYNC110 - the log trims when it likes
                await asyncio.sleep(0.01)

    def _open(self) -> EmbeddedLog:
        return EmbeddedLog(self._path, WallClock(), LogSettings(retention_records=50, trim_every_records=90))


class KafkaWorld:
    """Breaks by freezing the broker: connections stay, answers do not come."""

    def __init__(self, broker: KafkaBroker) -> None:
        self._broker = broker
        self.log = KafkaLog(KafkaSettings(bootstrap=broker.bootstrap, append_seconds=3.0))

    async def break_down(self) -> None:
        self._broker.pause()

    async def mend(self) -> None:
        self._broker.resume()

    async def restart(self) -> None:
        await asyncio.to_thread(self._broker.restart)

    async def forget(self, topic: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._broker.bootstrap)
        await admin.start()
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=6)})
        await admin.close()


class TestMemoryLog(LogSuite):
    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        world = MemoryWorld()
        yield world
        await world.log.close()


class TestEmbeddedLog(LogSuite):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[World]:
        world = EmbeddedWorld(tmp_path / "log.db")
        yield world
        await world.log.close()


class TestKafkaLog(LogSuite):
    @pytest.fixture
    async def world(self, kafka: KafkaBroker) -> AsyncIterator[World]:
        world = KafkaWorld(kafka)
        yield world
        await world.log.close()
