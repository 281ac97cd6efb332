"""The gateway contract on the simulated members: in memory, and durable in a file."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from adapters.embedded.members import CALM, open_members
from adapters.memory.cluster import SimulatedCluster
from adapters.memory.gateway import SimulatedGateway
from federation.domain.events import Taint
from tests.contract.gateway_suite import GatewayContract
from tests.contract.gateway_world import Condition


class SteppedClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)
        await asyncio.sleep(0)


class SimulatedWorld:
    """A simulated member under a clock of its own."""

    namespace = "team-shop"
    pool = "mine"

    def __init__(self, cluster: SimulatedCluster, gateway: SimulatedGateway, clock: SteppedClock) -> None:
        self.cluster, self.gateway, self.clock = cluster, gateway, clock

    async def add_node(self, name: str, allocatable: Mapping[str, str], taints: tuple[Taint, ...] = ()) -> None:
        self.cluster.add_node(name, allocatable, labels={"pool": self.pool}, taints=taints)

    async def wait_until(self, condition: Condition, seconds: float = 60) -> None:
        for _ in range(int(seconds * 50)):
            if await condition():
                return
            await self.clock.sleep(0.02)
            self.cluster.step(self.clock.now_ms())
            await asyncio.sleep(0)
        raise AssertionError(f"not within {seconds} s")


class TestMemoryGateway(GatewayContract):
    @pytest.fixture
    async def world(self) -> SimulatedWorld:
        clock = SteppedClock()
        cluster = SimulatedCluster("east", seed=7)
        return SimulatedWorld(cluster, SimulatedGateway(cluster, clock), clock)


class TestEmbeddedGateway(GatewayContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[SimulatedWorld]:
        clock = SteppedClock()
        (member,) = await open_members(tmp_path / "members.db", clock, count=1, weather=CALM)
        yield SimulatedWorld(member.cluster, member.gateway, clock)
        await member.close()
