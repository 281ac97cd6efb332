"""A database restored from a backup, with a real agent and a simulated member that went on meanwhile (section 6)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from adapters.memory.store import MemoryDatabase
from federation.domain.cluster import Cluster
from federation.domain.events import PlacementWanted
from federation.domain.member import ObjectKey
from federation.domain.placement import Placement
from federation.domain.workload import WorkloadKind
from federation.planner.explain import merge
from federation.services.check import check
from federation.services.dispatch import ask_for_resyncs, repeat
from federation.services.image import Image
from federation.services.restore import Restored, mark_restored
from federation.services.scheduling import Scheduler
from tests.services.agents import World, virtually
from tests.services.hub import Hub


@dataclass
class Site:
    """A member with its agent, and the hub on a database that can be backed up and restored."""

    world: World = field(default_factory=World)
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    hub: Hub = field(init=False)
    backup: MemoryDatabase = field(default_factory=MemoryDatabase)

    async def open(self) -> None:
        store = await self.database.open()
        scheduler = Scheduler(Image(silent_after_seconds=30))
        self.hub = Hub(
            store=store,
            clock=self.world.clock,  # type: ignore[arg-type]
            log=self.world.log,
            ids=self.world.ids,  # type: ignore[arg-type]
            scheduler=scheduler,
        )

    async def live(self, seconds: float, *, folds: bool = True) -> None:
        """The hub's loops for a while."""
        hub = self.hub
        for _ in range(int(seconds * 4)):
            await self.world.pass_time(0.25)
            if folds:
                await hub.fold()
            await hub.decide()
            await ask_for_resyncs(hub.store, hub.clock)
            await repeat(hub.store, hub.log, hub.clock, hub.ids)

    async def settled(self, seconds: float = 60) -> None:
        """Until no hold is left and the cluster may be chosen."""
        for _ in range(int(seconds)):
            await self.live(1)
            cluster = await self.hub.cluster()
            if not (cluster.held or cluster.stale or cluster.awaits):
                return
        raise AssertionError(f"not settled: {await self.hub.cluster()}")

    def back_up(self) -> None:
        self.database.raw.backup(self.backup.raw)

    async def restore(self) -> Restored:
        """The backup is put in place of the database, and said to be one."""
        await self.hub.store.close()
        self.database = MemoryDatabase()
        self.backup.raw.backup(self.database.raw)
        await self.open()
        return await mark_restored(self.hub.store, self.hub.clock)

    def pods(self) -> int:
        return sum(pod.live for pod in self.world.cluster.pods.values())

    def object(self, name: str = "web") -> Any:
        return self.world.object(name)


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    found = Site()
    await found.open()
    async with found.world.running():
        await found.live(3)
        yield found
    found.database.close()
    found.backup.close()


async def why(hub: Hub, name: str) -> str:
    """What the latest decision about a workload says of the cluster."""
    workload = await hub.workload(name)
    async with hub.store.reader() as reader:
        found = await reader.decision(workload.decision)
    assert found is not None
    (verdict,) = merge(*found)
    return verdict.reason


async def living(hub: Hub) -> list[Placement]:
    return [placement for placement in await hub.placements() if not placement.released]


async def wrongs(hub: Hub) -> list[str]:
    return [str(line) for line in await check(hub.store, hub.clock) if line.verdict == "wrong"]


@virtually
async def test_what_was_scaled_after_the_backup_is_adopted_and_then_brought_to_what_the_database_says():
    async with site() as east:
        workload = await east.hub.create(replicas=2)
        await east.settled()
        east.back_up()
        await east.hub.change(workload, 6)
        await east.settled()
        assert east.pods() == 6

        restored = await east.restore()
        claims = []
        for _ in range(40):
            await east.hub.fold()
            await east.hub.dispatch()
            await east.world.pass_time(0.25)
            claims += [placement.claim for placement in await living(east.hub) if placement.adopted]
        await east.settled()

        assert restored.clusters == ("east",)
        assert claims[0] == 6
        assert (await east.hub.cluster()).generation == restored.generation
        assert east.pods() == 2
        assert await wrongs(east.hub) == []


@virtually
async def test_an_old_order_that_is_delivered_again_is_dropped_once_the_agent_has_stored_the_generation():
    async with site() as east:
        workload = await east.hub.create(replicas=2)
        await east.settled()
        east.back_up()
        await east.hub.change(workload, 6)
        await east.settled()
        newest = east.hub.orders()[-1]
        restored = await east.restore()
        await east.settled()

        old = {**newest, "order": newest["order"] + 1, "version": newest["version"] + 50, "replicas": 9}
        await east.world.order(PlacementWanted(**_fields(old)))
        await east.live(5)

        assert east.world.cluster.orders.generation == restored.generation
        assert (east.object().replicas, east.pods()) == (2, 2)


def _fields(order: dict[str, Any]) -> dict[str, Any]:
    fields = {**order, "floor_at_bound": order["floorAtBound"]}
    del fields["floorAtBound"]
    return fields


@virtually
async def test_nothing_is_decided_before_the_inventory_is_adopted():
    async with site() as east:
        workload = await east.hub.create(replicas=2)
        await east.settled()
        east.back_up()

        await east.restore()
        await east.hub.change(workload, 4)
        await east.hub.create("api", replicas=1)
        await east.live(5, folds=False)
        orders = [order for order in east.hub.orders() if "replicas" in order]
        verdict = await why(east.hub, "api")
        waits = await east.hub.workload("web")
        await east.settled()

        assert [order["replicas"] for order in orders] == [2]
        assert verdict == "restored: its inventory has not been adopted yet"
        assert waits.queued
        assert east.pods() == 5


@virtually
async def test_what_was_placed_after_the_backup_is_put_before_the_operator_and_stays():
    async with site() as east:
        east.back_up()
        await east.hub.create(replicas=3)
        await east.settled()

        await east.restore()
        await east.settled()
        found = (await east.hub.cluster()).orphans
        used = (await east.hub.cluster()).used["cpu"]
        await east.world.gateway.delete(
            ObjectKey("apps/v1/Deployment", "default", "web"), east.object().uid
        )  # the operator's decision
        await east.live(30)

        assert [(orphan.workload, orphan.team, orphan.replicas) for orphan in found] == [("web", "default", 3)]
        assert used >= 3000
        assert (await east.hub.cluster()).orphans == ()
        assert await wrongs(east.hub) == []


@virtually
async def test_what_was_deleted_after_the_backup_is_placed_again_because_the_database_wants_it():
    async with site() as east:
        workload = await east.hub.create(replicas=2)
        await east.settled()
        east.back_up()
        await east.hub.delete(workload)
        await east.settled()
        assert east.pods() == 0

        await east.restore()
        await east.live(15)
        await east.settled()

        assert east.pods() == 2
        assert (await east.hub.workload()).phase == "placed"


@virtually
async def test_what_was_being_deleted_is_deleted_by_an_order_of_the_new_generation():
    async with site() as east:
        workload = await east.hub.create(replicas=2)
        await east.settled()
        await east.hub.delete(workload)
        await east.hub.cycle()
        east.back_up()

        await east.restore()
        await east.live(20)
        await east.settled()
        await east.live(5)

        assert east.pods() == 0
        assert await living(east.hub) == []
        async with east.hub.store.reader() as reader:
            assert await reader.workload("web", None) is None


@virtually
async def test_restoring_twice_begins_a_generation_above_both():
    async with site() as east:
        await east.hub.create(replicas=2)
        await east.settled()
        east.back_up()
        first = await east.restore()
        await east.settled()
        second = await east.restore()
        await east.settled()

        assert second.generation > first.generation
        assert (await east.hub.cluster()).generation == second.generation
        assert east.pods() == 2


@virtually
async def test_a_cluster_that_joined_after_the_backup_is_awaited_too():
    east = Site()
    await east.open()
    east.back_up()
    async with east.world.running():
        await east.live(3)
        await east.hub.create(replicas=2)
        await east.settled()

        restored = await east.restore()
        await east.live(3)
        met: Cluster = await east.hub.cluster()
        await east.settled()

        assert restored.clusters == ()
        assert met.awaits == restored.generation or met.generation == restored.generation
        assert [orphan.workload for orphan in (await east.hub.cluster()).orphans] == ["web"]


@virtually
async def test_what_the_caller_deploys_is_kept_as_it_was_answered():
    async with site() as east:
        await east.hub.create(replicas=2, kind=WorkloadKind.CALLER, api="", manifest=None, revision="")
        await east.live(3)
        east.back_up()

        await east.restore()
        await east.live(10)
        (placement,) = await living(east.hub)

        assert (placement.claim, placement.found) == (2, False)
        assert not (await east.hub.cluster()).awaits
