"""Virtual time: an event loop that counts the seconds that it would have waited, and clocks that may be wrong."""

import asyncio
import random
import selectors
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from adapters.system import encoded

START_MS: Final = 1_800_000_000_000


class _Counted(selectors.SelectSelector):
    """Never waits and never looks: nothing here has a file or a thread."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen")
        self.now += max(0.0, timeout)
        return []


class _Future(asyncio.Future[Any]):
    """Hashed by its number and not by its address: the order of a set of these is the same in each history."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop, number: int) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class _Task(asyncio.Task[Any]):
    def __init__(self, work: Any, *, loop: asyncio.AbstractEventLoop, number: int, **more: Any) -> None:
        self._number = number
        super().__init__(work, loop=loop, **more)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time only passes while everybody waits."""

    def __init__(self) -> None:
        self._counted = _Counted()
        self._numbers = count()
        super().__init__(self._counted)
        self.set_task_factory(self._task)

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self, number=next(self._numbers))

    def _task(self, loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Future[Any]:
        return _Task(work, loop=loop, number=next(self._numbers), **more)

    def time(self) -> float:
        return self._counted.now


@dataclass(slots=True)
class VirtualClock:
    """`ports.Clock` of one machine: *offset_ms* is by how much it is wrong."""

    offset_ms: int = 0

    def now_ms(self) -> int:
        return START_MS + int(asyncio.get_running_loop().time() * 1000) + self.offset_ms

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededIds:
    """`ports.Ids`: ULIDs by a clock and a seed."""

    def __init__(self, clock: VirtualClock, seed: str) -> None:
        self._clock = clock
        self._random = random.Random(seed)
        self._last = 0

    def new(self) -> str:
        fresh = (self._clock.now_ms() << 80) | self._random.getrandbits(80)
        self._last = max(fresh, self._last + 1)
        return encoded(self._last)
