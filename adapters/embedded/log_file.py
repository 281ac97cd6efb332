"""The SQLite file behind the embedded log: plain, synchronous, one connection that writes and one that reads.

A record's key in its table is its topic's number and its offset in one integer, so that a topic is one range.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from federation.ports import Record

OFFSETS_EACH: Final = 2**40
BUSY_SECONDS: Final = 2.0
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS topics (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, first INTEGER NOT NULL, next INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS records (
    place INTEGER PRIMARY KEY, appended_ms INTEGER NOT NULL, key BLOB NOT NULL, headers BLOB NOT NULL, value BLOB NOT NULL
) STRICT;
"""
_headers_decoder = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...])


class Row(NamedTuple):
    """A record before it has an offset."""

    topic: str
    key: bytes
    headers: bytes
    value: bytes


class Topic(NamedTuple):
    """What is held of a topic: offsets from *first* up to, not including, *next*."""

    id: int
    first: int
    next: int

    def place(self, offset: int) -> int:
        return self.id * OFFSETS_EACH + offset


class LogFile:
    """Opened once a process. `append` and `trim` are for one thread, `read` for another."""

    def __init__(self, path: Path, synchronous: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = self._connect(path)
        self._writer.execute("PRAGMA journal_mode=WAL")
        self._writer.execute(f"PRAGMA synchronous={synchronous}")
        self._writer.executescript(SCHEMA)
        self._reader = self._connect(path)
        self.topics = {
            name: Topic(number, first, following)
            for number, name, first, following in self._writer.execute("SELECT id, name, first, next FROM topics")
        }

    def append(self, rows: Sequence[Row], now_ms: int) -> dict[str, Topic]:
        """Write all rows in one transaction; returns the topics as they stand after it."""
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            topics = self._append(rows, now_ms)
            self._writer.execute("COMMIT")
        except BaseException:
            self._writer.rollback()
            raise
        self.topics.update(topics)
        return topics

    def read(self, topic: Topic, source: str, offset: int, limit: int) -> list[Record]:
        found = self._reader.execute(
            "SELECT place, appended_ms, key, headers, value FROM records"
            " WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
            (topic.place(offset), topic.place(topic.next), limit),
        )
        return [
            Record(
                source=source,
                offset=place - topic.place(0),
                appended_ms=appended_ms,
                key=key.decode(),
                headers=_headers_decoder.decode(headers),
                value=value,
            )
            for place, appended_ms, key, headers, value in found
        ]

    def trim(self, name: str, keep: int, horizon_ms: int, at_most: int) -> Topic:
        """Forget records of a topic beyond *keep* or appended before *horizon_ms*, at most so many at a time."""
        topic = self.topics[name]
        end = min(topic.first + at_most, topic.next)
        first = max(self._first_since(topic, end, horizon_ms), min(topic.next - keep, end))
        if first > topic.first:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                self._writer.execute(
                    "DELETE FROM records WHERE place < ? AND place >= ?", (topic.place(first), topic.place(0))
                )
                self._writer.execute("UPDATE topics SET first = ? WHERE id = ?", (first, topic.id))
                self._writer.execute("COMMIT")
            except BaseException:
                self._writer.rollback()
                raise
            self.topics[name] = topic._replace(first=first)
        return self.topics[name]

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _append(self, rows: Sequence[Row], now_ms: int) -> dict[str, Topic]:
        topics: dict[str, Topic] = {}
        places = []
        for row in rows:
            topic = topics.get(row.topic) or self.topics.get(row.topic) or self._add_topic(row.topic)
            places.append((topic.place(topic.next), now_ms, row.key, row.headers, row.value))
            topics[row.topic] = topic._replace(next=topic.next + 1)
        self._writer.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", places)
        self._writer.executemany("UPDATE topics SET next = ? WHERE id = ?", [(t.next, t.id) for t in topics.values()])
        return topics

    def _add_topic(self, name: str) -> Topic:
        added = self._writer.execute("INSERT INTO topics (name, first, next) VALUES (?, 0, 0)", (name,))
        return Topic(int(added.lastrowid or 0), 0, 0)

    def _first_since(self, topic: Topic, end: int, horizon_ms: int) -> int:
        found = self._writer.execute(
            "SELECT place FROM records WHERE place >= ? AND place < ? AND appended_ms >= ? ORDER BY place LIMIT 1",
            (topic.place(topic.first), topic.place(end), horizon_ms),
        ).fetchone()
        return end if found is None else int(found[0]) - topic.place(0)

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        # Each connection is used by one thread at a time, though not by the one that opened it.
        return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
