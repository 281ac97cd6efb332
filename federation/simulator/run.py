"""Plays seeds: steps of callers and faults, a look after each, and an end in which all must come right."""

import asyncio
import gc
import random
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from federation.domain.errors import Unavailable
from federation.services.check import WRONG, check
from federation.simulator.callers import Callers
from federation.simulator.ending import unsettled
from federation.simulator.faults import Faults
from federation.simulator.invariants import Invariants
from federation.simulator.scenario import Scenario
from federation.simulator.virtual import VirtualLoop
from federation.simulator.world import World

LOOK_SECONDS: Final = 2.0
STARTING_SECONDS: Final = 4.0
PROVE_EVERY: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a seed came out. *violation* is empty where all held; *digest* is of its whole history."""

    scenario: str
    seed: int
    steps: int
    violation: str = ""
    fired: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""
    seconds: float = 0.0
    trace: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """What is printed of it."""
        start = f"seed {self.seed} scenario {self.scenario} step {self.steps}"
        if self.violation:
            return f"{start}: invariant {self.violation}"
        fired = ", ".join(f"{name} {count}" for name, count in sorted(self.fired.items()))
        return f"{start}: ok ({fired}; {self.seconds:.0f} s; {self.digest})"


def play(scenario: Scenario, seed: int, *, traced: bool = False) -> Result:
    """The history of one seed."""
    random.seed(f"{scenario.name}/{seed}")
    loop = VirtualLoop()
    # When what is unreachable goes must not depend on what this process did before.
    gc.collect()
    gc.disable()
    try:
        return loop.run_until_complete(_Play(scenario, seed, traced=traced).run())
    finally:
        loop.close()
        gc.enable()


class _Play:
    def __init__(self, scenario: Scenario, seed: int, *, traced: bool) -> None:
        self._scenario = scenario
        self._seed = seed
        self._traced = traced
        self._steps = 0

    async def run(self) -> Result:
        world = World(self._scenario, self._seed)
        invariants, callers = Invariants(world), Callers(world)
        faults = Faults(world, invariants)
        _listen(world, traced=self._traced)
        try:
            await world.start()
            if self._scenario.racers:
                await faults.race()
            await asyncio.sleep(STARTING_SECONDS)
            await self._go_wrong(world, callers, faults)
            if not world.violations:
                await faults.end()
                await self._come_to_rest(world, callers, invariants)
            return self._result(world)
        finally:
            await world.close()
            structlog.reset_defaults()

    async def _go_wrong(self, world: World, callers: Callers, faults: Faults) -> None:
        while self._steps < self._scenario.steps and not world.violations:
            self._steps += 1
            await faults.strike(self._steps)
            world.note(f"step {self._steps}: {await callers.act()}")
            await asyncio.sleep(world.span(self._scenario.step_milliseconds) / 1000)
            faults.invariants.step()
            if self._steps % PROVE_EVERY == 0:
                await _prove(world)

    async def _come_to_rest(self, world: World, callers: Callers, invariants: Invariants) -> None:
        left = ["nothing was looked at"]
        ends = asyncio.get_running_loop().time() + self._scenario.settle_seconds
        while left and not world.violations and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(LOOK_SECONDS)
            invariants.step()
            left = unsettled(world, callers, invariants)
        for line in left:
            world.violated(f"in the end: {line}")
        await _prove(world)

    def _result(self, world: World) -> Result:
        return Result(
            scenario=self._scenario.name,
            seed=self._seed,
            steps=self._steps,
            violation=world.violations[0] if world.violations else "",
            fired=dict(world.fired),
            digest=world.digest,
            seconds=asyncio.get_running_loop().time(),
            trace=tuple(world.trace) if self._traced else (),
        )


async def _prove(world: World) -> None:
    """What `federation check` says of the database at this moment."""
    try:
        lines = await check(world.api.store, world.clock, sample=5)
    except Unavailable:
        return
    for line in lines:
        if line.verdict == WRONG:
            world.violated(f"of check: {line}")


def _listen(world: World, *, traced: bool) -> None:
    """Whatever breaks down unexpectedly is a violation; the rest of the logs is for traces."""

    def take(_logger: Any, method: str, line: Any) -> Any:
        if traced:
            world.trace.append(f"{asyncio.get_running_loop().time():.3f}   {method} {dict(line)}")
        error = _broke(line.get("exc_info"))
        # What is away for a while may end a loop too; its supervisor begins it again.
        if error is not None and not isinstance(error, Unavailable):
            frame = traceback.extract_tb(error.__traceback__)[-1].name if error.__traceback__ else "?"
            told = f"{line.get('event')} {line.get('worker', '')}: {type(error).__name__}: {error} ({frame})"
            world.violated(f"no loop breaks down: {told}")
        raise structlog.DropEvent

    level = 10 if traced else 40
    structlog.configure(
        processors=[take],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


def _broke(told: Any) -> BaseException | None:
    """The exception that a line of the log tells of."""
    error = told if isinstance(told, BaseException) else sys.exc_info()[1] if told else None
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
