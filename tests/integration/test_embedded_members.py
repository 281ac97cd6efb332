"""The members of the embedded default outlive their process: what was acknowledged is there again, as it was."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.embedded.members import CALM, PROVIDER, REGION, Member, open_members
from adapters.embedded.members_load import GPU, Weather
from adapters.memory.cluster_documents import Journal
from adapters.memory.cluster_state import SimNode
from federation.domain.errors import Unavailable
from federation.domain.manifest import deployment_for
from federation.domain.member import PLACEMENT_LABEL, ObjectKey
from federation.domain.records import Orders
from federation.ports import PlacementListing

START_MS = 1_700_000_000_000


class SteppedClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)
        await asyncio.sleep(0)


@asynccontextmanager
async def opened(
    path: Path, clock: SteppedClock, weather: Weather = CALM, count: int = 1
) -> AsyncIterator[list[Member]]:
    """The members, stepped by hand; left without a goodbye, as a killed process leaves them."""
    members = await open_members(path, clock, count=count, weather=weather)
    try:
        yield members
    finally:
        for member in members:
            member.file.leave()


def make_deployment(replicas: int, name: str = "web") -> dict[str, object]:
    manifest = deployment_for(name, "nowhere/none:1", replicas, {"cpu": "500m", "memory": "1Gi"})
    manifest["metadata"] |= {"namespace": "shop", "labels": {PLACEMENT_LABEL: name}}
    manifest["spec"]["template"]["metadata"]["labels"][PLACEMENT_LABEL] = name
    return manifest


async def stand(member: Member, clock: SteppedClock, replicas: int) -> PlacementListing:
    await member.gateway.ensure_namespace("shop", "shop")
    await member.gateway.apply(make_deployment(replicas), "", "")
    await clock.sleep(5)
    return await member.gateway.list_placement("web")


def full_disk(*_: object) -> None:
    raise Unavailable("no space left")


def everything(member: Member) -> dict[tuple[str, str], bytes | None]:
    """The whole cluster as documents."""
    journal = Journal(member.cluster)
    journal.note_all()
    return {(kind, key): content for kind, key, content in journal.pending()}


async def test_a_restart_finds_objects_pods_nodes_orders_and_lease_as_they_were(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with opened(tmp_path / "members.db", clock, Weather()) as (member,):
        listing = await stand(member, clock, 3)
        await member.gateway.store_orders(Orders(generation=2, done=9))
        lease = await member.gateway.hold_lease("first", 15)
        before = everything(member)

    async with opened(tmp_path / "members.db", clock, Weather()) as (member,):
        assert everything(member) == before
        assert await member.gateway.list_placement("web") == listing
        assert await member.gateway.load_orders() == Orders(generation=2, done=9)
        assert await member.gateway.hold_lease("first", 15) == lease
        assert await member.gateway.hold_lease("second", 15) is None


async def test_what_was_under_way_goes_on_after_a_restart(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with opened(tmp_path / "members.db", clock) as (member,):
        await member.gateway.ensure_namespace("shop", "shop")
        await member.gateway.apply(make_deployment(4), "", "")
        await clock.sleep(0.2)
        member.step()
        assert not any(pod.ready for pod in member.cluster.pods.values())

    async with opened(tmp_path / "members.db", clock) as (member,):
        await clock.sleep(5)
        listing = await member.gateway.list_placement("web")

        assert [pod.ready for pod in listing.pods] == [True] * 4


async def test_a_deletion_under_way_ends_after_a_restart(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with opened(tmp_path / "members.db", clock) as (member,):
        listing = await stand(member, clock, 4)
        await member.gateway.delete(listing.objects[0].key, listing.objects[0].uid)

    async with opened(tmp_path / "members.db", clock) as (member,):
        await clock.sleep(5)

        assert await member.gateway.list_placement("web") == PlacementListing()


async def test_a_node_lost_before_a_restart_is_still_lost_and_its_pods_are_made_elsewhere(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with opened(tmp_path / "members.db", clock) as (member,):
        lost = (await stand(member, clock, 4)).pods[0].node
        member.cluster.fail_node(lost)
        member.keep()

    async with opened(tmp_path / "members.db", clock) as (member,):
        assert not member.cluster.nodes[lost].seen().ready
        await clock.sleep(60)
        listing = await member.gateway.list_placement("web")

        assert sum(pod.ready and pod.node != lost for pod in listing.pods) == 4
        assert all(pod.terminating for pod in listing.pods if pod.node == lost)


async def test_uids_are_never_given_twice_over_restarts(tmp_path: Path) -> None:
    clock, seen = SteppedClock(), set[str]()
    for _ in range(4):
        async with opened(tmp_path / "members.db", clock) as (member,):
            listing = await stand(member, clock, 2)
            uids = {listing.objects[0].uid, *(pod.uid for pod in listing.pods)}
            assert not uids & seen
            seen |= uids
            await member.gateway.delete(listing.objects[0].key, listing.objects[0].uid)
            await clock.sleep(5)
            assert await member.gateway.read(listing.objects[0].key) is None


async def test_a_write_that_cannot_be_kept_is_not_acknowledged_and_is_kept_later(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with opened(tmp_path / "members.db", clock) as (member,):
        broken = member.file.save
        member.file.save = full_disk  # type: ignore[method-assign, assignment]

        with pytest.raises(Unavailable):
            await member.gateway.store_orders(Orders(generation=1, done=1))

        member.file.save = broken  # type: ignore[method-assign]
        member.step()

    async with opened(tmp_path / "members.db", clock) as (member,):
        assert await member.gateway.load_orders() == Orders(generation=1, done=1)


async def test_a_second_process_is_turned_away(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with opened(tmp_path / "members.db", clock):
        with pytest.raises(Unavailable, match=r"members\.db"):
            await open_members(tmp_path / "members.db", clock, count=1)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "members.db"
    path.write_bytes(b"this is not a database" * 100)

    with pytest.raises(Unavailable, match=r"members\.db"):
        await open_members(path, SteppedClock(), count=1)

    assert path.read_bytes() == b"this is not a database" * 100


WRITER = textwrap.dedent(
    """
    import asyncio, itertools, sys
    from pathlib import Path
    from adapters.embedded.members import CALM, open_members
    from federation.domain.records import Orders
    from tests.integration.test_embedded_members import RealClock, make_deployment

    async def main():
        (member,) = await open_members(Path(sys.argv[1]), RealClock(), count=1, weather=CALM)
        await member.gateway.ensure_namespace("shop", "shop")
        for number in itertools.count(1):
            applied = await member.gateway.apply(make_deployment(1, f"web-{number}"), "", "")
            await member.gateway.store_orders(Orders(generation=1, done=number))
            print(number, applied.uid, flush=True)

    asyncio.run(main())
    """
)


class RealClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path, acknowledged = tmp_path / "members.db", dict[int, str]()
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert writer.stdout is not None
    async with asyncio.timeout(30):
        for _ in range(40):
            number, uid = (await writer.stdout.readline()).split()
            acknowledged[int(number)] = uid.decode()
        os.kill(writer.pid, signal.SIGKILL)
        await writer.wait()

    async with opened(path, SteppedClock(RealClock().now_ms())) as (member,):
        orders = await member.gateway.load_orders()
        found = {
            number: await member.gateway.read(ObjectKey("apps/v1/Deployment", "shop", f"web-{number}"))
            for number in acknowledged
        }

    assert orders.done >= max(acknowledged)
    assert {number: each.uid for number, each in found.items() if each} == acknowledged


async def test_the_six_members_stand_in_three_regions_and_differ(tmp_path: Path) -> None:
    async with opened(tmp_path / "members.db", SteppedClock(), Weather(), count=6) as members:
        regions = {member.cluster.labels[REGION] for member in members}
        sizes = {(len(member.cluster.nodes), node.amounts["cpu"]) for member in members for node in _first(member)}

        assert [member.name for member in members] == [
            "eu-west",
            "eu-north",
            "us-east",
            "us-west",
            "ap-south",
            "ap-east",
        ]
        assert regions == {"eu-1", "us-1", "ap-1"}
        assert len(sizes) == 6
        assert all(member.cluster.labels[PROVIDER] for member in members)
        assert [member.name for member in members if _gpu_nodes(member)] == ["eu-north", "us-west"]


def _first(member: Member) -> list[SimNode]:
    return list(member.cluster.nodes.values())[:1]


def _gpu_nodes(member: Member) -> int:
    return sum(1 for node in member.cluster.nodes.values() if GPU in node.amounts)


async def test_opening_takes_less_than_a_second_new_or_kept(tmp_path: Path) -> None:
    for _ in range(2):
        start = time.perf_counter()
        async with opened(tmp_path / "members.db", SteppedClock(), Weather(), count=6) as members:
            took = time.perf_counter() - start
            assert sum(len(member.cluster.pods) for member in members) > 300
        assert took < 1


async def test_others_come_and_go_and_never_take_more_than_there_is(tmp_path: Path) -> None:
    clock, shares = SteppedClock(), []
    weather = Weather(failure=0.01, oversized=0.05)
    async with opened(tmp_path / "members.db", clock, weather) as (member,):
        lost, unschedulable = set(), 0
        for _ in range(1000):
            await clock.sleep(2)
            member.step()
            used = sum(each.get("cpu", 0) for each in member.cluster.usage.values())
            shares.append(used / sum(node.amounts["cpu"] for node in member.cluster.nodes.values()))
            lost |= {node.name for node in member.cluster.nodes.values() if node.lost_ms}
            unschedulable += any(pod.unschedulable for pod in member.cluster.pods.values())
            for node in member.cluster.nodes.values():
                taken = member.cluster.usage.get(node.name, {})
                assert all(0 <= taken[name] <= node.amounts[name] for name in taken)

    assert 0.1 < min(shares) < max(shares) < 0.9
    assert max(shares) - min(shares) > 0.1
    assert lost
    assert 0 < unschedulable < 1000


async def test_equal_seeds_give_equal_members(tmp_path: Path) -> None:
    documents = []
    for name in ("one.db", "other.db"):
        clock = SteppedClock()
        async with opened(tmp_path / name, clock, Weather(failure=0.05)) as (member,):
            for _ in range(50):
                await clock.sleep(2)
                member.step()
            documents.append(everything(member))

    assert documents[0] == documents[1]


async def test_idle_members_take_little_of_a_core(tmp_path: Path) -> None:
    stop = asyncio.Event()
    members = await open_members(tmp_path / "members.db", RealClock(), weather=Weather(load=1.6, swing=0))
    runs = [asyncio.create_task(member.run(stop)) for member in members]
    await asyncio.sleep(2)

    before = time.process_time()
    await asyncio.sleep(3)
    spent = time.process_time() - before

    stop.set()
    await asyncio.gather(*runs)
    pods = sum(len(member.cluster.pods) for member in members)
    for member in members:
        await member.close()
    assert pods > 1000
    assert spent / 3 < 0.1, f"{spent / 3:.0%} of a core for {pods} pods"
