"""The machine itself: its clock, its random numbers, its cores."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]


class SystemClock:
    """`ports.Clock` by the machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Ulids:
    """`ports.Ids`: 26 characters that sort by time, and within a millisecond by the order in which they were made."""

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._now_ms = clock or SystemClock().now_ms
        self._last = 0

    def new(self) -> str:
        fresh = (self._now_ms() << 80) | int.from_bytes(os.urandom(10), "big")
        self._last = max(fresh, self._last + 1)
        return encoded(self._last)


def encoded(value: int) -> str:
    """128 bits as 26 characters of Crockford's base 32."""
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])


class Threads:
    """`ports.Compute` by a thread of its own: numpy lets go of the lock while it works."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="plan")

    async def __call__(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(*arguments))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
