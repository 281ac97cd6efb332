"""The supervisor: owns the loops of a process, starts a failed one again with back-off, and stops all within a limit."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from federation.domain.errors import Unavailable
from federation.services.metrics import FAILURES, LOOP_LAG

Loop = Callable[[asyncio.Event], Awaitable[None]]
Turn = Callable[[], Awaitable[None]]
LONGEST_BACK_OFF_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Health:
    """What each loop last said of itself: empty when it is well."""

    troubles: dict[str, str] = field(default_factory=dict)

    def well(self, worker: str) -> None:
        self.troubles.pop(worker, None)

    def ill(self, worker: str, why: str) -> None:
        self.troubles[worker] = why


async def supervise(
    loops: Mapping[str, Loop], stop: asyncio.Event, health: Health, drain_seconds: float = 10.0
) -> None:
    """Run *loops* until *stop*; each is told to stop and has *drain_seconds* to finish what it has begun."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_kept_alive(name, loop, stop, health), name=name) for name, loop in loops.items()]
        lag = group.create_task(_measure_lag(stop), name="loop lag")
        await stop.wait()
        _, late = await asyncio.wait([*tasks, lag], timeout=drain_seconds)
        for task in late:
            _log.warning("loop did not stop in time", worker=task.get_name(), seconds=drain_seconds)
            task.cancel()


async def _kept_alive(name: str, loop: Loop, stop: asyncio.Event, health: Health) -> None:
    failures = 0
    while not stop.is_set():
        began = asyncio.get_running_loop().time()
        try:
            await loop(stop)
            return
        except Exception as error:  # noqa: BLE001  the supervisor's own duty
            steady = asyncio.get_running_loop().time() - began > STEADY_SECONDS
            failures = 1 if steady else failures + 1
            FAILURES.labels(name).inc()
            health.ill(name, f"{type(error).__name__}: {error}")
            _tell(name, failures, error)
            await pause(stop, back_off(failures))


def _tell(worker: str, failures: int, error: Exception) -> None:
    """What is away comes back, and the loop with it; where the program itself failed, its traceback says how."""
    if isinstance(error, Unavailable):
        _log.warning("loop waits", worker=worker, failures=failures, error=str(error))
    else:
        _log.error("loop failed", worker=worker, failures=failures, exc_info=error)


async def take_turns(
    worker: str, turn: Turn, stop: asyncio.Event, health: Health, begin_anew: Turn | None = None
) -> None:
    """Take one *turn* after the other until *stop*; while a part that they need is away, wait and say so.

    *begin_anew* puts right, after a turn that was broken off, what it has left half done.
    """
    failures = 0
    while not stop.is_set():
        try:
            await turn()
            failures = 0
            health.well(worker)
        except Unavailable as error:
            failures += 1
            health.ill(worker, str(error))
            _tell(worker, failures, error)
            if begin_anew is not None:
                await begin_anew()
            await pause(stop, back_off(failures))


async def first_of(seconds: float, *waits: Awaitable[object]) -> None:
    """Until one of *waits* is over, or *seconds* are; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    _, pending = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()


def back_off(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling, jittered, bounded."""
    return min(LONGEST_BACK_OFF_SECONDS, 0.2 * float(2 ** min(failures, 10))) * random.uniform(0.5, 1.0)


async def pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for *seconds* or for *stop*; whether it is time to stop."""
    try:
        await asyncio.wait_for(stop.wait(), timeout=seconds)
    except TimeoutError:
        return False
    return True


async def _measure_lag(stop: asyncio.Event, period_seconds: float = 0.5) -> None:
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        due = loop.time() + period_seconds
        if await pause(stop, period_seconds):
            return
        LOOP_LAG.set(max(0.0, loop.time() - due))
