"""What goes wrong: each fault by its name, drawn by weight, at moments fixed by the seed.

A verb returns whether it found something to hurt; if not, it is tried again at the next step. What lasts ends by
itself, or when `end` is called.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from adapters.memory.cluster import SimulatedCluster
from adapters.memory.store import lost
from federation.simulator.invariants import Invariants
from federation.simulator.poison import poisoned
from federation.simulator.process import Process
from federation.simulator.world import World

LAST_PART: Final = 0.8
"""Faults begin in the first part of the steps only, so that what they lead to is still watched."""
HOUR_MS: Final = 3_600_000
_EVERYONE_LEADS: Final = (
    "CREATE TRIGGER everyone_leads AFTER UPDATE ON leases WHEN NEW.until_ms > 0 "
    "BEGIN UPDATE leases SET until_ms = 0 WHERE name = NEW.name; END"
)


class Faults:
    """The faults of one seed."""

    def __init__(self, world: World, invariants: Invariants) -> None:
        self._world = world
        self.invariants = invariants
        self._rng = world.rng
        self._mends: dict[int, Callable[[], None]] = {}
        self._count = 0
        self._kinds: Mapping[str, Callable[[], Awaitable[bool]]] = {
            "kill": self._kill,
            "kill-agent": self._kill_agent,
            "shuffle": self._shuffle,
            "broker": self._stop_broker,
            "database": self._hurt_database,
            "lost-answers": self._lose_answers,
            "member-fails": self._fail_member,
            "member-dead": self._lose_member,
            "node": self._lose_node,
            "race": self.race,
            "freeze": self._freeze,
            "freeze-agent": self._freeze_agent,
            "clock": self._turn_clock,
            "gap": self._lose_events,
            "truncate": self._truncate,
            "poison": self._poison,
        }
        self._due = self._drawn()

    def _drawn(self) -> list[tuple[int, str]]:
        scenario = self._world.scenario
        if not scenario.faults:
            return []
        kinds, weights = list(scenario.faults), list(scenario.faults.values())
        names = self._rng.choices(kinds, weights, k=self._world.span(scenario.fault_count))
        return sorted((self._rng.randint(5, int(scenario.steps * LAST_PART)), name) for name in names)

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
        for number in list(self._mends):
            self._mend(number)
        await self._drop_trigger()

    def _lasts(self, least: float, most: float, mend: Callable[[], None]) -> None:
        """*mend* after a while, or at the end."""
        self._count += 1
        self._mends[self._count] = mend
        asyncio.get_running_loop().call_later(self._rng.uniform(least, most), self._mend, self._count)

    def _mend(self, number: int) -> None:
        mend = self._mends.pop(number, None)
        if mend is not None:
            mend()

    def _member(self) -> SimulatedCluster:
        return self._rng.choice(list(self._world.members.values()))

    # --- processes -------------------------------------------------------------------------------------------------

    async def _kill(self) -> bool:
        """F1: a process of the hub, in the middle of a transaction."""
        world = self._world
        name = self._rng.choice(list(world.hubs))
        victim = world.hubs[name]
        if not await _seen(lambda: victim.store is not None and bool(victim.store.inline.connections)):
            return False
        victim.kill()
        await asyncio.sleep(self._rng.uniform(0, 1))
        await world.start_hub(name)
        return True

    async def _kill_agent(self) -> bool:
        """F1: an agent, with orders to carry out."""
        world, member = self._world, self._member()
        cluster = self.invariants.clusters.now.get(member.name)
        if cluster is None or member.orders.done >= cluster.next_order - 1:
            return False
        victim: Process = self._rng.choice(world.agents[member.name])
        victim.kill()
        world.agents[member.name].remove(victim)
        world.start_agent(member.name)
        return True

    async def _freeze(self) -> bool:
        """F11: a process of the hub stands still, and goes on as if nothing had been."""
        victim = self._world.hubs[self._rng.choice(list(self._world.hubs))]
        if victim.frozen:
            return False
        victim.freeze()
        self._lasts(5, 60, victim.resume)
        return True

    async def _freeze_agent(self) -> bool:
        """F11: an agent stands still, with a write on its way if it can be; another takes over meanwhile."""
        member = self._member()
        victim = self._rng.choice(self._world.agents[member.name])
        if victim.frozen:
            return False
        await _seen(lambda: victim.writes > 0)
        victim.freeze()
        self._world.start_agent(member.name)
        self._lasts(5, 60, victim.resume)
        return True

    async def _turn_clock(self) -> bool:
        """F12: a clock is wrong by up to an hour, and jumps back."""
        victim = self._rng.choice(
            [*self._world.hubs.values(), self._rng.choice(self._world.agents[self._member().name])]
        )
        victim.clock.offset_ms = self._rng.choice((-HOUR_MS, HOUR_MS, -20_000, 20_000))

        def turn_back() -> None:
            victim.clock.offset_ms = 0

        self._lasts(2, 20, turn_back)
        return True

    async def race(self) -> bool:
        """F10: whoever asks for a lease gets it, and each believes that it leads."""
        await self._drop_trigger()
        await self._on_database(_EVERYONE_LEADS)
        return True

    async def _drop_trigger(self) -> None:
        await self._on_database("DROP TRIGGER IF EXISTS everyone_leads")

    async def _on_database(self, statement: str) -> None:
        async with self._world.database.writing:
            self._world.database.raw.execute(statement)

    # --- the log ---------------------------------------------------------------------------------------------------

    async def _shuffle(self) -> bool:
        """F2: what is sent comes 1 to 5 times, in another order, for a while."""
        log = self._world.log
        log.copies, log.spread_seconds = 5, self._rng.uniform(0.1, 2)

        def in_order() -> None:
            log.copies = 1

        self._lasts(3, 15, in_order)
        return True

    async def _stop_broker(self) -> bool:
        """F3: the log does not answer for a while."""
        self._world.log.stop()
        self._lasts(1, 10, self._world.log.start)
        return True

    async def _lose_events(self) -> bool:
        """F13: events are lost on their way."""
        self._world.log.losing += self._rng.randint(1, 5)

        def no_more() -> None:
            self._world.log.losing = 0

        self._lasts(2, 10, no_more)
        return True

    async def _truncate(self) -> bool:
        """F13: the log forgets what was not read yet, or begins anew."""
        log = self._world.log
        source = self._rng.choice([each for each in log.sources() if not each.startswith("federation.events.parked")])
        first, end = log.bounds(source)
        if first == end:
            return False
        if self._rng.random() < 0.3:
            self.invariants.begun_anew.add(source)
            log.begin_anew(source)
        else:
            log.trim(source, self._rng.randint(max(first, end - 3), end))
        return True

    async def _poison(self) -> bool:
        """F14: records that are no events, among those that are."""
        for _ in range(self._rng.randint(3, 12)):
            key, headers, value = poisoned(self._rng, list(self._world.members))
            self._world.log.append_raw("federation.events", key, headers, value)
            await asyncio.sleep(self._rng.uniform(0, 0.02))
        return True

    # --- the database ----------------------------------------------------------------------------------------------

    async def _hurt_database(self) -> bool:
        """F5: it is down, slow, or refuses commits."""
        kind = self._rng.choice(("down", "slow", "refuses"))

        async def trouble(_owner: str, moment: str) -> None:
            if kind == "down" or (kind == "refuses" and moment == "commit" and self._rng.random() < 0.5):
                raise lost(f"the database {kind}")
            if kind == "slow" and moment == "connect":
                await asyncio.sleep(self._rng.uniform(0, 1))

        return self._trouble(trouble, 2, 12)

    async def _lose_answers(self) -> bool:
        """F6: commits have their effect and their answers are lost."""

        async def trouble(_owner: str, moment: str) -> None:
            if moment == "answer" and self._rng.random() < 0.3:
                raise lost("the answer was lost")

        return self._trouble(trouble, 1, 5)

    def _trouble(self, trouble: Callable[[str, str], Awaitable[None]], least: float, most: float) -> bool:
        if self._world.trouble is not None:
            return False
        self._world.trouble = trouble

        def no_more() -> None:
            self._world.trouble = None

        self._lasts(least, most, no_more)
        return True

    # --- members ---------------------------------------------------------------------------------------------------

    async def _fail_member(self) -> bool:
        """F7: an API server answers wrongly, late or not at all."""
        return self._hurt("failing", 3, 20)

    async def _lose_member(self) -> bool:
        """F8: an API server is a black hole."""
        return self._hurt("dead", 3, 30)

    def _hurt(self, how: str, least: float, most: float) -> bool:
        name = self._member().name
        if name in self._world.hurt:
            return False
        self._world.hurt[name] = how

        def mend() -> None:
            self._world.hurt.pop(name, None)

        self._lasts(least, most, mend)
        return True

    async def _lose_node(self) -> bool:
        """F9: a node with pods, or with holds, falls silent or is no more."""
        member = self._member()
        held = {node for each in self.invariants.placements.now.values() for node in each.holds}
        victims = [name for name in member.nodes if member.pods_on.get(name) or name in held]
        if not victims or len(member.nodes) < 2:
            return False
        name = self._rng.choice(victims)
        if self._rng.random() < 0.4:
            member.remove_node(name)
            self._lasts(5, 40, lambda: self._world.add_node(member, f"{name}x"))
            return True
        member.fail_node(name)

        def recover() -> None:
            if name in member.nodes:
                member.recover_node(name)

        self._lasts(2, 20, recover)
        return True


async def _seen(what: Callable[[], bool]) -> bool:
    """Wait for the moment for a while; whether it came."""
    for _ in range(200):
        if what():
            return True
        await asyncio.sleep(0.002)
    return False
