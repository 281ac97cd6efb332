"""From a start to a right view of half a million nodes that SQL holds, beside a SELECT of the same rows."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.sql import codec
from adapters.sql.schema import migrate
from adapters.sql.store import open_store
from adapters.sql.tables import partitions
from adapters.system import SystemClock
from benchmarks.parts import folder
from benchmarks.pool import cluster_of, mixed_nodes
from benchmarks.report import Line, rounded
from benchmarks.world import cluster_name
from federation.services.image import Image

SOURCE: Final = "federation.events/0"


@dataclass(frozen=True, slots=True)
class Size:
    clusters: int = 100
    nodes: int = 5_000


FULL: Final = Size()
TINY: Final = Size(clusters=3, nodes=20)


async def cold(size: Size) -> Line:
    """cold"""
    async with AsyncExitStack() as stack:
        path = stack.enter_context(folder()) / "hub.db"
        await migrate(f"sqlite+aiosqlite:///{path}")
        fill(path, size)
        theirs = selected(path)
        began, on_processor = time.perf_counter(), time.process_time()
        store = await open_store(f"sqlite+aiosqlite:///{path}")
        stack.push_async_callback(store.close)
        image = Image(30.0)
        async with store.reader() as reader:
            await image.refresh(reader)
        image.pool.settle()
        ours, cpu = time.perf_counter() - began, time.process_time() - on_processor
        assert sum(len(member.names) for member in image.pool.members.values()) == size.clusters * size.nodes
    how = (
        f"{size.clusters} clusters × {size.nodes} nodes in SQLite, opened and read into the scheduler's columns, "
        f"{cpu:.1f} s of it on the processor; yardstick: SELECT of the same rows by sqlite3"
    )
    seconds, other = rounded(ours), rounded(theirs)
    return Line(name="cold", value=seconds, unit="s", yardstick=other, ratio=rounded(ours / theirs), conditions=how)


def fill(path: Path, size: Size) -> None:
    """The rows as the ingester leaves them; written by the driver alone, since this is not what is measured."""
    nodes, now_ms = mixed_nodes(size.nodes), SystemClock().now_ms()
    docs = [(node.name, codec.text(node)) for node in nodes]

    def rows() -> Iterator[tuple[str, str, str, int, str]]:
        for number in range(size.clusters):
            yield from ((cluster_name(number), name, SOURCE, number, doc) for name, doc in docs)

    connection = sqlite3.connect(path)
    with connection:
        connection.executemany(
            "INSERT INTO nodes (cluster, node, source, position, doc) VALUES (?, ?, ?, ?, ?)", rows()
        )
        clusters = [cluster_of(cluster_name(number), nodes, now_ms) for number in range(size.clusters)]
        connection.executemany(
            "INSERT INTO clusters (name, source, revision, doc) VALUES (?, ?, ?, ?)", map(codec.cluster_row, clusters)
        )
        partition = {**dict.fromkeys((column.name for column in partitions.columns), 0), "source": SOURCE}
        partition["position"] = size.clusters
        connection.execute(f"INSERT INTO partitions VALUES ({', '.join('?' * len(partition))})", [*partition.values()])
    connection.close()


def selected(path: Path) -> float:
    connection = sqlite3.connect(path)
    began = time.perf_counter()
    for _ in connection.execute("SELECT cluster, doc FROM nodes"):
        pass
    seconds = time.perf_counter() - began
    connection.close()
    return seconds
