"""The world of one seed: members, log, database, and the processes of hub and agents that work on them."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, Final, cast

from adapters.memory.cluster import SimulatedCluster
from adapters.memory.cluster_state import Timing
from adapters.memory.store import MemoryDatabase
from adapters.system import SystemClock, Threads, Ulids
from federation.bootstrap import Hub, work_loops
from federation.config import Settings
from federation.domain.cluster import REGION
from federation.domain.errors import Conflict, Unavailable
from federation.services.agent import AgentParts, AgentSettings
from federation.services.callers import Caller, Ports, Role
from federation.simulator.delivery import SimulatedLog
from federation.simulator.process import Process, ProcessCompute, ProcessGateway, ProcessLog
from federation.simulator.scenario import Scenario
from federation.simulator.virtual import SeededIds, VirtualClock
from federation.workers.agent import run_agent
from federation.workers.supervisor import supervise

REGIONS: Final = ("eu", "us", "ap")
AGENT: Final = AgentSettings(
    heartbeat_seconds=5,
    lease_seconds=6,
    renew_seconds=2,
    call_seconds=2.5,
    patience_seconds=20,
    facts_seconds=600,
    coalesce_seconds=0.2,
)
HANG_SECONDS: Final = 8.0
SETTINGS: Final = Settings(heartbeat_seconds=5, silent_after_seconds=15, hold_deadline_seconds=25)


class World:
    """Everything there is. *violations* are what must not have happened; *fired* counts faults by kind."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.rng = random.Random(f"{scenario.name}/{seed}")
        self.clock = VirtualClock()
        self.database = MemoryDatabase()
        self.log = SimulatedLog(VirtualClock(), random.Random(self.rng.random()))
        self.members: dict[str, SimulatedCluster] = {}
        self.hubs: dict[str, Process] = {}
        self.agents: dict[str, list[Process]] = {}
        self.hurt: dict[str, str] = {}
        self.trouble: Callable[[str, str], Awaitable[None]] | None = None
        self.fired: Counter[str] = Counter()
        self.violations: list[str] = []
        self.trace: list[str] = []
        self.applied: Callable[..., None] | None = None
        self._digest = blake2b(digest_size=16)
        self._count = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self.database.faults.connecting = lambda owner: self._ask_database(owner, "connect")
        self.database.faults.committing = lambda owner: self._ask_database(owner, "commit")
        self.database.faults.committed = lambda owner: self._ask_database(owner, "answer")

    async def start(self) -> None:
        """Members with their nodes, an agent each, and the hub's processes."""
        for number in range(self.span(self.scenario.members)):
            self._add_member(number)
        for name in self.members:
            self.start_agent(name)
        for number in range(self.scenario.hubs):
            await self.start_hub(f"hub-{number}")
        store = await self.database.open(owner="api")
        ids = SeededIds(self.clock, f"api/{self.rng.random()}")
        self.api = Ports(store=store, clock=self.clock, ids=ids)
        self.caller = Caller(who="caller", role=Role.OPERATOR)

    def span(self, span: tuple[int, int]) -> int:
        return self.rng.randint(*span)

    def note(self, what: str) -> None:
        """A line of the history; equal histories have equal digests."""
        line = f"{asyncio.get_running_loop().time():.3f} {what}"
        self._digest.update(line.encode())
        self.trace.append(line)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def violated(self, what: str) -> None:
        """An invariant does not hold."""
        self.note(f"VIOLATION {what}")
        self.violations.append(what)

    def spawn(self, work: Any) -> None:
        """Something that the world does by itself."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End everything that runs."""
        processes = [*self.hubs.values(), *(agent for agents in self.agents.values() for agent in agents)]
        for process in processes:
            process.kill()
        for process in processes:
            await process.ended()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.database.close()

    # --- members and their agents --------------------------------------------------------------------------------

    def _add_member(self, number: int) -> None:
        name = f"m{number}"
        timing = Timing(start=200, stop=200, jitter=400, tolerance=4_000, job_run=6_000)
        member = SimulatedCluster(
            name, seed=self.rng.getrandbits(32), timing=timing, labels={REGION: REGIONS[number % len(REGIONS)]}
        )
        member.lag = {part: self.rng.choice((0, 0, 300, 1500)) for part in ("deployment", "replicaset", "scheduler")}
        for node in range(self.span(self.scenario.nodes)):
            self.add_node(member, f"{name}-n{node}")
        self.members[name] = member
        self.spawn(self._move(member))

    def add_node(self, member: SimulatedCluster, name: str) -> None:
        cores = self.span(self.scenario.cores)
        member.add_node(name, {"cpu": str(cores), "memory": f"{4 * cores}Gi", "pods": "30"})

    async def _move(self, member: SimulatedCluster) -> None:
        """Let its parts work when they are due."""
        while True:
            now = self.clock.now_ms()
            member.step(now)
            due = member.next_due_ms()
            left = 500 if due is None else min(500, max(20, due - now))
            await asyncio.sleep(left / 1000)

    def start_agent(self, cluster: str) -> None:
        """Another agent of *cluster*; it stands by while there is one."""
        agents = self.agents.setdefault(cluster, [])
        process = Process(f"agent-{cluster}", self._rng())
        gateway = ProcessGateway(self.members[cluster], process, self.clock)
        gateway.faults.before = lambda verb: self._reach_member(process, cluster, verb)
        gateway.faults.after = lambda verb: self._answered(process, cluster, verb)
        gateway.applied = self.applied
        parts = AgentParts(
            cluster=cluster,
            gateway=gateway,
            log=ProcessLog(self.log, process),
            clock=process.clock,
            ids=process.ids,
            settings=AGENT,
            random=self._rng(),
        )
        agents.append(process)
        process.run(run_agent(parts, asyncio.Event()))

    async def _reach_member(self, process: Process, cluster: str, verb: str) -> None:
        await process.reach()
        trouble = self.hurt.get(cluster, "")
        if trouble == "dead":
            await self._hang(verb)
        if trouble == "failing" and self.rng.random() < 0.4:
            await self._fail(verb)

    async def _answered(self, process: Process, cluster: str, verb: str) -> None:
        if self.hurt.get(cluster) == "failing" and self.rng.random() < 0.2:
            raise Unavailable(f"{verb}: the answer was lost")
        await process.reach()

    async def _fail(self, verb: str) -> None:
        how = self.rng.random()
        if how < 0.3:
            raise Unavailable(f"{verb}: 503")
        if how < 0.5:
            raise Conflict(f"{verb}: 409")
        if how < 0.6:
            await self._hang(verb)
        await asyncio.sleep(self.rng.uniform(0, 2))

    async def _hang(self, verb: str) -> None:
        """No answer at all: a gateway gives up by itself at last, a watch too."""
        await asyncio.sleep(HANG_SECONDS)
        raise Unavailable(f"{verb}: no answer within {HANG_SECONDS:g} s")

    # --- the hub -------------------------------------------------------------------------------------------------

    async def start_hub(self, name: str) -> None:
        """A process with the loops of `federation work`."""
        rng = self._rng()
        store = await self.database.open(owner=name)
        process = Process(name, rng, store)
        hub = Hub(
            settings=SETTINGS,
            store=store,
            log=ProcessLog(self.log, process),
            compute=cast(Threads, ProcessCompute(process, self.scenario.plan_milliseconds / 1000)),
            clock=cast(SystemClock, process.clock),
            ids=cast(Ulids, process.ids),
            holder=f"{name}-{rng.random()}",
        )
        self.hubs[name] = process
        process.run(supervise(work_loops(hub), asyncio.Event(), hub.health))

    def _rng(self) -> random.Random:
        return random.Random(self.rng.random())

    async def _ask_database(self, owner: str, moment: str) -> None:
        """The way to the database, and what goes wrong there."""
        if owner in self.hubs:
            await self.hubs[owner].reach(0.002)
        if self.trouble is not None:
            await self.trouble(owner, moment)
