"""The thread that writes the embedded log: what many callers append meanwhile becomes one transaction."""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from adapters.embedded.log_file import LogFile, Row, Topic
from federation.domain.errors import Unavailable
from federation.ports import Clock

ROWS_AT_ONCE: Final = 5000
TRIM_AT_MOST: Final = 4000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How durable, how long kept, and how long and how many callers may wait."""

    synchronous: str = "FULL"
    append_seconds: float = 10.0
    waiting_appends: int = 4096
    retention_seconds: int = 7 * 86_400
    retention_records: int = 500_000
    trim_every_records: int = 1000


@dataclass(slots=True)
class Append:
    """Rows that one caller waits for; *done* is told None, or what went wrong."""

    rows: Sequence[Row]
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[Exception | None]" = field(init=False)

    def __post_init__(self) -> None:
        self.done = self.loop.create_future()


class Writer:
    """Owns the file's writing connection. *moved* is called on the loop of an append with the topics that changed."""

    def __init__(self, file: LogFile, clock: Clock, settings: LogSettings, moved: Callable[[dict[str, Topic]], None]):
        self._file = file
        self._clock = clock
        self._settings = settings
        self._moved = moved
        self._queue: queue.Queue[Append | None] = queue.Queue(maxsize=settings.waiting_appends)
        self._untrimmed = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def submit(self, append: Append) -> None:
        try:
            self._queue.put_nowait(append)
        except queue.Full:
            raise Unavailable("too many callers wait for the event log") from None

    def stop(self, seconds: float) -> None:
        """Write what was submitted, then end. Blocks."""
        self._queue.put(None, timeout=seconds)
        self._thread.join(seconds)

    def _run(self) -> None:
        going_on = True
        while going_on:
            appends, going_on = self._gather()
            if appends:
                self._write(appends)

    def _gather(self) -> tuple[list[Append], bool]:
        """Wait for one append, then take what else is there; False once there will be no more."""
        appends: list[Append] = []
        rows = 0
        item = self._queue.get()
        while item is not None:
            appends.append(item)
            rows += len(item.rows)
            if rows >= ROWS_AT_ONCE:
                return appends, True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return appends, True
        return appends, False

    def _write(self, appends: Sequence[Append]) -> None:
        rows = [row for append in appends for row in append.rows]
        topics: dict[str, Topic] = {}
        outcome: Exception | None = None
        try:
            topics = self._file.append(rows, self._clock.now_ms())
        except sqlite3.Error as error:
            log.warning("the event log could not be written: %s", error)
            outcome = Unavailable(f"the event log could not be written: {error}")
        self._tell(appends, outcome, topics)
        if outcome is None:
            self._trim(len(rows), topics, appends[-1].loop)

    def _tell(self, appends: Sequence[Append], outcome: Exception | None, topics: dict[str, Topic]) -> None:
        # First what has moved: who is told that his append is done finds it in the log.
        self._on(appends[-1].loop, partial(self._moved, topics))
        by_loop: dict[asyncio.AbstractEventLoop, list[Append]] = {}
        for append in appends:
            by_loop.setdefault(append.loop, []).append(append)
        for loop, waiting in by_loop.items():
            self._on(loop, partial(settle, waiting, outcome))

    def _trim(self, appended: int, topics: dict[str, Topic], loop: asyncio.AbstractEventLoop) -> None:
        self._untrimmed += appended
        if self._untrimmed < self._settings.trim_every_records:
            return
        self._untrimmed = 0
        horizon = self._clock.now_ms() - self._settings.retention_seconds * 1000
        try:
            trimmed = {
                name: self._file.trim(name, self._settings.retention_records, horizon, TRIM_AT_MOST) for name in topics
            }
        except sqlite3.Error as error:
            log.warning("old records could not be removed: %s", error)
            return
        self._on(loop, partial(self._moved, trimmed))

    @staticmethod
    def _on(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        # A loop that has ended has nobody left who waits.
        if not loop.is_closed():
            loop.call_soon_threadsafe(call)


def settle(appends: Sequence[Append], outcome: Exception | None) -> None:
    """Answer those who still wait."""
    for append in appends:
        if not append.done.done():
            append.done.set_result(outcome)
