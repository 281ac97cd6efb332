"""What goes wrong: each fault by its name, drawn by weight, at moments fixed by the seed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from federation.simulator.invariants import Invariants
from federation.simulator.process import Process
from federation.simulator.world import World

LAST_PART = 0.85
"""Faults begin in the first part of the steps only, so that what they lead to is still watched."""


class Faults:
    """The faults of one seed. A fault that finds nothing to hurt waits for the next step."""

    def __init__(self, world: World, invariants: Invariants) -> None:
        self._world = world
        self.invariants = invariants
        self._rng = world.rng
        self._due: list[tuple[int, str]] = []
        self._kinds: Mapping[str, Callable[[], Awaitable[bool]]] = {
            "kill": self._kill,
            "shuffle": self._shuffle,
            "lost-answers": self._lose_answers,
        }
        self._draw()

    def _draw(self) -> None:
        scenario = self._world.scenario
        if not scenario.faults:
            return
        names = self._rng.choices(
            list(scenario.faults), list(scenario.faults.values()), k=self._world.span(scenario.fault_count)
        )
        self._due = sorted((self._rng.randint(5, int(scenario.steps * LAST_PART)), name) for name in names)

    async def strike(self, step: int) -> None:
        """Let happen what is due at *step*."""
        due, self._due = [each for each in self._due if each[0] <= step], [each for each in self._due if each[0] > step]
        for _, name in due:
            if await self._kinds[name]():
                self._world.fired[name] += 1
                self._world.note(f"fault {name}")
            else:
                self._due.append((step + 1, name))

    async def end(self) -> None:
        """Nothing goes wrong any more, and everything that is down comes up."""
        world = self._world
        world.log.copies, world.log.spread_seconds, world.log.losing = 1, 0.0, 0
        world.database.faults.committed = None

    async def _kill(self) -> bool:
        """F1: a process, with work in flight."""
        world = self._world
        if self._rng.random() < 0.6:
            name = self._rng.choice(list(world.hubs))
            victim = world.hubs[name]
            if not victim.store or not victim.store.inline.connections:
                return False
            victim.kill()
            await asyncio.sleep(self._rng.uniform(0, 1))
            await world.start_hub(name)
            return True
        return await self._kill_agent()

    async def _kill_agent(self) -> bool:
        world = self._world
        name = self._rng.choice(list(world.members))
        victims = [agent for agent in world.agents[name] if not agent.dead]
        if not victims:
            return False
        victim: Process = self._rng.choice(victims)
        victim.kill()
        world.agents[name].remove(victim)
        world.start_agent(name)
        return True

    async def _shuffle(self) -> bool:
        """F2: events come 1 to 5 times, in another order, for a while."""
        log = self._world.log
        log.copies, log.spread_seconds = 5, self._rng.uniform(0.1, 2)
        asyncio.get_running_loop().call_later(self._rng.uniform(3, 20), self._in_order)
        return True

    def _in_order(self) -> None:
        self._world.log.copies = 1

    async def _lose_answers(self) -> bool:
        """F6: commits whose answers are lost."""
        from adapters.memory.store import lost

        left = [self._rng.randint(1, 6)]

        async def lose(owner: str) -> None:
            if left[0] and owner.startswith("hub") and self._rng.random() < 0.5:
                left[0] -= 1
                raise lost("the answer was lost")

        self._world.database.faults.committed = lose
        return True
