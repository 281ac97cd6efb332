"""What callers do with workloads: in one transaction, once, and with its row in the audit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from adapters.sql.schema import migrate
from adapters.sql.store import open_store
from adapters.system import Ulids
from federation.domain.errors import Conflict, Invalid, NotFound
from federation.domain.workload import Component, Workload, WorkloadKind, WorkloadPhase, WorkloadSpec
from federation.services.callers import Caller, KeyReused, Ports, PreconditionFailed, Role
from federation.services.workloads import LEASE_MS, Once, Target, change, create, delete, renew

ANN = Caller(who="ann", role=Role.MEMBER, team="shop")
EVE = Caller(who="eve", role=Role.MEMBER, team="other")


class FixedClock:
    def __init__(self, ms: int) -> None:
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


def make_spec(name: str = "web", replicas: int = 2, kind: WorkloadKind = WorkloadKind.CALLER) -> WorkloadSpec:
    return WorkloadSpec(name=name, team="shop", kind=kind, components=(Component(replicas=replicas),))


def scaled(replicas: int) -> WorkloadSpec:
    return make_spec(replicas=replicas)


@asynccontextmanager
async def ports_on(path: Path) -> AsyncIterator[tuple[Ports, FixedClock]]:
    url = f"sqlite+aiosqlite:///{path / 'hub.db'}"
    await migrate(url)
    store, clock = await open_store(url), FixedClock(1_700_000_000_000)
    yield Ports(store=store, clock=clock, ids=Ulids(clock.now_ms)), clock
    await store.close()


async def stored(ports: Ports, workload: str) -> Workload:
    async with ports.store.reader() as reader:
        return (await reader.workloads_by_id([workload]))[0]


async def test_a_new_workload_stands_in_the_queue_with_a_lease_where_the_caller_deploys(tmp_path: Path):
    async with ports_on(tmp_path) as (ports, clock):
        made = await create(ports, ANN, make_spec())
        carried = await create(ports, ANN, make_spec("api", kind=WorkloadKind.DEPLOYMENT))

        workload = await stored(ports, made.workload)
        assert (workload.version, workload.decided, workload.phase) == (1, 0, WorkloadPhase.PENDING)
        assert workload.lease_until_ms == clock.ms + LEASE_MS
        assert (await stored(ports, carried.workload)).lease_until_ms is None
        async with ports.store.reader() as reader:
            assert {queued.id for queued in await reader.queue(10)} == {made.workload, carried.workload}


async def test_racers_under_one_key_make_one_workload(tmp_path: Path):
    async with ports_on(tmp_path) as (ports, _):
        once = Once(key="k", body="b")

        made = await asyncio.gather(*(create(ports, ANN, make_spec(), once) for _ in range(20)))

        assert len({each.workload for each in made}) == 1
        assert sorted(each.replayed for each in made) == [False] + [True] * 19


async def test_another_body_under_a_key_is_refused_and_makes_nothing(tmp_path: Path):
    async with ports_on(tmp_path) as (ports, _):
        await create(ports, ANN, make_spec(), Once(key="k", body="b"))

        with pytest.raises(KeyReused):
            await create(ports, ANN, make_spec("api"), Once(key="k", body="c"))

        async with ports.store.reader() as reader:
            assert len(await reader.queue(10)) == 1


async def test_a_name_that_is_taken_stays_a_conflict_under_a_fresh_key(tmp_path: Path):
    async with ports_on(tmp_path) as (ports, _):
        await create(ports, ANN, make_spec())

        with pytest.raises(Conflict):
            await create(ports, ANN, make_spec(), Once(key="k", body="b"))


async def test_changes_raise_the_version_and_sameness_does_not(tmp_path: Path):
    async with ports_on(tmp_path) as (ports, clock):
        made = await create(ports, ANN, make_spec())
        clock.ms += 5

        same = await change(ports, ANN, Target(id=made.workload), lambda spec: spec)
        changed = await change(ports, ANN, Target(id=made.workload), lambda _: scaled(3))

        assert (same.version, changed.version) == (1, 2)
        assert (changed.spec.replicas, changed.changed_ms) == (3, clock.ms)


async def test_a_cluster_that_failed_a_workload_is_tried_again_once_it_asks_for_something_else(tmp_path: Path):
    async with ports_on(tmp_path) as (ports, clock):
        made = await create(ports, ANN, make_spec())
        failed = {"avoid": {"east": clock.ms + 1}, "failures": {"east": "did not run 2 of 2 replicas: quota"}}
        async with ports.store.transaction() as tx:
            await tx.save_workloads([replace(await stored(ports, made.workload), **failed)])

        more = await change(ports, ANN, Target(id=made.workload), lambda spec: scaled(3))
        smaller = (Component(replicas=3, requests={"cpu": "1"}),)
        other = await change(ports, ANN, Target(id=made.workload), lambda spec: replace(spec, components=smaller))

        assert (more.avoid, more.failures) == (failed["avoid"], failed["failures"])
        assert (other.avoid, other.failures) == ({}, {})


async def test_an_edit_that_is_refused_changes_nothing(tmp_path: Path):
    def refuse(spec: WorkloadSpec) -> WorkloadSpec:
        raise Invalid("no")

    async with ports_on(tmp_path) as (ports, _):
        made = await create(ports, ANN, make_spec())

        with pytest.raises(Invalid):
            await change(ports, ANN, Target(id=made.workload), refuse)

        assert (await stored(ports, made.workload)).version == 1


async def test_concurrent_changes_at_one_version_have_one_winner(tmp_path: Path):
    async with ports_on(tmp_path) as (ports, _):
        made = await create(ports, ANN, make_spec())
        target = Target(id=made.workload, versions=frozenset({1}))

        async def scale(replicas: int) -> bool:
            try:
                await change(ports, ANN, target, lambda _: scaled(replicas))
            except PreconditionFailed:
                return False
            return True

        won = await asyncio.gather(*(scale(replicas) for replicas in range(3, 13)))

        assert sum(won) == 1
        assert (await stored(ports, made.workload)).spec.replicas == 3 + won.index(True)


async def test_concurrent_edits_without_a_version_are_all_kept(tmp_path: Path):
    async with ports_on(tmp_path) as (ports, _):
        made = await create(ports, ANN, make_spec(replicas=0))
        one_more = [
            change(ports, ANN, Target(id=made.workload), lambda spec: scaled(spec.replicas + 1)) for _ in range(20)
        ]

        await asyncio.gather(*one_more)

        workload = await stored(ports, made.workload)
        assert (workload.spec.replicas, workload.version) == (20, 21)


async def test_what_belongs_to_others_is_not_found(tmp_path: Path):
    async with ports_on(tmp_path) as (ports, _):
        target = Target(id=(await create(ports, ANN, make_spec())).workload)

        for act in (
            change(ports, EVE, target, lambda _: scaled(9)),
            delete(ports, EVE, target),
            renew(ports, EVE, target),
        ):
            with pytest.raises(NotFound):
                await act

        workload = await stored(ports, target.id)
        assert (workload.version, workload.phase) == (1, WorkloadPhase.PENDING)


async def test_deleting_twice_is_deleting_once_and_ends_all_changes(tmp_path: Path):
    async with ports_on(tmp_path) as (ports, _):
        target = Target(id=(await create(ports, ANN, make_spec())).workload)

        first, second = await delete(ports, ANN, target), await delete(ports, ANN, target)

        assert (first.phase, first.version) == (WorkloadPhase.DELETING, 2)
        assert first == second
        with pytest.raises(Conflict):
            await change(ports, ANN, target, lambda _: scaled(3))
        with pytest.raises(Conflict):
            await renew(ports, ANN, target)


async def test_a_renewal_moves_the_lease_and_nothing_else(tmp_path: Path):
    async with ports_on(tmp_path) as (ports, clock):
        target = Target(id=(await create(ports, ANN, make_spec())).workload)
        clock.ms += 60_000

        renewed = await renew(ports, ANN, target)

        assert renewed.lease_until_ms == clock.ms + LEASE_MS
        assert renewed.version == 1
