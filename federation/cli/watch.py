"""Watching a list: rows that changed are written again, as kubectl does, woken by the live stream or by a short poll."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from federation.cli.client import Client
from federation.cli.failures import Failed
from federation.cli.output import Column, aligned, cells, say

POLL_SECONDS: Final = 2.0
SETTLE_SECONDS: Final = 0.5
QUIET_SECONDS: Final = 30.0
_AGEING: Final = ("AGE", "SEEN")
Row = dict[str, Any]


def watch_table(columns: Sequence[Column], read: Callable[[], list[Row]], ticks: Iterator[None]) -> None:
    """Write the table, then after each tick the rows that are new or look different but for their age."""
    widths = [len(column.title) for column in columns]
    lasting = [index for index, column in enumerate(columns) if column.title not in _AGEING]
    known: set[tuple[str, ...]] = set()
    titles: list[list[str]] = [[column.title for column in columns]]
    for _ in ticks:
        looks = {tuple(line[index] for index in lasting): line for line in cells(columns, read())}
        fresh = [*titles, *(line for look, line in looks.items() if look not in known)]
        titles, known = [], set(looks)
        widths = [max(width, *(len(line[index]) for line in fresh), 0) for index, width in enumerate(widths)]
        for line in aligned(fresh, widths=widths) if fresh else []:
            say(line)


def ticks(client: Client) -> Iterator[None]:
    """At once, then whenever something may have changed, for as long as the caller asks."""
    changed, ended = threading.Event(), threading.Event()
    # A daemon: it may sit in a read of the stream when the command is interrupted.
    threading.Thread(target=_follow, args=(client, changed, ended), daemon=True).start()
    while True:
        yield
        time.sleep(SETTLE_SECONDS)
        changed.wait(POLL_SECONDS if ended.is_set() else QUIET_SECONDS)
        changed.clear()


def _follow(client: Client, changed: threading.Event, ended: threading.Event) -> None:
    try:
        for _ in client.events():
            changed.set()
    except Failed:
        # A server without a stream can still be polled; one that is gone is told by the next read.
        pass
    finally:
        ended.set()
        changed.set()
