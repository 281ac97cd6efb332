"""The file that simulated members live in: one SQLite table of documents, written in short transactions."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from federation.domain.errors import Unavailable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    cluster TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (cluster, kind, key)
) STRICT, WITHOUT ROWID
"""
_PUT = "INSERT OR REPLACE INTO documents (cluster, kind, key, content) VALUES (?, ?, ?, ?)"
_DROP = "DELETE FROM documents WHERE cluster = ? AND kind = ? AND key = ?"
_LOCK_SECONDS = 2


class MembersFile:
    """Owned by one process at a time: a second one would write an old world over the new one.

    A commit survives the death of the process. The synchronous calls take about a millisecond, so that they may run
    on the event loop: between a change and its keeping nothing else can look.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._users = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _connected(path)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"cannot open the simulated members in {path.name}: {error}") from error

    def load(self, cluster: str) -> list[tuple[str, bytes]]:
        """(kind, content) of all documents of a cluster."""
        query = "SELECT kind, content FROM documents WHERE cluster = ?"
        with closing(self._connection.execute(query, (cluster,))) as cursor:
            return cursor.fetchall()

    def save(self, cluster: str, documents: Iterable[tuple[str, str, bytes | None]]) -> None:
        """All of them or none."""
        documents = list(documents)
        kept = [(cluster, kind, key, content) for kind, key, content in documents if content is not None]
        gone = [(cluster, kind, key) for kind, key, content in documents if content is None]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(_PUT, kept)
            self._connection.executemany(_DROP, gone)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise Unavailable(f"cannot write the simulated members to {self._path.name}: {error}") from error

    def enter(self) -> None:
        """One more member uses the file."""
        self._users += 1

    def leave(self) -> None:
        """The last one to leave closes it."""
        self._users -= 1
        if self._users == 0:
            self._connection.close()


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        for statement in ("PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL"):
            connection.execute(statement)
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute(_SCHEMA)
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
