"""The real parts that benchmarks stand on: a broker, a PostgreSQL server, databases with the schema, folders."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from adapters.kafka.log import KafkaLog
from adapters.kafka.settings import KafkaSettings
from adapters.sql.schema import migrate
from adapters.sql.store import SqlStore, open_store
from tests.testbed.kafka import KafkaBroker
from tests.testbed.postgres import Postgres


@contextmanager
def running_kafka() -> Iterator[str]:
    """The address of a broker of our own; raises the test bed's `Unavailable` where there can be none."""
    broker = KafkaBroker(heap_megabytes=768)
    try:
        broker.start()
        yield broker.bootstrap
    finally:
        broker.close()


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of a server of our own that is durable, as one in use is."""
    server = Postgres(fsync=True, settings={"shared_buffers": "512MB", "max_wal_size": "4GB"})
    try:
        server.start()
        yield server.url
    finally:
        server.close()


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="federation-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[SqlStore]:
    """A store on *url*, brought to our schema."""
    await migrate(url)
    store = await open_store(url)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_kafka(bootstrap: str) -> AsyncIterator[KafkaLog]:
    """The log as the program opens it."""
    log = KafkaLog(KafkaSettings(bootstrap=bootstrap, partitions=6, replication_factor=1))
    try:
        yield log
    finally:
        await log.close()
